//! Carries the journal into the ledger: reads what is synced, adds it up, writes it once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ahash::AHashSet;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{engine::Engine, fence::Fenced, flush_lag::FlushLag};
use crate::{
    domain::{cell_key::CellKey, ids::RunId, meter::Aggregation},
    journal::{
        Journal,
        position::Position,
        reader::{ReadLimit, Reader},
        record::Record,
    },
    ledger::{
        Ledger, LedgerError,
        floors::FlushedTotals,
        flush::{FlushBatch, FlushOutcome},
        runs::RunStanding,
    },
};

/// Records and bytes read at a time; a batch of the ledger takes as many reads as it needs, and is larger
/// than it should be by at most one: some 17,000 events under keys, or 50,000 without.
const READ: ReadLimit = ReadLimit { records_max: 4_096, bytes_max: 1 << 20 };
/// How often an idle run says that everything is flushed.
const HEARTBEAT: Duration = Duration::from_secs(1);
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What a flush may fail with.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Journal(#[from] crate::journal::error::JournalError),
    /// Someone has closed the run: the ledger takes nothing of it any more.
    #[error("run {0} has been closed")]
    Closed(RunId),
    /// The ledger's mark stands where this journal was never flushed to.
    #[error("the ledger's mark of run {run} stands at {found}, not at {expected}")]
    MarkMoved { run: RunId, expected: Position, found: Position },
    /// The ledger lost what it had committed, or it is another one.
    #[error("the ledger does not know run {0} any more")]
    Forgotten(RunId),
}

impl FlushError {
    /// Why a run whose mark should stand at `expected` can flush nothing more.
    fn of(standing: RunStanding, run: RunId, expected: Position) -> Self {
        match standing {
            RunStanding::Open { flushed_position: found } => {
                Self::MarkMoved { run, expected, found: found.into() }
            }
            RunStanding::Closed { .. } => Self::Closed(run),
            RunStanding::Unknown => Self::Forgotten(run),
        }
    }

    /// Why the run is over for good, if it is.
    fn fences(&self) -> Option<Fenced> {
        match self {
            Self::Closed(_) => Some(Fenced::Closed),
            Self::MarkMoved { .. } | Self::Forgotten(_) => Some(Fenced::LedgerLostData),
            Self::Ledger(_) | Self::Journal(_) => None,
        }
    }
}

/// Reads one run's journal into batches and writes them.
pub struct RunFlusher {
    ledger: Ledger,
    run: RunId,
    reader: Reader,
    mark: Position,
    /// A batch whose fate is unknown, or that was refused for now; it is written before all else.
    unwritten: Option<FlushBatch>,
    /// Counters of distinct values among what was read.
    distinct_keys: BTreeSet<CellKey>,
    /// Counters among what was read.
    touched: AHashSet<CellKey>,
}

/// What a step came to.
#[derive(Debug, Default)]
pub struct Step {
    /// Events that are new in the ledger.
    pub counted: u64,
    /// Totals of counters in which something was undone.
    pub undone: Vec<(CellKey, FlushedTotals)>,
    /// There was nothing to flush.
    pub was_idle: bool,
}

impl RunFlusher {
    /// Goes on from the ledger's mark of the run.
    pub fn new(ledger: Ledger, run: RunId, reader: Reader, mark: Position) -> Self {
        Self {
            ledger,
            run,
            reader,
            mark,
            unwritten: None,
            distinct_keys: BTreeSet::new(),
            touched: AHashSet::new(),
        }
    }

    /// Where the ledger's mark stands.
    pub fn mark(&self) -> Position {
        self.mark
    }

    /// The counters of distinct values that were read of since the last time.
    pub fn take_distinct_keys(&mut self) -> BTreeSet<CellKey> {
        std::mem::take(&mut self.distinct_keys)
    }

    /// The counters that were flushed since the last time.
    pub fn take_touched(&mut self) -> AHashSet<CellKey> {
        std::mem::take(&mut self.touched)
    }

