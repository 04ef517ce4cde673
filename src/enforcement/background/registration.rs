//! Makes the run known to the ledger: before that it must not hold escrow, because whoever rebuilds
//! lost counters would not wait for it.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::ledger::{Ledger, LedgerError, runs::NewRun};

const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Registers the run, for as long as that takes. `false`: told to stop before it was done.
pub async fn register(ledger: &Ledger, run: &NewRun, stop: &CancellationToken) -> bool {
    let mut retry = RETRY_MIN;
    loop {
        let error: LedgerError = match ledger.register_run(run).await {
            Ok(()) => return true,
            Err(error) => error,
        };
        tracing::warn!(%error, "cannot register this run yet; no escrow until then");
        tokio::select! {
            () = sleep(retry) => {}
            () = stop.cancelled() => return false,
        }
        retry = (retry * 2).min(RETRY_MAX);
    }
}
