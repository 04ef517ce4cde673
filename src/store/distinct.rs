//! Hard limits on distinct counts: the shared set of the values that were counted.
//!
//! A sidecar asks once for each value that is new to it. A value is admitted when it is in the set
//! already, or when there is room for it below the ceiling; then it is in the set from that step
//! on, so that no two sidecars can both take the last place. Values are never taken out: one that
//! was admitted and then not recorded stays counted until the window ends.
//!
//! The set holds hashes (see [`crate::domain::distinct`]) and is exact up to
//! [`EXACT_VALUES_MAX`] of them, the highest ceiling that there can be.
//!
//! **Losing data.** A set of an earlier epoch counts as absent, and an absent set is founded on what
//! the ledger has: [`DistinctAnswer::NeedFloor`]. Values that open runs counted and did not flush
//! are not in it, so in an epoch that is not recovered nothing new is admitted. Each run re-sends
//! the values that it has counted ([`DistinctCall::known`]) before it reports that it has told
//! everything. Runs that were closed instead have flushed theirs by the time the epoch is recovered,
//! so a set that was founded before then asks for a second floor, to be read after. Sets only grow,
//! so that all of this may come in any order and more than once.

use std::{collections::BTreeSet, time::Duration};

use super::error::StoreError;
use crate::{
    domain::distinct::{DistinctCount, EXACT_VALUES_MAX, hash},
    leases::message::Epoch,
};

/// One message of a run to a distinct count.
#[derive(Clone, Debug, PartialEq)]
pub struct DistinctCall {
    pub epoch: Epoch,
    /// What is to be admitted.
    pub admit: Option<Admit>,
    /// What the run has counted already, whatever the ceiling.
    pub known: Option<Box<DistinctCount>>,
    /// What the ledger has; brought when the set asked for it, and read after `epoch` was.
    pub floor: Option<Box<DistinctCount>>,
    /// Forget the set after this long, unless another call comes; `None` = never.
    pub retention: Option<Duration>,
}

/// One value that wants to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admit {
    /// Hash of the value.
    pub hash: u64,
    /// Most distinct values per window; at most [`EXACT_VALUES_MAX`].
    pub ceiling: u64,
}

/// The answer to a [`DistinctCall`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DistinctAnswer {
    /// `admitted`: the value counts (also when it did before). Without a value it is false.
    Counted { admitted: bool, count: u64 },
    /// The value is not known, and the epoch not recovered: nothing new can be admitted yet.
    Recovering { count: u64 },
    /// The set is absent: call again with a floor.
    NeedFloor,
    /// The counters live in a later epoch than the call.
    StaleEpoch { epoch: u64 },
    /// The counters are not those that the call's epoch was made for: they have lost data since.
    EpochLost,
}

impl DistinctCall {
    /// Asks for `value`, at most `ceiling` distinct ones.
    pub fn admit(epoch: Epoch, value: &str, ceiling: u64) -> Self {
        let admit = Some(Admit { hash: hash(value), ceiling });
        Self { epoch, admit, known: None, floor: None, retention: None }
    }

    /// Tells what a run has counted.
    pub fn tell(epoch: Epoch, known: DistinctCount) -> Self {
        Self { epoch, admit: None, known: Some(Box::new(known)), floor: None, retention: None }
    }

    /// Whether the limit can be held exactly.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self.admit {
            Some(Admit { ceiling, .. }) if ceiling > EXACT_VALUES_MAX as u64 => {
                Err(StoreError::DistinctLimit { limit: ceiling })
            }
            _ => Ok(()),
        }
    }
}

/// The set as a state machine: what `distinct.lua` does in Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DistinctState {
    epoch: u64,
    /// The count is at least this: there are values that are not in the set, because their number
    /// was beyond the exact size where they were counted.
    at_least: u64,
    /// Its floor was read before the epoch was recovered.
    is_provisional: bool,
    hashes: BTreeSet<u64>,
}

impl DistinctState {
    /// Applies a call to the set in `slot` (absent = `None`). `alive`: the counters still are the
    /// ones that the call's epoch was made for.
    pub fn apply(slot: &mut Option<Self>, alive: bool, call: &DistinctCall) -> DistinctAnswer {
        if !alive {
            return DistinctAnswer::EpochLost;
        }
        let epoch = call.epoch.number;
        if let Some(newer) = slot.as_ref().map(|set| set.epoch).filter(|known| *known > epoch) {
            return DistinctAnswer::StaleEpoch { epoch: newer };
        }
        let known = slot.as_ref().filter(|set| set.epoch == epoch);
        if known.is_none_or(|set| set.is_provisional && call.epoch.recovered) {
            let Some(floor) = &call.floor else { return DistinctAnswer::NeedFloor };
            let known = slot.take().filter(|set| set.epoch == epoch);
            let mut founded = known.unwrap_or_else(|| Self { epoch, ..Self::default() });
            founded.take_in(floor);
            founded.is_provisional = !call.epoch.recovered;
            *slot = Some(founded);
        }
        // Founded above if it was absent.
        slot.as_mut().map_or(DistinctAnswer::NeedFloor, |set| set.serve(call))
    }

    /// The number of values.
    pub fn count(&self) -> u64 {
        self.at_least.max(self.hashes.len() as u64)
    }

    fn take_in(&mut self, values: &DistinctCount) {
        let Some(hashes) = values.hashes() else {
            self.at_least = self.at_least.max(values.count());
            return;
        };
        for hash in hashes {
            if !self.hashes.contains(hash) && !self.insert(*hash) {
                self.at_least = self.at_least.max(EXACT_VALUES_MAX as u64 + 1);
            }
        }
    }

    /// Whether there was room.
    fn insert(&mut self, hash: u64) -> bool {
        self.hashes.len() < EXACT_VALUES_MAX && self.hashes.insert(hash)
    }

