//! What a key knows of its runs.

use super::{
    heir,
    message::{Call, Totals},
};
use crate::domain::{amount::AMOUNT_MAX, ids::RunId};

/// What a key knows of one run.

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

/// What a key knows of each of its open runs, in the order of their ids. Most keys have one run, and
/// few more than a dozen: a list that is as long as there are runs takes the least memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entries(Vec<(RunId, Entry)>);

impl Entries {
    pub fn get(&self, run: RunId) -> Option<&Entry> {
        let place = self.place(run).ok()?;
        self.0.get(place).map(|(_, entry)| entry)
    }

    /// Puts the entry of `run` in the place of the one before, which it answers.
    pub fn insert(&mut self, run: RunId, entry: Entry) -> Option<Entry> {
        match self.place(run) {
            Ok(place) => Some(std::mem::replace(&mut self.0[place].1, entry)),
            Err(place) => {
                self.0.reserve_exact(1);
                self.0.insert(place, (run, entry));
                None
            }
        }
    }

    pub fn remove(&mut self, run: RunId) -> Option<Entry> {
        let place = self.place(run).ok()?;
        let (_, entry) = self.0.remove(place);
        self.0.shrink_to_fit();
        Some(entry)
    }

    pub fn iter(&self) -> impl Iterator<Item = (RunId, &Entry)> {
        self.0.iter().map(|(run, entry)| (*run, entry))
    }

    pub fn values(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().map(|(_, entry)| entry)
    }

    /// Where the entry of `run` is, or has to go.
    fn place(&self, run: RunId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&run, |(run, _)| *run)
    }
}
