//! Looks at the shared counters, page by page, and again at what differs until it is clear whether
//! it is wrong or on its way.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::{
    compare::{Mismatch, Stood, Verdict, What, compare},
    difference::{Difference, Figure, Leg, Mending, Standing},
};
use crate::{
    domain::{cell_key::CellKey, ids::RunId},
    enforcement::{directory::Directory, error::EngineError},
    ledger::{Ledger, LedgerError, reconcile::Scope},
    store::{StoreError, counters::Counters, keys::counter_name},
};

/// Between two looks at what differs.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// Counters that are looked at together. Those that differ are held until they are clear.
const BATCH: usize = 500;

/// What is told of a counter that cannot be read.
const PROBLEM_CHARS_MAX: usize = 300;

/// Why the counters could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("cannot look at the shared counters: {0}")]
    Counters(#[from] StoreError),
    #[error(transparent)]
    Tenant(#[from] EngineError),
}

/// How long to look.
#[derive(Clone, Copy, Debug)]
pub struct LookTimes {
    /// What stands still for so long is no usage on its way.
    pub patience: Duration,
    /// Longest look at one batch; what moves then is told as in flight.
    pub wait_max: Duration,
}

/// Looks at shared counters.
pub struct CounterLook<'a> {
    pub ledger: &'a Ledger,
    pub counters: &'a Counters,
    /// The epoch in force; a counter of an earlier one counts as absent.
    pub epoch: u64,
    /// Knows which windows go on.
    pub directory: &'a std::sync::Arc<Directory>,
    pub now: Timestamp,
    pub scope: &'a Scope,
    pub times: LookTimes,
}

/// What was seen of the counters.
#[derive(Debug, Default)]
pub struct CounterReport {
    /// Counters that were compared.
    pub compared: u64,
    pub found: Vec<Found>,
    /// Counters that are there and cannot be read.
    pub damaged: Vec<Damaged>,
}

/// A counter that holds what belongs in no counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    pub key: CellKey,
    /// Why it cannot be read.
    pub problem: String,
    /// What the ledger has of it.
    pub used: i64,
}

/// A counter's figure that differs, moves, or waits for a flush.
#[derive(Clone, Debug)]
pub struct Found {
    pub key: CellKey,
    pub mismatch: Mismatch,
    pub verdict: Verdict,
}

/// A counter that differed at the last look.
struct Seen {
    mismatches: Vec<Mismatch>,
    /// Since when it has stood so: by this process's clock, and by the ledger's.
    since: Instant,
    since_at: Timestamp,
}