    fn serve(&mut self, call: &DistinctCall) -> DistinctAnswer {
        if let Some(known) = &call.known {
            self.take_in(known);
        }
        let admitted = match call.admit {
            None => false,
            Some(Admit { hash, .. }) if self.hashes.contains(&hash) => true,
            Some(_) if !call.epoch.recovered => {
                return DistinctAnswer::Recovering { count: self.count() };
            }
            Some(Admit { hash, ceiling }) => self.count() < ceiling && self.insert(hash),
        };
        DistinctAnswer::Counted { admitted, count: self.count() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Epoch = Epoch { number: 1, recovered: true };
    const UNRECOVERED: Epoch = Epoch { number: 2, recovered: false };

    fn count_of(values: impl IntoIterator<Item = u64>) -> DistinctCount {
        let mut count = DistinctCount::new();
        for value in values {
            count.insert(&value.to_string());
        }
        count
    }

    fn founded_on(values: impl IntoIterator<Item = u64>) -> Option<DistinctState> {
        let mut slot = None;
        let floor = Some(Box::new(count_of(values)));
        let call = DistinctCall { floor, ..DistinctCall::tell(EPOCH, DistinctCount::new()) };
        DistinctState::apply(&mut slot, true, &call);
        slot
    }

    fn admit(slot: &mut Option<DistinctState>, epoch: Epoch, value: u64) -> DistinctAnswer {
        let call = DistinctCall::admit(epoch, &value.to_string(), 3);
        DistinctState::apply(slot, true, &call)
    }

    #[test]
    fn the_last_place_is_given_once_and_known_values_pass() {
        let mut slot = founded_on(0..2);
        assert_eq!(
            admit(&mut slot, EPOCH, 2),
            DistinctAnswer::Counted { admitted: true, count: 3 }
        );
        assert_eq!(
            admit(&mut slot, EPOCH, 3),
            DistinctAnswer::Counted { admitted: false, count: 3 }
        );
        assert_eq!(
            admit(&mut slot, EPOCH, 0),
            DistinctAnswer::Counted { admitted: true, count: 3 }
        );
    }

    #[test]
    fn a_set_of_an_earlier_epoch_is_absent_and_nothing_new_passes_before_recovery() {
        let mut slot = founded_on(0..1);
        assert_eq!(admit(&mut slot, UNRECOVERED, 0), DistinctAnswer::NeedFloor);
        let floor = Some(Box::new(count_of(0..1)));
        let tell = DistinctCall { floor, ..DistinctCall::tell(UNRECOVERED, count_of([7])) };
        assert_eq!(
            DistinctState::apply(&mut slot, true, &tell),
            DistinctAnswer::Counted { admitted: false, count: 2 }
        );
        assert_eq!(admit(&mut slot, UNRECOVERED, 5), DistinctAnswer::Recovering { count: 2 });
        assert_eq!(
            admit(&mut slot, UNRECOVERED, 7),
            DistinctAnswer::Counted { admitted: true, count: 2 }
        );
        assert_eq!(admit(&mut slot, EPOCH, 7), DistinctAnswer::StaleEpoch { epoch: 2 });
    }

    #[test]
    fn a_set_founded_before_recovery_takes_a_second_floor_before_it_admits() {
        let mut slot = None;
        let floor = |values: std::ops::Range<u64>| Some(Box::new(count_of(values)));
        let early = DistinctCall { floor: floor(0..1), ..DistinctCall::admit(UNRECOVERED, "9", 3) };
        let answer = DistinctState::apply(&mut slot, true, &early);
        assert_eq!(answer, DistinctAnswer::Recovering { count: 1 });
        let recovered = Epoch { recovered: true, ..UNRECOVERED };
        assert_eq!(admit(&mut slot, recovered, 9), DistinctAnswer::NeedFloor);
        // Meanwhile a dead run's journal was flushed: its values take the places that are left.
        let late = DistinctCall { floor: floor(0..3), ..DistinctCall::admit(recovered, "9", 3) };
        let answer = DistinctState::apply(&mut slot, true, &late);
        assert_eq!(answer, DistinctAnswer::Counted { admitted: false, count: 3 });
        let answer = admit(&mut slot, recovered, 2);
        assert_eq!(answer, DistinctAnswer::Counted { admitted: true, count: 3 });
    }

    #[test]
    fn beyond_the_exact_size_nothing_new_is_admitted() {
        let beyond = EXACT_VALUES_MAX as u64 + 10;
        for mut slot in [founded_on(0..beyond), founded_on(0..1)] {
            let tell = DistinctCall::tell(EPOCH, count_of(5..beyond));
            DistinctState::apply(&mut slot, true, &tell);
            assert!(slot.as_ref().unwrap().count() > EXACT_VALUES_MAX as u64);
            let answer = admit(&mut slot, EPOCH, 1 << 40);
            assert!(matches!(answer, DistinctAnswer::Counted { admitted: false, .. }));
        }
    }

    #[test]
    fn two_exact_sets_that_are_too_many_together_are_more_than_any_ceiling() {
        let half = EXACT_VALUES_MAX as u64 / 2;
        let mut slot = founded_on(0..half + 10);
        let tell = DistinctCall::tell(EPOCH, count_of(half..EXACT_VALUES_MAX as u64 + 10));
        DistinctState::apply(&mut slot, true, &tell);
        assert_eq!(slot.unwrap().count(), EXACT_VALUES_MAX as u64 + 1);
    }

    #[test]
    fn a_ceiling_beyond_the_exact_size_is_refused() {
        let call = DistinctCall::admit(EPOCH, "value", EXACT_VALUES_MAX as u64 + 1);
        assert!(call.check().unwrap_err().to_string().contains("at most 4096"));
    }
}