    /// Writes one batch, if there is anything. `settled` says that all that was acknowledged until
    /// an instant lies before a position; it is passed on when the batch gets there.
    pub async fn step(&mut self, settled: (Position, Timestamp)) -> Result<Step, FlushError> {
        let batch = match self.unwritten.take() {
            Some(batch) => batch,
            None => self.gather(settled).await?,
        };
        if batch.is_empty() {
            return Ok(Step { was_idle: true, ..Step::default() });
        }
        let outcome = match self.ledger.flush(&batch).await {
            Ok(outcome) => outcome,
            Err(error) => {
                self.unwritten = Some(batch);
                return Err(error.into());
            }
        };
        let end = Position::from(batch.end());
        let step = match outcome {
            FlushOutcome::Flushed(flushed) => {
                Step { counted: flushed.counted, undone: flushed.undone, was_idle: false }
            }
            FlushOutcome::NotHere(RunStanding::Open { flushed_position })
                if flushed_position == batch.end() =>
            {
                // An earlier try got through and its answer was lost.
                let undone = match self.ledger.run_totals(self.run).await {
                    Ok(totals) => totals,
                    Err(error) => {
                        self.unwritten = Some(batch);
                        return Err(error.into());
                    }
                };
                Step { undone, ..Step::default() }
            }
            FlushOutcome::NotHere(standing) => {
                return Err(FlushError::of(standing, self.run, self.mark));
            }
        };
        self.mark = end;
        Ok(step)
    }

    async fn gather(&mut self, settled: (Position, Timestamp)) -> Result<FlushBatch, FlushError> {
        let mut batch = FlushBatch::new(self.run, self.mark.into());
        while !batch.is_full() {
            let entries = match self.reader.read(READ) {
                Ok(entries) => entries,
                // What lies before a damage is flushed; the next reading says it again.
                Err(_) if !batch.is_empty() => return Ok(batch),
                Err(error) => return Err(error.into()),
            };
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                let position = u64::from(entry.position);
                match entry.record {
                    Record::Usage(events) => {
                        for event in events {
                            if event.aggregation == Aggregation::DistinctCount
                                && !self.distinct_keys.contains(&event.key)
                            {
                                self.distinct_keys.insert(event.key.clone());
                            }
                            if !self.touched.contains(&event.key) {
                                self.touched.insert(event.key.clone());
                            }
                            batch.push(position, event);
                        }
                    }
                    Record::CellOpened { key } => batch.open(position, key),
                }
                batch.advance(position, Timestamp::UNIX_EPOCH);
            }
            // Where much adds up to few sums, the batch is far from full after a long time.
            tokio::task::yield_now().await;
        }
        let (settled_to, through) = settled;
        if self.reader.position() >= settled_to {
            batch.advance(self.reader.position().into(), through);
        }
        Ok(batch)
    }
}

/// Takes the reason why flushing fails, or `None` when it works.
pub type Report = Box<dyn Fn(Option<String>) + Send + Sync>;

/// Flushes the engine's own run until it is told to stop, and then what is left.
pub struct Flusher {
    engine: Arc<Engine>,
    journal: Journal,
    ledger: Ledger,
    run_flusher: RunFlusher,
    interval: Duration,
    /// What the ledger has undone, in all, where the counters could not be told yet.
    untold: BTreeMap<CellKey, u64>,
    heartbeat_at: Instant,
    lag: FlushLag,
    /// Told why flushing fails, or that it works (again).
    report: Report,
}

impl Flusher {
    /// Begins with an empty journal of a registered run.
    pub fn new(engine: Arc<Engine>, ledger: Ledger, interval: Duration, report: Report) -> Self {
        let journal = engine.journal.clone();
        let reader = journal.reader(Position::START);
        let run_flusher = RunFlusher::new(ledger.clone(), engine.run, reader, Position::START);
        let heartbeat_at = Instant::now();
        Self {
            engine,
            journal,
            ledger,
            run_flusher,
            interval,
            untold: BTreeMap::new(),
            heartbeat_at,
            lag: FlushLag::new(heartbeat_at),
            report,
        }
    }

