//! What operators and `reconcile` see of a counter. Looking changes nothing and needs no epoch.

use crate::{
    domain::{amount::AMOUNT_MAX, cell_key::CellKey, ids::RunId},
    leases::{
        key::KeyState,
        message::{Ceiling, Totals},
    },
};

/// One counter as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The epoch that it was built in; in a later one it counts as absent.
    pub epoch: u64,
    /// Usage of the closed runs.
    pub base: i64,
    /// Usage of all runs, closed and open, as far as reported.
    pub used: i64,
    /// Escrow of all runs that is not known to be consumed.
    pub outstanding: i64,
    /// Units that are counted though nobody used them.
    pub forfeited: u64,
    pub ceiling: Option<Ceiling>,
    /// The open runs, in the order of their ids.
    pub runs: Vec<InspectedRun>,
}

/// One open run on a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectedRun {
    pub run: RunId,
    pub totals: Totals,
    /// What the ledger had of it when the counter was rebuilt; its own totals cover it in time.
    pub flushed: u64,
}

impl InspectedRun {
    /// What it counted before anything was undone.
    pub fn counted(&self) -> u64 {
        let reported = self.totals.consumed.saturating_add(self.totals.recorded);
        reported.max(self.flushed).min(AMOUNT_MAX)
    }

    /// Its part of what is used.
    pub fn used(&self) -> i64 {
        self.counted().cast_signed() - self.totals.undone.cast_signed()
    }

    /// Escrow that it is not known to have consumed.
    pub fn outstanding(&self) -> u64 {
        let Totals { granted, returned, consumed, recorded, .. } = self.totals;
        let escrow = granted.saturating_sub(returned).max(consumed);
        let taken = escrow.saturating_add(recorded).max(self.flushed).min(AMOUNT_MAX);
        taken - self.counted()
    }
}

/// Where a listing of the counters goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(pub(super) u64);

/// Some of the counters. A counter that is there throughout a listing is in one of its pages, and
/// may be in more than one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPage {
    pub keys: Vec<CellKey>,
    /// Absent: this was the last page.
    pub next: Option<Cursor>,
}

impl Inspection {
    /// What the ceiling is held against: used + outstanding + forfeited.
    pub fn taken(&self) -> i64 {
        self.used + self.outstanding + self.forfeited.cast_signed()
    }

    /// What is to be seen of `state`; `None` of a stub.
    pub fn of(state: &KeyState) -> Option<Self> {
        state.is_founded().then(|| Self {
            epoch: state.epoch(),
            base: state.base(),
            used: state.used(),
            outstanding: state.outstanding(),
            forfeited: state.forfeited(),
            ceiling: state.ceiling(),
            runs: state
                .runs()
                .map(|(run, totals, flushed)| InspectedRun { run, totals, flushed })
                .collect(),
        })
    }
}
