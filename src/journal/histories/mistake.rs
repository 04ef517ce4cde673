//! Mistakes of a journal.

use crate::journal::{
    faulty::Lies,
    planted::{Breaking, Planted},
};

/// A mistake in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// An acknowledgement does not wait for the sync.
    AcknowledgedBeforeSync,
    /// A sync that failed is taken for one that did not.
    SyncErrorIgnored,
    /// Directories are not synced.
    NamesNotSynced,
    /// A segment is deleted before all that needs it has gone past it.
    ReleasedBeforeMark,
    /// One of the journal's own rules.
    Rule(Planted),
}

impl Mistake {
    /// What the disk does instead of the journal, which would not ask it.
    pub fn lies(self) -> Lies {
        Lies {
            about_bytes: self == Self::AcknowledgedBeforeSync,
            about_errors: self == Self::SyncErrorIgnored,
            about_names: self == Self::NamesNotSynced,
        }
    }

    /// Breaks the journal's rule, if it is one.
    pub fn plant(self) -> Option<Breaking> {
        match self {
            Self::Rule(planted) => Some(Breaking::rule(planted)),
            _ => None,
        }
    }
}
