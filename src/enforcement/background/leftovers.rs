//! Closes the runs that ended without closing themselves: what they acknowledged is flushed, what
//! they did not spend becomes free again.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::housekeeping::KEY_RETENTION;
use crate::{
    clock::Clock,
    domain::{cell_key::CellKey, ids::RunId},
    enforcement::{
        directory::Directory,
        flusher::{FlushError, RunFlusher},
        leasing::Leasing,
    },
    journal::{Journal, error::JournalError, leftover::LeftoverRun, position::Position},
    leases::message::{CloseAnswer, CloseCall, CloseStep},
    ledger::{
        Ledger, LedgerError,
        floors::FlushedTotals,
        runs::{ClosedHow, NewRun, RunStanding},
    },
};

const RETRY: Duration = Duration::from_secs(1);

/// What closing a run needs.
pub struct Closer {
    pub journal: Journal,
    pub ledger: Ledger,
    pub leasing: Arc<Leasing>,
    pub directory: Arc<Directory>,
    pub clock: Clock,
    /// What this run registered itself with; an unregistered leftover is registered likewise.
    pub identity: NewRun,
}

/// Why a run could not be closed yet.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Flush(#[from] FlushError),
    #[error("the shared counters cannot be reached")]
    NoCounters,
    /// It was closed by an operator while its journal still held usage.
    #[error(
        "run {run} was closed at {flushed} by an operator, but its journal goes on to {end}; its \
         directory is kept: record that usage again with its idempotency keys, then delete it"
    )]
    ClosedEarly { run: RunId, flushed: Position, end: Position },
}

impl Closer {
    /// Closes all leftover runs, as often as it takes, until `stop`. Answers how many are left that
    /// cannot be closed without an operator.
    pub async fn close_all(&self, stop: &CancellationToken) -> usize {
        loop {
            let mut waiting = 0;
            let mut stuck = 0;
            for run in self.leftovers() {
                match self.close_leftover(run).await {
                    Ok(()) => tracing::info!(%run, "closed a run that was left behind"),
                    Err(
                        error @ (CloseError::ClosedEarly { .. }
                        | CloseError::Journal(_)
                        | CloseError::Flush(FlushError::Journal(_))),
                    ) => {
                        stuck += 1;
                        tracing::error!(%run, %error, "cannot close a run that was left behind");
                    }
                    Err(error) => {
                        waiting += 1;
                        tracing::warn!(%run, %error, "cannot close a leftover run yet");
                    }
                }
            }
            #[allow(clippy::cast_precision_loss)] // A gauge is a double.
            metrics::gauge!("tollgate_leftover_runs").set((waiting + stuck) as f64);
            if waiting == 0 {
                return stuck;
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = stop.cancelled() => return waiting + stuck,
            }
        }
    }

    fn leftovers(&self) -> Vec<RunId> {
        self.journal.leftover_runs().unwrap_or_else(|error| {
            tracing::error!(%error, "cannot look for runs that were left behind");
            vec![]
        })
    }

    async fn close_leftover(&self, run: RunId) -> Result<(), CloseError> {
        let journal = self.journal.clone();
        let left = tokio::task::spawn_blocking(move || journal.recover(run))
            .await
            .map_err(|_| CloseError::NoCounters)??;
        let from = match self.ledger.run_standing(run).await? {
            RunStanding::Open { flushed_position } => Some(flushed_position.into()),
            RunStanding::Unknown => {
                self.ledger.register_run(&NewRun { run, ..self.identity.clone() }).await?;
                Some(Position::START)
            }
            RunStanding::Closed { flushed_position, .. } => {
                let flushed = Position::from(flushed_position);
                if flushed < left.end() {
                    return Err(CloseError::ClosedEarly { run, flushed, end: left.end() });
                }
                None
            }
        };
        if let Some(from) = from {
            self.flush(&left, from).await?;
        }
        let forfeits = match from {
            Some(_) if left.may_have_lost_acknowledged() => self.forfeits(run).await?,
            _ => vec![],
        };
        self.close(run, ClosedHow::Recovered, &forfeits).await?;
        left.delete()?;
        Ok(())
    }

    async fn flush(&self, left: &LeftoverRun, from: Position) -> Result<(), CloseError> {
        let reader = left.reader(from);
        let mut flusher = RunFlusher::new(self.ledger.clone(), left.run(), reader, from);
        let nothing_more = (left.end(), Timestamp::UNIX_EPOCH);
        while !flusher.step(nothing_more).await?.was_idle {
            left.release(flusher.mark())?;
        }
        Ok(())
    }

    /// What a run may have spent without a trace: all that it held and did not consume.
    async fn forfeits(&self, run: RunId) -> Result<Vec<(CellKey, u64)>, CloseError> {
        let mut forfeits = vec![];
        for (key, totals) in self.ledger.run_totals(run).await? {
            let answer = self.tell(&key, run, CloseStep::Fence).await?;
            if let CloseAnswer::Fenced { taken: Some(taken) } = answer {
                let unspent = taken.saturating_sub(totals.consumed + totals.recorded);
                if unspent > 0 {
                    forfeits.push((key, unspent));
                }
            }
        }
        Ok(forfeits)
    }

    /// Closes a run whose journal is flushed: in the ledger, then in every counter it touched.
    pub async fn close(
        &self,
        run: RunId,
        how: ClosedHow,
        forfeits: &[(CellKey, u64)],
    ) -> Result<(), CloseError> {
        let closing = self.ledger.close_run(run, how, forfeits).await?;
        for (key, totals) in self.ledger.run_totals(run).await? {
            let FlushedTotals { consumed, recorded, undone, .. } = totals;
            let forfeit = forfeits.iter().find(|(of, _)| *of == key).map_or(0, |(_, units)| *units);
            let fold = CloseStep::Fold {
                closed_seq: closing.seq,
                used: consumed + recorded,
                undone,
                forfeit,
            };
            self.tell(&key, run, fold).await?;
        }
        self.ledger.note_folded(run).await?;
        Ok(())
    }

    async fn tell(
        &self,
        key: &CellKey,
        run: RunId,
        step: CloseStep,
    ) -> Result<CloseAnswer, CloseError> {
        let epoch = self.leasing.epoch.borrow().ok_or(CloseError::NoCounters)?.number;
        let retention = self.is_over(key).await.then_some(KEY_RETENTION);
        let call = CloseCall { epoch, run, step, retention };
        match self.leasing.counters.close(key, &call).await {
            Ok(CloseAnswer::StaleEpoch { .. } | CloseAnswer::EpochLost) | Err(_) => {
                self.leasing.epoch_doubt.notify_one();
                Err(CloseError::NoCounters)
            }
            Ok(answer) => Ok(answer),
        }
    }

    async fn is_over(&self, key: &CellKey) -> bool {
        let Ok(state) = self.directory.find(&key.tenant, "tenant").await else { return false };
        let terms = state.terms();
        let window = terms.tenant.subscription.schedule.window_of_label(key.label);
        let now = terms.tenant.now(self.clock.now());
        window.is_some_and(|window| window.end.is_some_and(|end| end <= now))
    }
}