    /// Runs until `stop`; then flushes what is synced, and ends. An error is one that will not
    /// pass by itself.
    pub async fn run(&mut self, stop: CancellationToken) -> Result<(), FlushError> {
        let mut retry = RETRY_MIN;
        loop {
            let is_last_round = stop.is_cancelled();
            match self.step().await {
                Ok(was_idle) => {
                    retry = RETRY_MIN;
                    (self.report)(None);
                    if was_idle && is_last_round {
                        return Ok(());
                    }
                    if was_idle {
                        tokio::select! {
                            () = sleep(self.interval) => {}
                            () = stop.cancelled() => {}
                        }
                    }
                }
                Err(FlushError::Ledger(error)) if !is_last_round => {
                    // An idle step asks the ledger before it says that all is well again.
                    self.heartbeat_at = Instant::now();
                    tracing::warn!(%error, "flush failed; trying again");
                    let waits = "usage waits in the journal, and counters that are new fall to outage policies";
                    (self.report)(Some(format!("{waits}: {error}")));
                    tokio::select! {
                        () = sleep(retry) => {}
                        () = stop.cancelled() => {}
                    }
                    retry = (retry * 2).min(RETRY_MAX);
                }
                Err(error) => {
                    if let Some(why) = error.fences() {
                        self.engine.leasing.fence.lower(why);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// One batch. Whether there was nothing to do.
    pub async fn step(&mut self) -> Result<bool, FlushError> {
        // In this order: whatever was acknowledged before `through`, or settles what was held then,
        // lies before `handed_over`.
        let now = self.engine.clock.now();
        let through = self.engine.holds.oldest().map_or(now, |since| now.min(since));
        let handed_over = Position::from(self.engine.handed_over());
        // Before the step too: one that fails leaves the ledger behind.
        self.lag.show(self.run_flusher.mark(), handed_over, Instant::now());
        let step = self.run_flusher.step((handed_over, through)).await?;
        let mark = self.run_flusher.mark();
        self.lag.show(mark, handed_over, Instant::now());
        if step.was_idle {
            self.tell_undone().await;
            self.beat(mark, handed_over, through).await?;
            return Ok(true);
        }
        self.heartbeat_at = Instant::now() + HEARTBEAT;
        // This run tells its values itself.
        self.run_flusher.take_distinct_keys();
        self.engine.alerts.look_at(self.run_flusher.take_touched());
        self.untold.extend(step.undone.into_iter().map(|(key, totals)| (key, totals.undone)));
        self.tell_undone().await;
        self.engine.flushed_to.store(mark.into(), Ordering::Release);
        if let Err(error) = self.journal.release(mark) {
            // What is left behind is tried again with the next.
            tracing::warn!(%error, "a flushed segment of the journal could not be removed");
        }
        Ok(false)
    }

    async fn beat(
        &mut self,
        mark: Position,
        handed_over: Position,
        through: Timestamp,
    ) -> Result<(), FlushError> {
        if mark >= handed_over && self.heartbeat_at <= Instant::now() {
            self.heartbeat_at = Instant::now() + HEARTBEAT;
            let run = self.engine.run;
            let standing = self.ledger.mark_run(run, mark.into(), through).await?;
            let here = RunStanding::Open { flushed_position: mark.into() };
            if standing != here {
                return Err(FlushError::of(standing, run, mark));
            }
        }
        Ok(())
    }

    async fn tell_undone(&mut self) {
        for (key, total) in std::mem::take(&mut self.untold) {
            if !self.engine.undo_to(&key, total).await {
                self.untold.insert(key, total);
            }
        }
    }
}
