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

/// Most problems that are kept of one request; the rest is only counted.
pub const PROBLEMS_LISTED_MAX: usize = 100;

/// All that is wrong with one request, so that a caller mends it in one go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    listed: Vec<Invalid>,
    total: usize,
}

impl Problems {
    /// Adds a problem: listed as long as there are fewer than [`PROBLEMS_LISTED_MAX`].
    pub fn push(&mut self, problem: Invalid) {
        self.total += 1;
        if self.listed.len() < PROBLEMS_LISTED_MAX {
            self.listed.push(problem);
        }
    }

    /// Takes the value out of a check, or keeps its problem.
    pub fn keep<T>(&mut self, checked: Result<T, Invalid>) -> Option<T> {
        checked.map_err(|problem| self.push(problem)).ok()
    }

    /// `Ok` when nothing was wrong.
    pub fn into_result(self) -> Result<(), Self> {
        if self.total == 0 { Ok(()) } else { Err(self) }
    }

    /// The first problems, at most [`PROBLEMS_LISTED_MAX`].
    pub fn listed(&self) -> &[Invalid] {
        &self.listed
    }

    /// How many there were, listed or not.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Whether nothing was wrong.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }
}

impl From<Invalid> for Problems {
    fn from(problem: Invalid) -> Self {
        Self { listed: vec![problem], total: 1 }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.listed.as_slice() {
            [] => f.write_str("nothing is wrong"),
            [first, ..] if self.total == 1 => write!(f, "{first}"),
            [first, ..] => write!(f, "{} problems, the first: {first}", self.total),
        }
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_past_the_bound_are_counted_and_not_kept() {
        let mut problems = Problems::default();
        for number in 0..PROBLEMS_LISTED_MAX + 5 {
            problems.push(Invalid::new(format!("events[{number}]"), "is bad", "mend it"));
        }
        assert_eq!(problems.listed().len(), PROBLEMS_LISTED_MAX);
        assert_eq!(problems.total(), PROBLEMS_LISTED_MAX + 5);
        let told = problems.to_string();
        assert!(told.starts_with("105 problems, the first: events[0]: is bad"), "{told}");
    }
}