impl CounterLook<'_> {
    /// Compares all counters in the scope.
    pub async fn compare_all(&self) -> Result<CounterReport, LookError> {
        let mut report = CounterReport::default();
        let mut damaged = BTreeMap::new();
        let mut cursor = None;
        let mut batch = Vec::new();
        loop {
            let page = self.counters.keys(cursor).await?;
            batch.extend(page.keys.into_iter().filter(|key| self.scope.covers(key)));
            let is_last = page.next.is_none();
            while batch.len() >= BATCH || is_last && !batch.is_empty() {
                let rest = batch.split_off(batch.len().min(BATCH));
                report.compared += batch.len() as u64;
                report.found.extend(self.compare_batch(&batch, false, &mut damaged).await?);
                batch = rest;
            }
            match page.next {
                Some(_) => cursor = page.next,
                None => break,
            }
        }
        self.find_absent(&mut report, &mut damaged).await?;
        let keys: Vec<_> = damaged.keys().cloned().collect();
        for some in keys.chunks(BATCH) {
            let books = self.ledger.counter_books(some).await?;
            report.damaged.extend(some.iter().zip(books).map(|(key, books)| Damaged {
                key: key.clone(),
                problem: damaged.remove(key).unwrap_or_default(),
                used: books.used,
            }));
        }
        Ok(report)
    }

    /// Counters that open runs have used in windows that go on, and that are not there.
    async fn find_absent(
        &self,
        report: &mut CounterReport,
        damaged: &mut BTreeMap<CellKey, String>,
    ) -> Result<(), LookError> {
        let mut after: Option<CellKey> = None;
        loop {
            let page = self.ledger.open_counters_after(after.as_ref(), BATCH as u32).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            let mut absent = Vec::new();
            for key in page.into_iter().filter(|key| self.scope.covers(key)) {
                let is_there = match self.counters.inspect(&key).await {
                    Ok(counter) => counter.is_some_and(|counter| counter.epoch == self.epoch),
                    Err(error) if error.is_about_content() => true,
                    Err(error) => return Err(error.into()),
                };
                if !is_there && self.goes_on(&key).await? {
                    absent.push(key);
                }
            }
            report.found.extend(self.compare_batch(&absent, true, damaged).await?);
        }
    }

    async fn goes_on(&self, key: &CellKey) -> Result<bool, LookError> {
        let state = match self.directory.find(&key.tenant, "tenant").await {
            Ok(state) => state,
            Err(EngineError::Unknown(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let terms = state.terms();
        let now = terms.tenant.now(self.now);
        let window = terms.tenant.window_of_label(key.label);
        Ok(window.is_some_and(|window| window.contains(now)))
    }

    /// Compares `keys`, and looks again at those that differ.
    async fn compare_batch(
        &self,
        keys: &[CellKey],
        absent_differs: bool,
        damaged: &mut BTreeMap<CellKey, String>,
    ) -> Result<Vec<Found>, LookError> {
        let started = Instant::now();
        let mut seen: BTreeMap<CellKey, Seen> = BTreeMap::new();
        let mut keys = keys.to_vec();
        loop {
            let open = self.open_runs().await?;
            let looked = self.look(&keys, &open, absent_differs, damaged).await?;
            seen.retain(|key, _| !damaged.contains_key(key));
            for (key, mismatches, at) in looked {
                let stands = seen.get(&key).is_some_and(|seen| seen.mismatches == mismatches);
                if mismatches.is_empty() {
                    seen.remove(&key);
                } else if !stands {
                    let since = Instant::now();
                    seen.insert(key, Seen { mismatches, since, since_at: at });
                }
            }
            // A look that began before the last change of a mark says nothing of it.
            let verdicts = self.verdicts(&seen, &open);
            let is_clear = verdicts.iter().all(|(found, is_long)| *is_long || is_final(found));
            if verdicts.is_empty() || is_clear || started.elapsed() >= self.times.wait_max {
                return Ok(verdicts.into_iter().map(|(found, _)| found).collect());
            }
            keys = seen.keys().cloned().collect();
            sleep(LOOK_PAUSE).await;
        }
    }

    fn verdicts(
        &self,
        seen: &BTreeMap<CellKey, Seen>,
        open: &BTreeMap<RunId, Timestamp>,
    ) -> Vec<(Found, bool)> {
        let of_key = |(key, seen): (&CellKey, &Seen)| {
            let is_long = seen.since.elapsed() >= self.times.patience;
            let stood = Stood { is_long, since: seen.since_at };
            let found = |mismatch: &Mismatch| {
                let (key, verdict) = (key.clone(), mismatch.verdict(stood, open));
                (Found { key, mismatch: *mismatch, verdict }, is_long)
            };
            seen.mismatches.iter().map(found).collect::<Vec<_>>()
        };
        seen.iter().flat_map(of_key).collect()
    }

    async fn open_runs(&self) -> Result<BTreeMap<RunId, Timestamp>, LookError> {
        let runs = self.ledger.open_runs().await?;
        Ok(runs.into_iter().map(|run| (run.run, run.mark_at)).collect())
    }

    /// One look at each key: what differs, and when the ledger was asked. What cannot be read is put
    /// among the `damaged`, with its problem.
    async fn look(
        &self,
        keys: &[CellKey],
        open: &BTreeMap<RunId, Timestamp>,
        absent_differs: bool,
        damaged: &mut BTreeMap<CellKey, String>,
    ) -> Result<Vec<(CellKey, Vec<Mismatch>, Timestamp)>, LookError> {
        let mut inspected = Vec::with_capacity(keys.len());
        let mut readable = Vec::with_capacity(keys.len());
        for key in keys {
            match self.counters.inspect(key).await {
                Ok(counter) => {
                    inspected.push(counter);
                    readable.push(key.clone());
                }
                Err(error) if error.is_about_content() => {
                    damaged.insert(key.clone(), error.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
        let books = self.ledger.counter_books(&readable).await?;
        let of_key = |((key, redis), books): ((&CellKey, Option<_>), _)| {
            let books: crate::ledger::counter_books::CounterBooks = books;
            let redis: Option<crate::store::inspect::Inspection> = redis;
            let mismatches = match redis.filter(|redis| redis.epoch == self.epoch) {
                Some(redis) => compare(&redis, &books, open),
                None if absent_differs => {
                    vec![Mismatch { what: What::Absent, ledger: books.used, redis: 0 }]
                }
                // Its next call rebuilds it from the ledger.
                None => Vec::new(),
            };
            (key.clone(), mismatches, books.at)
        };
        Ok(readable.iter().zip(inspected).zip(books).map(of_key).collect())
    }
}

fn is_final(found: &Found) -> bool {
    found.verdict == Verdict::Differs
}

impl Damaged {
    /// As reports have it.
    pub fn difference(&self) -> Difference {
        let problem: String = self.problem.chars().take(PROBLEM_CHARS_MAX).collect();
        Difference {
            leg: Leg::Counters,
            place: self.key.clone().into(),
            what: format!("the counter {}, which cannot be read", counter_name(&self.key)),
            expected: Figure::new("ledger", self.used),
            found: Figure::new("redis", problem),
            standing: Standing::Differs,
            mending: None,
        }
    }

    /// Why nothing here mends it.
    pub fn not_mended(&self) -> Mending {
        Mending::NotMended(format!(
            "what its runs hold is not known; DEL {} and tg:life in Redis begin a new epoch, in which \
             every counter is rebuilt and every run reports",
            counter_name(&self.key)
        ))
    }
}

impl Found {
    /// As reports have it.
    pub fn difference(&self) -> Difference {
        let Mismatch { what, ledger, redis } = self.mismatch;
        let what = match what {
            What::Absent => "a counter that open runs have used".to_owned(),
            What::FoldedUsage => "usage of closed runs".to_owned(),
            What::Forfeited => "forfeited by closed runs".to_owned(),
            What::NotFolded(run) => format!("usage of run {run}, closed and not yet folded in"),
            What::NotOpen(run) => format!("usage of run {run}, which is not open"),
            What::Unsettled(run) => format!("usage of run {run}, flushed and not settled"),
            What::Unflushed(run) => format!("usage of run {run}, settled and not flushed"),
            What::Undone(run) => format!("undone usage of run {run}"),
            What::SumOfUsed => "sum of what its runs have used".to_owned(),
            What::SumOfOutstanding => "sum of what its runs hold".to_owned(),
        };
        let side = match self.mismatch.what {
            What::SumOfUsed | What::SumOfOutstanding => "its entries",
            _ => "ledger",
        };
        let standing = match self.verdict {
            Verdict::Differs => Standing::Differs,
            Verdict::InFlight => Standing::InFlight,
            Verdict::Unflushed => Standing::Expected,
        };
        Difference {
            leg: Leg::Counters,
            place: self.key.clone().into(),
            what,
            expected: Figure::new(side, ledger),
            found: Figure::new("redis", redis),
            standing,
            mending: None,
        }
    }
}
