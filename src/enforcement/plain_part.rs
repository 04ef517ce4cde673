//! What is taken of one plain meter by a request that is decided at once.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    answer::{Decision, Figures, answer, reason_allowed},
    counter::Counter,
    leasing::Leasing,
    settling::Counted,
    taken::TakenHere,
};
use crate::{
    domain::{
        catalog::compiled_plan::PlanMeter,
        quota::{DecidedBy, QuotaAnswer},
    },
    journal::{position::Position, record::PlainEvent},
};

/// What is to be taken, and of what.
#[derive(Clone, Copy)]
pub(super) struct PlainPart<'t> {
    pub meter: &'t PlanMeter,
    /// Of the current window.
    pub counter: &'t Arc<Counter>,
    /// Base units.
    pub amount: i64,
    /// What the amount counts for.
    pub units: u64,
}

impl<'t> PlainPart<'t> {
    /// Whether the meter has a ceiling, so that units have to be in hand.
    #[inline]
    pub fn is_bounded(&self) -> bool {
        self.meter.limit.ceiling().is_some()
    }

    /// Whether it could be taken, as far as nobody else takes it first.
    #[inline]
    pub fn is_in_hand(&self) -> bool {
        !self.is_bounded() || self.units <= self.counter.cell.available()
    }

    /// Takes it. `None`: too little is in hand.
    #[inline]
    pub fn take(self, leasing: &'t Arc<Leasing>) -> Option<PlainTaken<'t>> {
        let taken = match self.is_bounded() {
            true => Some(leasing.take_here(self.counter, self.units)?),
            false => None,
        };
        Some(PlainTaken { part: self, leasing, taken })
    }

    /// The event that records it.
    #[inline]
    pub fn event(self, time: Timestamp, idempotency_key: &'t str) -> PlainEvent<'t> {
        PlainEvent {
            key: &self.counter.key,
            meter: &self.meter.meter,
            amount: self.amount,
            from_lease: if self.is_bounded() { self.units } else { 0 },
            time,
            idempotency_key,
            operation: None,
        }
    }

    /// What the counter is told of it.
    pub fn counted(&self) -> Counted {
        Counted { counter: self.counter.clone(), units: self.units }
    }
}

/// A part that was taken. Dropped, it is given back.
#[must_use = "dropped, it gives back what was taken"]
pub(super) struct PlainTaken<'t> {
    part: PlainPart<'t>,
    leasing: &'t Arc<Leasing>,
    /// Where the meter has a ceiling.
    taken: Option<TakenHere<'t>>,
}

impl PlainTaken<'_> {
    /// Counts what the journal has at `position`, for a request that `began` then, and answers.
    pub fn spend(self, position: Position, began: Duration) -> QuotaAnswer {
        let PlainPart { meter, counter, units, .. } = self.part;
        match self.taken {
            Some(taken) => taken.spend(),
            None => {
                counter.cell.record(units);
                self.leasing.spent(counter);
            }
        }
        counter.journalled(position.into(), began);
        let figures = Figures::of(counter);
        let reason = reason_allowed(meter, figures.used);
        let decision = Decision { reason, decided_by: DecidedBy::Memory };
        answer(meter, Some(&counter.window), figures, decision)
    }
}
