//! What a key knows of its runs.

use serde::{Deserialize, Serialize};

use super::{
    heir,
    message::{Call, Totals},
};
use crate::domain::{amount::AMOUNT_MAX, ids::RunId};

/// What a key knows of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// What a key knows of each of its open runs. Most keys have one run, which is kept in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entries {
    One((RunId, Entry)),
    /// None, or more than one, in the order of their ids. Few keys have more than a dozen: a list that is
    /// as long as there are runs takes the least memory.
    Many(Vec<(RunId, Entry)>),
}

impl Default for Entries {
    fn default() -> Self {
        Self::Many(vec![])
    }
}

impl Entries {
    pub fn get(&self, run: RunId) -> Option<&Entry> {
        let place = self.place(run).ok()?;
        self.all().get(place).map(|(_, entry)| entry)
    }

    /// Puts the entry of `run` in the place of the one before, which it answers.
    pub fn insert(&mut self, run: RunId, entry: Entry) -> Option<Entry> {
        match self.place(run) {
            Ok(place) => Some(std::mem::replace(&mut self.all_mut()[place].1, entry)),
            Err(place) => {
                let mut all = Vec::with_capacity(self.all().len() + 1);
                all.extend_from_slice(self.all());
                all.insert(place, (run, entry));
                *self = Self::of(all);
                None
            }
        }
    }

    pub fn remove(&mut self, run: RunId) -> Option<Entry> {
        let place = self.place(run).ok()?;
        let mut all = self.all().to_vec();
        let (_, entry) = all.remove(place);
        *self = Self::of(all);
        Some(entry)
    }

    pub fn iter(&self) -> impl Iterator<Item = (RunId, &Entry)> {
        self.all().iter().map(|(run, entry)| (*run, entry))
    }

    pub fn values(&self) -> impl Iterator<Item = &Entry> {
        self.all().iter().map(|(_, entry)| entry)
    }

    fn of(mut all: Vec<(RunId, Entry)>) -> Self {
        match all.as_slice() {
            [one] => Self::One(*one),
            _ => {
                all.shrink_to_fit();
                Self::Many(all)
            }
        }
    }

    fn all(&self) -> &[(RunId, Entry)] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(all) => all,
        }
    }

    fn all_mut(&mut self) -> &mut [(RunId, Entry)] {
        match self {
            Self::One(one) => std::slice::from_mut(one),
            Self::Many(all) => all,
        }
    }

    /// Where the entry of `run` is, or has to go.
    fn place(&self, run: RunId) -> Result<usize, usize> {
        self.all().binary_search_by_key(&run, |(run, _)| *run)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn runs_come_and_go_and_stay_in_the_order_of_their_ids() {
        let run = |number| RunId(Uuid::from_u128(number));
        let entry = |flushed| Entry { flushed, ..Entry::default() };
        let mut entries = Entries::default();
        for number in [2, 3, 1] {
            assert_eq!(entries.insert(run(number), entry(7)), None);
        }
        assert_eq!(entries.insert(run(2), entry(8)), Some(entry(7)));
        assert_eq!(entries.iter().map(|(run, _)| run).collect::<Vec<_>>(), [1, 2, 3].map(run));
        assert_eq!(
            (entries.remove(run(3)), entries.remove(run(1))),
            (Some(entry(7)), Some(entry(7)))
        );
        assert_eq!(entries, Entries::One((run(2), entry(8))));
        assert_eq!((entries.get(run(2)), entries.get(run(3))), (Some(&entry(8)), None));
        assert_eq!((entries.remove(run(2)), entries), (Some(entry(8)), Entries::default()));
    }
}
