//! Which counters these are: a server, a stretch of its history, and a life.

use std::fmt;

/// Tells one filling of Redis from every other. The ledger numbers them as epochs.
///
/// `run_id` changes when the server starts anew, also when it comes back with data that are older
/// than what it had promised. `replication_id` (`master_replid` of INFO) changes when the server
/// becomes a primary: one that was a replica meanwhile has another's data, under the same `run_id`
/// and the same `life`. It also changes when the first replica is attached and an hour after the
/// last one is gone, which costs a needless epoch. `life` is gone when the server was emptied while
/// it ran.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub run_id: String,
    /// Empty where the server does not tell.
    pub replication_id: String,
    pub life: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.run_id, self.replication_id, self.life)
    }
}
