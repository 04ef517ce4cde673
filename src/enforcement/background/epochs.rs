//! Keeps this run in the right epoch of the shared counters: notices that they have lost data,
//! sees to it that there is a new epoch, and re-sends what this run knows.

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::{
    sync::{RwLock, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::ids::RunId,
    enforcement::{
        counter::Counter, directory::Directory, fence::Fenced, leasing::Leasing, values::Values,
    },
    leases::message::Epoch,
    ledger::{Ledger, LedgerError, runs::RunStanding},
    store::{RedisCounters, identity::Identity},
};

/// Pause after a failure, and between looks at what others have done.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest wait at a time for values that are being admitted.
const REMEMBERED_WAIT: Duration = Duration::from_secs(1);
/// How often it is said what keeps this run from reporting to an epoch.
const UNTOLD_WARN_EVERY: Duration = Duration::from_secs(5);

/// Why there is no epoch now.
#[derive(Debug, thiserror::Error)]
enum NoEpoch {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The counters went away, were replaced or emptied meanwhile.
    #[error("the shared counters have changed")]
    Changed,
    /// Somebody closed the run.
    #[error("the run was closed")]
    Closed,
}

/// Looks after the epoch of one run.
pub struct EpochKeeper {
    pub ledger: Ledger,
    pub counters: RedisCounters,
    pub leasing: Arc<Leasing>,
    pub directory: Arc<Directory>,
    pub values: Arc<Values>,
    /// Where the drivers read it.
    pub epoch: watch::Sender<Option<Epoch>>,
}

impl EpochKeeper {
    /// Keeps until `stop`.
    pub async fn keep(self, run: RunId, stop: CancellationToken) {
        let work = async {
            loop {
                if let Err(error) = self.enter(run).await {
                    tracing::warn!(%error, "no epoch of the shared counters yet");
                }
                self.epoch.send_replace(None);
                sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    }

    /// Enters the epoch in force and stays in it until it is over.
    async fn enter(&self, run: RunId) -> Result<(), NoEpoch> {
        // What was doubted before now is looked at anew here.
        let _ = self.leasing.epoch_doubt.notified().now_or_never();
        let mut found = self.counters.identity();
        let identity = found.wait_for(Option::is_some).await.map_err(|_| NoEpoch::Changed)?.clone();
        let Some(identity) = identity else { return Err(NoEpoch::Changed) };
        let (number, is_recovered) = self.epoch_of(&identity).await?;
        self.check_open(run).await?;
        tracing::info!(epoch = number, %identity, "in an epoch of the shared counters");
        self.counters.bind(number, identity.clone());
        if !(is_recovered && self.has_nothing_to_tell(number)) {
            self.announce(Epoch { number, recovered: false });
            self.resend_all(number, &found, &identity).await?;
        }
        let mut recovered = self.ledger.report_epoch(number, run).await?;
        if !recovered {
            let awaited = self.ledger.unreported_runs(number).await?;
            tracing::warn!(epoch = number, ?awaited, "no escrow before these runs have reported");
        }
        while !recovered {
            sleep(PAUSE).await;
            check_identity(&found, &identity)?;
            recovered = match self.ledger.latest_epoch().await? {
                Some(latest) if latest.number == number => latest.is_recovered,
                _ => return Err(NoEpoch::Changed),
            };
        }
        self.announce(Epoch { number, recovered: true });
        let changed = found.wait_for(|now| now.as_ref() != Some(&identity));
        tokio::select! {
            _ = changed => Ok(()),
            () = self.leasing.epoch_doubt.notified() => Ok(()),
        }
    }

    /// Refuses to tell an epoch of a run that was closed: if it was folded in an earlier one, no counter
    /// of this one knows it, and each would count it beside its base. One that is closed from now on
    /// is folded here.
    async fn check_open(&self, run: RunId) -> Result<(), NoEpoch> {
        match self.ledger.run_standing(run).await? {
            RunStanding::Closed { .. } => {
                self.leasing.fence.lower(Fenced::Closed);
                Err(NoEpoch::Closed)
            }
            RunStanding::Open { .. } | RunStanding::Unknown => Ok(()),
        }
    }

    /// The epoch that stands for these counters, begun now if none does, and whether it is
    /// recovered.
    async fn epoch_of(&self, identity: &Identity) -> Result<(u64, bool), NoEpoch> {
        let latest = self.ledger.latest_epoch().await?;
        let number = latest.as_ref().map_or(0, |latest| latest.number);
        let name = identity.to_string();
        if let Some(latest) = latest.filter(|latest| latest.counters == name) {
            return Ok((number, latest.is_recovered));
        }
        let begun = self.ledger.begin_epoch(&name, number).await?.ok_or(NoEpoch::Changed)?;
        match number {
            0 => tracing::info!(epoch = begun, %identity, "the shared counters are new"),
            _ => {
                tracing::warn!(epoch = begun, %identity, "the shared counters are new or have lost data");
            }
        }
        metrics::counter!("tollgate_epochs_begun_total").increment(1);
        Ok((begun, false))
    }

    fn announce(&self, epoch: Epoch) {
        self.epoch.send_replace(Some(epoch));
        for counter in self.directory.all_counters() {
            self.leasing.wake(&counter);
        }
    }

    /// Whether the epoch knows all that this run does, as it does after a lost connection.
    fn has_nothing_to_tell(&self, number: u64) -> bool {
        self.directory.all_counters().iter().all(|counter| has_reported(counter, number))
    }

    /// Waits until every counter of this run has told the new epoch what it knows.
    async fn resend_all(
        &self,
        number: u64,
        found: &watch::Receiver<Option<Identity>>,
        identity: &Identity,
    ) -> Result<(), NoEpoch> {
        let mut warn_at = Instant::now() + UNTOLD_WARN_EVERY;
        loop {
            let untold: Vec<_> = self
                .directory
                .all_counters()
                .into_iter()
                .filter(|counter| !has_reported(counter, number))
                .collect();
            if untold.is_empty() {
                return self.resend_distinct(number, found, identity).await;
            }
            check_identity(found, identity)?;
            if Instant::now() >= warn_at {
                let (keys, first) = (untold.len(), &untold[0].key);
                tracing::warn!(epoch = number, keys, %first, "counters that the epoch lacks yet");
                warn_at += UNTOLD_WARN_EVERY;
            }
            untold.iter().for_each(|counter| self.leasing.wake(counter));
            sleep(PAUSE / 5).await;
        }
    }

    /// Tells the distinct values that this run has counted; values that are admitted meanwhile are
    /// told as they are.
    async fn resend_distinct(
        &self,
        number: u64,
        found: &watch::Receiver<Option<Identity>>,
        identity: &Identity,
    ) -> Result<(), NoEpoch> {
        while !are_all_remembered(&self.leasing.untold_values).await {
            tracing::warn!(epoch = number, "distinct values that the epoch lacks yet");
            check_identity(found, identity)?;
            sleep(PAUSE).await;
        }
        for (key, known) in self.values.all_distinct() {
            if !self.leasing.tell_distinct(&key, known).await {
                return Err(NoEpoch::Changed);
            }
        }
        Ok(())
    }
}

/// Waits until the values are remembered that were asked for before now, those too that an earlier
/// epoch has admitted. `false`: not yet.
///
/// Not for long at a time: who waits to write keeps out all who want to read, and one who reads
/// already may have to read once more, for the second distinct count of an operation.
async fn are_all_remembered(untold_values: &RwLock<()>) -> bool {
    tokio::time::timeout(REMEMBERED_WAIT, untold_values.write()).await.is_ok()
}

fn check_identity(
    found: &watch::Receiver<Option<Identity>>,
    identity: &Identity,
) -> Result<(), NoEpoch> {
    if found.borrow().as_ref() == Some(identity) { Ok(()) } else { Err(NoEpoch::Changed) }
}

/// Whether the epoch knows all that `counter` has to tell it.
fn has_reported(counter: &Counter, epoch: u64) -> bool {
    counter.look_at_slow(|slow| slow.holder.has_reported(&counter.cell, epoch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_that_counts_two_distinct_values_and_an_epoch_that_begins_do_not_block_each_other()
     {
        let untold_values = Arc::new(RwLock::new(()));
        let first = untold_values.clone().read_owned().await;
        let keeper = tokio::spawn({
            let untold_values = untold_values.clone();
            async move {
                while !are_all_remembered(&untold_values).await {
                    sleep(PAUSE).await;
                }
            }
        });
        // Until it waits to write.
        while untold_values.try_read().is_ok() {
            tokio::task::yield_now().await;
        }
        let second = untold_values.clone().read_owned();
        let second = tokio::time::timeout(60 * REMEMBERED_WAIT, second).await;
        assert!(second.is_ok());
        assert!(!keeper.is_finished(), "a value is not remembered yet");
        drop((first, second));
        keeper.await.unwrap();
    }
}
