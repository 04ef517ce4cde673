//! How long a request waits for another that has its key in hand.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::enforcement::error::EngineError;

/// Longest wait for another request to decide a key. Refills, recalls and syncs end long before; a
/// first request that hangs on something else must not make its repeats hang with it.
pub const FIRST_ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// Another request has had the key in hand for too long: [`FIRST_ANSWER_WAIT_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub struct StillInHand;

impl From<StillInHand> for EngineError {
    fn from(StillInHand: StillInHand) -> Self {
        let waited = FIRST_ANSWER_WAIT_MAX.as_secs();
        Self::Unavailable(format!(
            "an earlier request with the same idempotency key has not been decided for {waited} s; \
             send it again with that key"
        ))
    }
}

/// How long one request waits, for all of its keys together.
#[derive(Debug)]
pub struct Patience {
    pub(super) wait_max: Duration,
    /// Set when it first has to wait.
    pub(super) until: Option<Instant>,
}

impl Default for Patience {
    fn default() -> Self {
        Self { wait_max: FIRST_ANSWER_WAIT_MAX, until: None }
    }
}

impl Patience {
    /// Waits, unless it has waited long enough.
    pub(super) async fn wait(
        &mut self,
        settled: impl Future<Output = ()>,
    ) -> Result<(), StillInHand> {
        let until = *self.until.get_or_insert_with(|| Instant::now() + self.wait_max);
        timeout_at(until, settled).await.map_err(|_| StillInHand)
    }
}
