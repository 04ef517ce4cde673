//! Closes the runs that ended without closing themselves: what they acknowledged is flushed, what
//! they did not spend becomes free again.
//!
//! A directory's lock says that no process has it, which is no proof where another host may run on a
//! clone of the disk, or the directory is a copy. Such a run is closed once the ledger has not heard of
//! it for a while; what the copied one held is forfeited, since whoever has the original may go on
//! spending it where neither Redis nor Postgres is heard.
//!
//! A run that an operator closed in the meantime has its usage flushed all the same. The ledger takes
//! nothing more of a closed run, so a *successor* does it: a run of its own, whose id follows from
//! the closed one's, which begins where that one's mark stands and is closed like any other. However
//! often this is interrupted, it is the same successor with the same mark, so every event counts once.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use uuid::Uuid;

use super::inheritance::{self, Used};
use crate::{
    clock::Clock,
    domain::{cell_key::CellKey, ids::RunId},
    enforcement::{
        alerts::Alerts,
        alive::{ago, seems_alive},
        closing::{CloseRunError, Closed, RunCloser},
        directory::Directory,
        flusher::{FlushError, RunFlusher},
        leasing::Leasing,
    },
    journal::{
        Journal,
        error::JournalError,
        leftover::{Gone, LeftoverRun},
        position::Position,
    },
    ledger::{
        Ledger, LedgerError,
        changes::Author,
        runs::{ClosedHow, NewRun, RunStanding},
    },
    store::counters::Counters,
};

const RETRY: Duration = Duration::from_secs(1);
/// The same where a counter waits for closings of others, since to try means to tell all counters.
const RETRY_CROWDED: Duration = Duration::from_secs(10);
/// What the ids of successors are made in.
const SUCCESSORS: Uuid = Uuid::from_u128(0x8e0d_34a1_5f0c_4b5e_9a53_6c1d_2e77_90b4);

/// What closing a run needs.
pub struct Closer {
    pub journal: Journal,
    pub ledger: Ledger,
    pub leasing: Arc<Leasing>,
    pub directory: Arc<Directory>,
    pub alerts: Arc<Alerts>,
    pub clock: Clock,
    /// What this run registered itself with; an unregistered leftover is registered likewise.
    pub identity: NewRun,
    /// How long a run has to be silent before it is closed, if its process may be alive elsewhere.
    pub alive_within: SignedDuration,
}

