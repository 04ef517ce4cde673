//! The model of the ledger: runs, flushed totals, closings, epochs.

use std::collections::{BTreeMap, BTreeSet};

use super::event::Identity;
use crate::{
    domain::ids::RunId,
    leases::message::{Floor, Flushed},
};

#[derive(Default)]
pub(super) struct Ledger {
    /// The identities, epoch 1 first, and whether each has recovered.
    epochs: Vec<(Identity, bool)>,
    reports: BTreeSet<(u64, RunId)>,
    runs: BTreeMap<RunId, Run>,
    totals: BTreeMap<(RunId, usize), RunTotals>,
    events: BTreeSet<u64>,
    closed_seq: u64,
}

#[derive(Default)]
struct Run {
    closed: Option<u64>,
    folded: bool,
}

#[derive(Clone, Copy, Default)]
pub(super) struct RunTotals {
    pub used: u64,
    pub undone: u64,
    pub forfeited: u64,
}

impl Ledger {
    pub(super) fn register(&mut self, run: RunId) {
        self.runs.insert(run, Run::default());
        self.reports.insert((self.epochs.len() as u64, run));
    }

    /// The number of the identity's epoch, made if it is new, and whether it is the latest.
    pub(super) fn epoch_of(&mut self, identity: Identity) -> (u64, bool) {
        let known = self.epochs.iter().position(|(known, _)| *known == identity);
        let index = known.unwrap_or_else(|| {
            self.epochs.push((identity, false));
            self.recover();
            self.epochs.len() - 1
        });
        (index as u64 + 1, index + 1 == self.epochs.len())
    }

    /// The number of the run's closing.
    pub(super) fn closing(&self, run: RunId) -> Option<u64> {
        self.runs.get(&run)?.closed
    }

    pub(super) fn is_recovered(&self, epoch: u64) -> bool {
        self.epochs.get(epoch as usize - 1).is_some_and(|(_, recovered)| *recovered)
    }

    pub(super) fn epochs(&self) -> u64 {
        self.epochs.len() as u64
    }

    pub(super) fn report(&mut self, epoch: u64, run: RunId) {
        if self.reports.insert((epoch, run)) {
            self.recover();
        }
    }

    fn recover(&mut self) {
        let latest = self.epochs.len() as u64;
        if self.epochs.last().is_none_or(|(_, recovered)| *recovered) {
            return;
        }
        let awaited = self
            .runs
            .iter()
            .any(|(run, state)| !state.folded && !self.reports.contains(&(latest, *run)));
        if !awaited && let Some((_, recovered)) = self.epochs.last_mut() {
            *recovered = true;
        }
    }

    /// Counts one event of a run, 0 for one without a key; the units that were taken back at once.
    pub(super) fn flush(&mut self, run: RunId, key: usize, amount: i64, event: u64) -> u64 {
        let totals = self.totals.entry((run, key)).or_default();
        if amount < 0 {
            totals.undone += amount.unsigned_abs();
            return amount.unsigned_abs();
        }
        let amount = amount.unsigned_abs();
        totals.used += amount;
        if event == 0 || self.events.insert(event) {
            return 0;
        }
        totals.undone += amount;
        amount
    }

    pub(super) fn totals(&self, run: RunId, key: usize) -> RunTotals {
        self.totals.get(&(run, key)).copied().unwrap_or_default()
    }

    /// Closes the run with what is forfeited per key, unless it is closed.
    pub(super) fn close(&mut self, run: RunId, forfeits: &BTreeMap<usize, u64>) -> u64 {
        if let Some(closed) = self.closing(run) {
            return closed;
        }
        for (key, units) in forfeits {
            self.totals.entry((run, *key)).or_default().forfeited = *units;
        }
        self.closed_seq += 1;
        self.runs.entry(run).or_default().closed = Some(self.closed_seq);
        self.closed_seq
    }

    pub(super) fn folded(&mut self, run: RunId) {
        self.runs.entry(run).or_default().folded = true;
        self.recover();
    }

    pub(super) fn is_folded(&self, run: RunId) -> bool {
        self.runs.get(&run).is_some_and(|run| run.folded)
    }

    /// Every closing up to this one is folded wherever it has to be.
    pub(super) fn folded_through(&self) -> u64 {
        let unfolded = self.runs.values().filter(|run| !run.folded).filter_map(|run| run.closed);
        unfolded.min().map_or(self.closed_seq, |first| first - 1)
    }

    /// The floor of a key, if `epoch` still is the latest.
    pub(super) fn floor(&self, epoch: u64, key: usize) -> Option<Floor> {
        if epoch != self.epochs.len() as u64 {
            return None;
        }
        let mut floor = Floor { closed_seq: self.closed_seq, ..Floor::default() };
        for ((run, of), totals) in &self.totals {
            if *of != key {
                continue;
            }
            if self.runs.get(run).is_some_and(|run| run.closed.is_some()) {
                floor.base_used += totals.used.cast_signed() - totals.undone.cast_signed();
                floor.base_forfeited += totals.forfeited;
            } else {
                let (used, undone) = (totals.used, totals.undone);
                floor.open_runs.push(Flushed { run: *run, used, undone });
            }
        }
        Some(floor)
    }

    /// Σ used − undone, and Σ forfeited, of a key.
    pub(super) fn sums(&self, key: usize) -> (i64, u64) {
        let of_key = self.totals.iter().filter(|((_, of), _)| *of == key);
        of_key.fold((0, 0), |(used, forfeited), (_, totals)| {
            let net = totals.used.cast_signed() - totals.undone.cast_signed();
            (used + net, forfeited + totals.forfeited)
        })
    }
}
