//! What a key knows of one run.

use super::{
    heir,
    message::{Call, Totals},
};
use crate::domain::amount::AMOUNT_MAX;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub totals: Totals,
    pub flushed: u64,
    pub sequence: u64,
    /// `tickets` when the run last said that it had returned everything unspent; 0 = it may have
    /// something.
    pub answered: u64,
}

impl Entry {
    /// With what a call of the run, or of its heir, tells. What the run itself had said, and comes after
    /// its heir, is left out: it is in what the heir told, but for what the journal refused, and to undo
    /// that would undo what never counted here.
    pub fn heard(self, call: &Call) -> Self {
        let is_outdated = heir::is_by_heir(self.sequence) && !heir::is_by_heir(call.sequence);
        let told = if is_outdated { self.totals } else { call.totals.fitted() };
        let sequence = self.sequence.max(call.sequence);
        Self { totals: self.totals.merged(told), sequence, ..self }
    }

    /// Taken before anything was undone, at most [`AMOUNT_MAX`].
    pub fn taken_gross(&self) -> u64 {
        let t = &self.totals;
        let escrow = t.granted.saturating_sub(t.returned).max(t.consumed);
        (escrow + t.recorded).max(self.flushed).min(AMOUNT_MAX)
    }

    pub fn taken(&self) -> i64 {
        self.taken_gross().cast_signed() - self.totals.undone.cast_signed()
    }

    pub fn used(&self) -> i64 {
        let gross = (self.totals.consumed + self.totals.recorded).max(self.flushed);
        gross.min(AMOUNT_MAX).cast_signed() - self.totals.undone.cast_signed()
    }

    pub fn outstanding(&self) -> u64 {
        // Not negative: the escrow term is at least `consumed`, all else is equal.
        (self.taken() - self.used()).cast_unsigned()
    }

    /// Whether there may be more than can be said.
    pub fn is_full(&self) -> bool {
        self.taken_gross() == AMOUNT_MAX
    }
}
