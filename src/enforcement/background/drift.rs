//! Compares a sample of the shared counters with the ledger.
//!
//! While usage goes on the two differ by what one has and the other does not have yet: usage is
//! settled and flushed by two ways. So a counter has drifted only if the two differ and neither moves
//! for longer than either way takes. What a sidecar that is away has settled and not flushed is drift
//! until its run is closed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use metrics::{Counter as Count, Gauge, counter, describe_counter, describe_gauge, gauge};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::cell_key::CellKey,
    enforcement::directory::Directory,
    leases::message::Epoch,
    ledger::{Ledger, LedgerError},
    store::{RedisCounters, StoreError},
};

/// Counters that are looked at anew in a round, and as many at most that differed the time before.
const SAMPLE_MAX: usize = 32;

/// Why a round had to be left out.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Counters(#[from] StoreError),
}

/// Looks for drift among the counters that this sidecar uses.
pub struct DriftWatch {
    ledger: Ledger,
    counters: RedisCounters,
    directory: Arc<Directory>,
    epoch: watch::Receiver<Option<Epoch>>,
    /// Counters that differed at the last look: how, and since when they have stood so.
    differing: BTreeMap<CellKey, (Figures, Instant)>,
    /// Where the next sample begins among this sidecar's counters.
    turn: usize,
    times: DriftTimes,
    metrics: DriftMetrics,
}

/// When to look, and what to make of it.
#[derive(Clone, Copy, Debug)]
pub struct DriftTimes {
    /// Between two looks.
    pub interval: Duration,
    /// So long a difference has to stand still to be drift.
    pub patience: Duration,
}

/// What the two sides have used of a counter, base units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Figures {
    counters: i64,
    ledger: i64,
}

impl DriftWatch {
    /// Nothing has been looked at yet.
    pub fn new(
        ledger: Ledger,
        counters: RedisCounters,
        directory: Arc<Directory>,
        epoch: watch::Receiver<Option<Epoch>>,
        times: DriftTimes,
    ) -> Self {
        let differing = BTreeMap::new();
        let metrics = DriftMetrics::register();
        Self { ledger, counters, directory, epoch, differing, turn: 0, times, metrics }
    }

    /// Looks until `stop`.
    pub async fn keep(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = sleep(self.times.interval) => {}
                () = stop.cancelled() => return,
            }
            if let Err(error) = self.look().await {
                tracing::debug!(%error, "cannot compare the shared counters with the ledger");
            }
        }
    }

    async fn look(&mut self) -> Result<(), Unread> {
        // While counters are rebuilt they are not expected to agree.
        let Some(Epoch { number, recovered: true }) = *self.epoch.borrow() else { return Ok(()) };
        let mut shared = Vec::new();
        for key in self.sample() {
            let counter = self.counters.inspect(&key).await?;
            if let Some(counter) = counter.filter(|counter| counter.epoch == number) {
                shared.push((key, counter.used));
            }
        }
        let keys: Vec<_> = shared.iter().map(|(key, _)| key.clone()).collect();
        let flushed = self.ledger.window_totals(&keys).await?;
        let figures = shared.into_iter().zip(flushed).map(|((key, counters), totals)| {
            (key, Figures { counters, ledger: totals.map_or(0, |totals| totals.used) })
        });
        self.compare(figures.collect(), Instant::now());
        Ok(())
    }

    /// Those that differed, and the next few of all.
    fn sample(&mut self) -> Vec<CellKey> {
        let all = self.directory.all_counters();
        let first = self.turn % all.len().max(1);
        let fresh = all.iter().cycle().skip(first).take(SAMPLE_MAX.min(all.len()));
        self.turn = first + SAMPLE_MAX;
        let fresh = fresh.map(|counter| &counter.key);
        let fresh = fresh.filter(|key| !self.differing.contains_key(*key)).cloned();
        self.differing.keys().cloned().chain(fresh).collect()
    }

    fn compare(&mut self, looked_at: Vec<(CellKey, Figures)>, now: Instant) {
        let before = std::mem::take(&mut self.differing);
        let (mut drifted, mut units) = (0, 0_u64);
        for (key, figures) in looked_at {
            if figures.counters == figures.ledger {
                self.metrics.agreeing.increment(1);
                continue;
            }
            let stood = before.get(&key).filter(|(known, _)| *known == figures);
            let since = stood.map_or(now, |(_, since)| *since);
            if now - since >= self.times.patience {
                self.metrics.drifted.increment(1);
                drifted += 1;
                units = units.saturating_add(figures.counters.abs_diff(figures.ledger));
                let Figures { counters, ledger } = figures;
                tracing::warn!(%key, counters, ledger, "a shared counter has drifted");
            } else {
                self.metrics.moving.increment(1);
            }
            if self.differing.len() < SAMPLE_MAX {
                self.differing.insert(key, (figures, since));
            }
        }
        self.metrics.show(drifted, units);
    }
}

struct DriftMetrics {
    agreeing: Count,
    moving: Count,
    drifted: Count,
    counters: Gauge,
    units: Gauge,
}

impl DriftMetrics {
    fn register() -> Self {
        describe_counter!(
            "tollgate_drift_comparisons_total",
            "Looks at a shared counter and the ledger: agreeing, moving (differing for now), drifted"
        );
        describe_gauge!(
            "tollgate_drift_counters",
            "Counters of the last sample that differ from the ledger and stand still"
        );
        describe_gauge!(
            "tollgate_drift_units",
            "By how much these differ from the ledger in all, base units"
        );
        let looks = |outcome| counter!("tollgate_drift_comparisons_total", "outcome" => outcome);
        Self {
            agreeing: looks("agreeing"),
            moving: looks("moving"),
            drifted: looks("drifted"),
            counters: gauge!("tollgate_drift_counters"),
            units: gauge!("tollgate_drift_units"),
        }
    }

    #[allow(clippy::cast_precision_loss)] // Gauges are doubles.
    fn show(&self, counters: u32, units: u64) {
        self.counters.set(f64::from(counters));
        self.units.set(units as f64);
    }
}
