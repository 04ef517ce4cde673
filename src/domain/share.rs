//! A run's part of a counter, as totals that only grow: what the counters are told of it.

use super::{
    meter::Aggregation,
    usage::{Part, UsageEvent},
};

/// Units of one run under one counter. All 0 for meters that are not summed.
///
/// Whatever happens to an event later (counted, duplicate, quarantined), its share of the counter
/// and its share of what is kept agree: used = consumed + recorded − undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Units that were taken from escrow.
    pub consumed: i128,
    /// Units that were added without escrow.
    pub recorded: i128,
    /// Units of these that do not count after all, and units that a level went down by.
    pub undone: i128,
}

impl Share {
    /// The share of an event that counts, of its own counter: what its parts leave of it. A level
    /// that goes down and has parts has no share until the ledger has said where it comes free.
    pub fn of(event: &UsageEvent) -> Self {
        if !matches!(event.aggregation, Aggregation::Sum | Aggregation::Count) {
            return Self::default();
        }
        let units = i128::from(event.counted());
        let covered = i128::from(event.covered());
        let raised = (units.max(0) - covered).max(0);
        let lowered = if event.parts.is_empty() { (-units).max(0) } else { 0 };
        let consumed = i128::from(event.from_lease).min(raised);
        Self { consumed, recorded: raised - consumed, undone: lowered }
    }

    /// The share of a part of `event`, of the part's counter.
    pub fn of_part(event: &UsageEvent, part: &Part) -> Self {
        let units = i128::from(part.units);
        let recorded = i128::from(part.recorded).min(units);
        match event.counted() < 0 {
            true => Self::default(),
            false => Self { consumed: units - recorded, recorded, undone: 0 },
        }
    }

    /// The share of the same event when it does not count: what the run added is undone, and what
    /// it did not yet subtract stays.
    #[must_use]
    pub fn taken_back(self) -> Self {
        Self { undone: self.consumed + self.recorded, ..self }
    }

    /// What the share adds to the counter.
    pub fn used(self) -> i128 {
        self.consumed + self.recorded - self.undone
    }

    /// Adds what comes later.
    pub fn add(&mut self, other: Self) {
        self.consumed += other.consumed;
        self.recorded += other.recorded;
        self.undone += other.undone;
    }
}
