//! Which counters these are: a server and a life.

use std::fmt;

/// Tells one filling of Redis from every other. The ledger numbers them as epochs.
///
/// `run_id` changes when the server starts anew, also when it comes back with data that are older
/// than what it had promised; `life` is gone when it was emptied while it ran.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub run_id: String,
    pub life: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.run_id, self.life)
    }
}
