//! The epoch of counters that are in this process alone: a sidecar with a ledger and without a Redis.
//!
//! Each start begins an epoch of its own. Like any other it is recovered, and escrow granted, only
//! when every other run has been closed and folded. It is not used before: the counters then are
//! founded on floors that have all of this in them. So what a killed run had acknowledged counts
//! before anything is granted; and a second sidecar on the same ledger, whose counters know nothing
//! of the first one's, is granted nothing as long as the first is open.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::ids::RunId,
    enforcement::{directory::Directory, leasing::Leasing},
    leases::message::Epoch,
    ledger::{
        Ledger, LedgerError,
        epochs::{Epoch as LedgerEpoch, OWN_COUNTERS},
        runs::RunStanding,
    },
};

/// Pause between looks at what others have done, and after a failure.
const PAUSE: Duration = Duration::from_millis(200);

/// Looks after the epoch of one run.
pub struct OwnEpochKeeper {
    pub ledger: Ledger,
    pub leasing: Arc<Leasing>,
    pub directory: Arc<Directory>,
    /// Where the drivers read it.
    pub epoch: watch::Sender<Option<Epoch>>,
}

impl OwnEpochKeeper {
    /// Keeps until `stop`.
    pub async fn keep(self, run: RunId, stop: CancellationToken) {
        let work = async {
            loop {
                match self.enter(run).await {
                    Ok(()) => return,
                    Err(error) => tracing::warn!(%error, "no epoch of this sidecar's counters yet"),
                }
                sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => return,
        }
        // Nothing but this process' end can take its counters away, so its epoch stands.
        stop.cancelled().await;
    }

    async fn enter(&self, run: RunId) -> Result<(), LedgerError> {
        let mut warned = None;
        loop {
            let Some(number) = self.begin(run, warned.is_some()).await? else {
                sleep(PAUSE).await;
                continue;
            };
            if self.ledger.report_epoch(number, run).await? {
                self.announce(Epoch { number, recovered: true });
                return Ok(());
            }
            if warned != Some(number) {
                let awaited = self.ledger.unreported_runs(number).await?;
                tracing::warn!(
                    epoch = number,
                    ?awaited,
                    "no escrow before these runs are closed; sidecars that are to share a ledger \
                     need a Redis (redis.url)"
                );
                warned = Some(number);
            }
            sleep(PAUSE).await;
        }
    }

    /// The number of this run's epoch, begun now if it is not the one in force. `None`: this run
    /// began one before, and an open run's has taken its place; they would take turns for ever.
    async fn begin(&self, run: RunId, has_begun: bool) -> Result<Option<u64>, LedgerError> {
        let name = format!("{OWN_COUNTERS}{run}");
        let latest = self.ledger.latest_epoch().await?;
        let number = latest.as_ref().map_or(0, |latest| latest.number);
        match latest {
            Some(latest) if latest.counters == name => return Ok(Some(number)),
            Some(latest) if has_begun && self.is_contended(&latest).await? => return Ok(None),
            _ => {}
        }
        self.ledger.begin_epoch(&name, number).await
    }

    async fn is_contended(&self, epoch: &LedgerEpoch) -> Result<bool, LedgerError> {
        let Some(owner) = epoch.counters.strip_prefix(OWN_COUNTERS) else { return Ok(false) };
        let Ok(owner) = owner.parse().map(RunId) else { return Ok(false) };
        let standing = self.ledger.run_standing(owner).await?;
        Ok(matches!(standing, RunStanding::Open { .. }))
    }

    fn announce(&self, epoch: Epoch) {
        self.epoch.send_replace(Some(epoch));
        for counter in self.directory.all_counters() {
            self.leasing.wake(&counter);
        }
    }
}
