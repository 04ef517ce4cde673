//! Why the counters did not answer.

use redis::ErrorKind;
use thiserror::Error;

use crate::domain::distinct::EXACT_VALUES_MAX;

/// A call that has no answer. Unless the variant says otherwise it may have happened all the same;
/// the protocol makes that harmless.
#[derive(Debug, Error)]
pub enum StoreError {
    /// No connection; nothing was sent.
    #[error("Redis is out of reach")]
    Unreachable,
    /// No connection serves the call's epoch: the server has changed, or the epoch was not bound.
    /// Nothing was sent.
    #[error("no connection serves epoch {epoch}")]
    NotServed { epoch: u64 },
    /// Too many calls wait for answers; nothing was sent.
    #[error("too many calls are waiting for Redis")]
    Overloaded,
    /// No answer in time.
    #[error("Redis did not answer within {0} ms")]
    Timeout(u64),
    /// The connection broke, or the server reported an error.
    #[error("Redis: {0}")]
    Redis(#[from] redis::RedisError),
    /// The server may throw counters away.
    #[error("Redis' maxmemory-policy is {policy:?}: set it to noeviction")]
    Evicts { policy: String },
    /// The server's data are not its own: it is a replica of another.
    #[error("the Redis server is a {role}: give the address of the primary")]
    NotPrimary { role: String },
    /// A limit on a distinct count that cannot be held exactly; nothing was sent.
    #[error("a hard limit of {limit} distinct values: give at most {EXACT_VALUES_MAX}")]
    DistinctLimit { limit: u64 },
    /// This process holds as many counters as it may.
    #[error("{keys_max} counters are held in this process already: share them in a Redis")]
    Full { keys_max: usize },
    /// A script answered something else than it should.
    #[error("unreadable answer of {script}: {answer}")]
    Unreadable { script: &'static str, answer: String },
}

impl StoreError {
    /// Whether Redis has answered, and what it holds under the key is not what belongs there: asking
    /// again gives the same.
    pub fn is_about_content(&self) -> bool {
        match self {
            Self::Unreadable { .. } => true,
            Self::Redis(error) => {
                error.code() == Some("WRONGTYPE")
                    || matches!(error.kind(), ErrorKind::Parse | ErrorKind::UnexpectedReturnType)
                    || error.detail().is_some_and(is_told_by_lua)
            }
            _ => false,
        }
    }
}

/// Whether a script of ours stumbled: over a key of another type, or over a field that is no number.
/// What the server itself refuses (no memory, a replica) has other words.
fn is_told_by_lua(detail: &str) -> bool {
    const STUMBLES: [&str; 3] = ["WRONGTYPE", "attempt to ", "bad argument "];
    detail.contains("user_script:") && STUMBLES.iter().any(|stumble| detail.contains(stumble))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_script_stumbles_over_is_about_content() {
        let told = [
            "user_script:90: attempt to perform arithmetic on local 'taken' (a nil value) script: 1, on @user_script:90.",
            "user_script:12: bad argument #2 to 'format' (number expected, got nil) script: 1, on @user_script:12.",
            "Error running script (call to f_1): @user_script:73: WRONGTYPE Operation against a key holding the wrong kind of value",
        ];
        assert!(told.into_iter().all(is_told_by_lua));
        let not = [
            "Error running script (call to f_1): @user_script:73: -OOM command not allowed",
            "Can't save in background: fork: Cannot allocate memory",
        ];
        assert!(!not.into_iter().any(is_told_by_lua));
    }
}