/// Why a run could not be closed yet.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    #[error(
        "its sidecar seems to be alive on {host}, which was heard of {ago} ago, and this directory \
         to be a copy or on a clone of that one's disk; give each sidecar a directory of its own"
    )]
    SeemsAlive { host: String, ago: String },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Flush(#[from] FlushError),
    #[error(transparent)]
    Close(#[from] CloseRunError),
}

impl CloseError {
    fn is_crowded(&self) -> bool {
        matches!(self, Self::Close(CloseRunError::Crowded { .. }))
    }

    /// Whether the journal itself is in the way, which does not pass by waiting.
    fn is_damage(&self) -> bool {
        match self {
            Self::Journal(error) | Self::Flush(FlushError::Journal(error)) => {
                !matches!(error, JournalError::Io { .. })
            }
            _ => false,
        }
    }
}

impl Closer {
    /// Closes all leftover runs, as often as it takes, until `stop`. Answers how many are left that
    /// cannot be read.
    pub async fn close_all(&self, stop: &CancellationToken) -> usize {
        loop {
            let mut waiting = 0;
            let mut crowded = 0;
            let mut stuck = 0;
            for run in self.leftovers() {
                match self.close_leftover(run).await {
                    Ok(()) => tracing::info!(%run, "closed a run that was left behind"),
                    Err(error) if error.is_damage() => {
                        stuck += 1;
                        tracing::error!(%run, %error, "cannot close a run that was left behind");
                    }
                    Err(error) => {
                        waiting += 1;
                        crowded += usize::from(error.is_crowded());
                        tracing::warn!(%run, %error, "cannot close a leftover run yet");
                    }
                }
            }
            #[allow(clippy::cast_precision_loss)] // A gauge is a double.
            metrics::gauge!("tollgate_leftover_runs").set((waiting + stuck) as f64);
            if waiting == 0 {
                return stuck;
            }
            let pause = if crowded == waiting { RETRY_CROWDED } else { RETRY };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
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
        let left = self.read(run).await?;
        if left.gone() != Gone::Surely {
            self.check_silent(run).await?;
        }
        match self.ledger.run_standing(run).await? {
            RunStanding::Open { flushed_position } => {
                self.finish(&left, run, flushed_position.into()).await?;
            }
            RunStanding::Unknown => {
                self.ledger.register_run(&self.stands_for(run)).await?;
                self.finish(&left, run, Position::START).await?;
            }
            RunStanding::Closed { flushed_position, .. } => {
                // It may not have been folded everywhere.
                self.close(run, ClosedHow::Recovered, None).await?;
                if Position::from(flushed_position) < left.end() {
                    self.succeed(&left, flushed_position).await?;
                }
                // Only now: until its successor is counted, what the run took there stands for it.
                self.closer()?.fold_late(run).await?;
            }
        }
        left.delete()?;
        Ok(())
    }

    /// A run that this process flushes for: nobody knows how old its usage is, so that no charge is
    /// made of what is not flushed yet.
    fn stands_for(&self, run: RunId) -> NewRun {
        NewRun { run, mark_at: Timestamp::UNIX_EPOCH, ..self.identity.clone() }
    }

    /// Fails while the run seems to be alive.
    async fn check_silent(&self, run: RunId) -> Result<(), CloseError> {
        match self.ledger.run(run).await? {
            Some(known) if seems_alive(&known, self.alive_within) => {
                Err(CloseError::SeemsAlive { ago: ago(&known), host: known.host })
            }
            _ => Ok(()),
        }
    }

    async fn read(&self, run: RunId) -> Result<LeftoverRun, CloseError> {
        let journal = self.journal.clone();
        match tokio::task::spawn_blocking(move || journal.recover(run)).await {
            Ok(left) => Ok(left?),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Flushes what an operator's closing cut off.
    async fn succeed(
        &self,
        left: &LeftoverRun,
        mut flushed_position: u64,
    ) -> Result<(), CloseError> {
        let mut run = successor(left.run());
        let from = loop {
            let new = NewRun { flushed_position, ..self.stands_for(run) };
            self.ledger.register_run(&new).await?;
            match self.ledger.run_standing(run).await? {
                RunStanding::Closed { flushed_position: flushed, .. } => {
                    // Only its folding may have been interrupted.
                    self.close(run, ClosedHow::Recovered, None).await?;
                    if Position::from(flushed) >= left.end() {
                        return Ok(());
                    }
                    // Closed by hand, or by who had a shorter copy: another one goes on.
                    (run, flushed_position) = (successor(run), flushed);
                }
                RunStanding::Open { flushed_position } => break flushed_position,
                RunStanding::Unknown => return Err(LedgerError::not_found("run", run).into()),
            }
        };
        tracing::warn!(run = %left.run(), successor = %run, "flushing usage of a run that was closed");
        self.flush(left, run, from.into()).await?;
        self.close(run, ClosedHow::Recovered, None).await.map(drop)
    }

    async fn finish(
        &self,
        left: &LeftoverRun,
        run: RunId,
        from: Position,
    ) -> Result<(), CloseError> {
        // A copy that was made before the last flush: what came later is not in it.
        let is_behind = left.end() < from;
        let why = match (is_behind, left.may_have_lost_acknowledged(), left.gone()) {
            (true, ..) => Some("the run flushed more than its directory holds, which is a copy"),
            (false, true, Gone::Unknown) => Some("its directory is a copy, and it may live on"),
            (false, true, _) => {
                Some("its host started again, and may have lost acknowledged usage")
            }
            (false, false, _) => None,
        };
        match (why, left.gone()) {
            (None, Gone::Surely) => self.flush_and_tell(left, run, from).await?,
            _ if is_behind => {}
            _ => self.flush(left, run, from).await?,
        }
        self.close(run, ClosedHow::Recovered, why).await.map(drop)
    }

    /// As [`Closer::flush`], of a run whose journal has all that it used: the shared counters are told
    /// of that meanwhile. If it takes longer than the flush, the closing tells them.
    async fn flush_and_tell(
        &self,
        left: &LeftoverRun,
        run: RunId,
        from: Position,
    ) -> Result<(), CloseError> {
        let used = self.used(left, run, from).await?;
        // A task of its own, so that neither keeps the other waiting; it ends with the flush.
        let _telling = used.map(|used| {
            let telling = inheritance::tell(self.leasing.clone(), run, used);
            AbortOnDropHandle::new(tokio::spawn(telling))
        });
        self.flush(left, run, from).await
    }

    /// What a run used. Read before anything more of it is flushed: that deletes what is read here.
    /// `None` where nobody is to be told ahead of the closing.
    async fn used(
        &self,
        left: &LeftoverRun,
        run: RunId,
        from: Position,
    ) -> Result<Option<Used>, CloseError> {
        if matches!(self.leasing.counters, Counters::Local(_)) {
            // Counters of this process begin when all leftover runs are closed.
            return Ok(None);
        }
        let flushed = self.ledger.run_totals(run).await?;
        let (unflushed, end) = (left.reader(from), left.end());
        match tokio::task::spawn_blocking(move || Used::read(flushed, unflushed, end)).await {
            Ok(Ok(used)) => Ok(Some(used)),
            Ok(Err(error)) => {
                // If it does not pass, the flush meets it, too.
                tracing::warn!(%run, %error, "cannot tell what a leftover run used before it is flushed");
                Ok(None)
            }
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    async fn flush(
        &self,
        left: &LeftoverRun,
        run: RunId,
        from: Position,
    ) -> Result<(), CloseError> {
        let reader = left.reader(from);
        let mut flusher = RunFlusher::new(self.ledger.clone(), run, reader, from);
        let nothing_more = (left.end(), Timestamp::UNIX_EPOCH);
        while !flusher.step(nothing_more).await?.was_idle {
            left.release(flusher.mark())?;
            for key in flusher.take_distinct_keys() {
                self.tell_distinct(&key).await;
            }
        }
        // Also what the run itself flushed: it may not have come to look at it any more.
        let totals = self.ledger.run_totals(run).await?;
        self.alerts.look_at(totals.into_iter().map(|(key, _)| key));
        Ok(())
    }

    /// Values that the run recorded, and could not tell the shared set, are counted in it, too.
    async fn tell_distinct(&self, key: &CellKey) {
        let told = match self.leasing.floors.distinct(key).await {
            Some(known) => self.leasing.tell_distinct(key, known).await,
            None => false,
        };
        if !told {
            tracing::warn!(%key, "the shared set learns a closed run's values from its next floor");
        }
    }

    /// Closes a run whose journal is flushed. `forfeits`: why what it held may have been spent without
    /// a trace, where that is so. One that is closed already is told to the counters once more, unless
    /// all have heard of it.
    pub async fn close(
        &self,
        run: RunId,
        how: ClosedHow,
        forfeits: Option<&str>,
    ) -> Result<Closed, CloseError> {
        let closed = self.try_close(run, how, forfeits).await;
        if matches!(closed, Err(CloseRunError::EpochOver)) {
            self.leasing.epoch_doubt.notify_one();
        }
        Ok(closed?)
    }

    /// In the epoch in force.
    fn closer(&self) -> Result<RunCloser<'_>, CloseRunError> {
        let epoch = match (*self.leasing.epoch.borrow(), &self.leasing.counters) {
            (Some(epoch), _) => epoch.number,
            // Counters of this process are empty until their epoch begins, which waits for this.
            (None, Counters::Local(_)) => 0,
            (None, Counters::Redis(_)) => return Err(CloseRunError::NoCounters),
        };
        Ok(RunCloser {
            ledger: &self.ledger,
            counters: &self.leasing.counters,
            epoch,
            directory: &self.directory,
            clock: &self.clock,
        })
    }

    async fn try_close(
        &self,
        run: RunId,
        how: ClosedHow,
        forfeits: Option<&str>,
    ) -> Result<Closed, CloseRunError> {
        let closer = self.closer()?;
        let Some(reason) = forfeits else {
            return closer.close(run, how, None, None).await;
        };
        // It may have gone on where this journal does not show it.
        closer.find_touched(run).await?;
        let unspent = closer.fence(run).await?;
        let actor = format!("sidecar:{}", self.identity.host);
        let author = (!unspent.is_empty()).then_some(Author { actor: &actor, reason });
        closer.close(run, how, Some(&unspent), author).await
    }
}

/// Who flushes what a closed run could not.
fn successor(run: RunId) -> RunId {
    RunId(Uuid::new_v5(&SUCCESSORS, run.0.as_bytes()))
}
