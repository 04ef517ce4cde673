//! What a caller did wrong, told so that the caller can mend it.

use std::fmt;

/// One field of a request, a file or a setting that cannot be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Path of the field, in the words of the face that received it (`events[3].amount`).
    pub field: String,
    /// What is wrong with the value.
    pub problem: String,
    /// What the caller can do about it.
    pub remedy: String,
}

impl Invalid {
    /// Describes one field's problem and its remedy.
    pub fn new(
        field: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { field: field.into(), problem: problem.into(), remedy: remedy.into() }
    }

    /// The same problem, seen from a message that holds this one under `prefix`.
    #[must_use]
    pub fn within(mut self, prefix: &str) -> Self {
        self.field = format!("{prefix}.{}", self.field);
        self
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.field, self.problem, self.remedy)
    }
}

impl std::error::Error for Invalid {}
