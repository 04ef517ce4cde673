//! Finishes closings that were cut off: the ledger has closed the run, and some shared counter was not
//! told.
//!
//! Until it is, that counter keeps what the run held, and no new epoch of the counters can recover.
//! Every sidecar looks, since whoever began the closing may never come back. Telling a counter twice
//! changes nothing, so nobody needs to know what others do.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::SignedDuration;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::leftovers::{CloseError, Closer};
use crate::{
    domain::ids::RunId,
    enforcement::closing::CloseRunError,
    ledger::{Ledger, LedgerError, runs::ClosedHow},
};

/// How often closings that were cut off are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// So old a closing is when it is taken for cut off, by Postgres' clock: most take less than a second.
const CUT_OFF_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// Closings that one look finishes at most.
const CLOSINGS_MAX: u32 = 16;
/// So long a closing is left alone that could not be finished for a reason of its own: to try means to
/// tell all its counters once more.
const LEFT_ALONE_FOR: Duration = Duration::from_secs(300);
/// The same, of one whose counters did not all answer: others go first.
const SILENT_FOR: Duration = Duration::from_secs(30);
/// If so many in a row fail, it is not for reasons of their own.
const FAILURES_MAX: u32 = 3;

/// Finishes closings that were cut off.
pub struct CutOffClosings {
    closer: Arc<Closer>,
    ledger: Ledger,
    /// Which run is left alone until when, and in which epoch. At most as many as the looks of
    /// [`LEFT_ALONE_FOR`] find.
    left_alone: HashMap<RunId, (Option<u64>, Instant)>,
}

impl CutOffClosings {
    /// Nothing was looked at yet.
    pub fn new(closer: Arc<Closer>) -> Self {
        Self { ledger: closer.ledger.clone(), closer, left_alone: HashMap::new() }
    }

    /// Looks until `stop`.
    pub async fn keep(mut self, stop: CancellationToken) {
        let mut look = interval_at(Instant::now() + self.first_look_in(), LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => {}
                () = stop.cancelled() => return,
            }
            tokio::select! {
                looked = self.look(Instant::now()) => {
                    if let Err(error) = looked {
                        tracing::warn!(%error, "cannot finish closings that were cut off now");
                    }
                }
                () = stop.cancelled() => return,
            }
        }
    }

    /// Sidecars that start together look at different times.
    fn first_look_in(&self) -> Duration {
        let draw = self.closer.identity.run.0.as_u128() % LOOK_EVERY.as_millis();
        // Less than the pause, so it fits.
        Duration::from_millis(draw as u64)
    }

    async fn look(&mut self, now: Instant) -> Result<(), CloseError> {
        let epoch = self.closer.leasing.epoch.borrow().map(|epoch| epoch.number);
        self.left_alone.retain(|_, (of, until)| *of == epoch && *until > now);
        let left_alone: Vec<_> = self.left_alone.keys().copied().collect();
        let found = self.ledger.unfolded(CUT_OFF_AFTER, &left_alone, CLOSINGS_MAX).await?;
        let mut unfinished = found.closings;
        let finished = self.finish(found.runs, (epoch, now), &mut unfinished).await;
        #[allow(clippy::cast_precision_loss)] // A gauge is a double.
        metrics::gauge!("tollgate_unfinished_closings").set(unfinished as f64);
        finished
    }

    /// Fails where the next run would fail for the same reason.
    async fn finish(
        &mut self,
        runs: Vec<RunId>,
        (epoch, now): (Option<u64>, Instant),
        unfinished: &mut u64,
    ) -> Result<(), CloseError> {
        let mut failures = 0;
        for run in runs {
            // How it was closed stands: it is closed already.
            match self.closer.close(run, ClosedHow::Recovered, None).await {
                Ok(closed) if closed.damaged.is_empty() => {
                    *unfinished = unfinished.saturating_sub(1);
                    metrics::counter!("tollgate_closings_finished_total").increment(1);
                    tracing::info!(%run, "told all counters of a closing that was cut off");
                    failures = 0;
                }
                // Each counter that is none was named; all others have answered.
                Ok(_) => {
                    self.left_alone.insert(run, (epoch, now + LEFT_ALONE_FOR));
                    failures = 0;
                }
                Err(CloseError::Close(error)) if is_its_own(&error) => {
                    tracing::error!(%run, %error, "cannot finish a closing that was cut off");
                    self.left_alone.insert(run, (epoch, now + LEFT_ALONE_FOR));
                }
                Err(CloseError::Close(
                    error @ (CloseRunError::NoCounters | CloseRunError::NoTerms { .. }),
                )) if failures < FAILURES_MAX => {
                    tracing::warn!(%run, %error, "cannot finish a closing that was cut off yet");
                    self.left_alone.insert(run, (epoch, now + SILENT_FOR));
                    failures += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether the closing itself is in the way, which does not pass by waiting.
fn is_its_own(error: &CloseRunError) -> bool {
    matches!(
        error,
        CloseRunError::Crowded { .. } | CloseRunError::Ledger(LedgerError::Corrupt { .. })
    )
}
