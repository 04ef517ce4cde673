//! The counters in this process, for a sidecar that runs alone.

use super::{
    distinct::{DistinctAnswer, DistinctCall, DistinctState},
    error::StoreError,
    inspect::Inspection,
    numbered_runs::NumberedRuns,
    packed_shelf::PackedShelf,
    shelf::{Keep, Shelf},
};
use crate::{
    domain::cell_key::CellKey,
    leases::{
        key::KeyState,
        message::{Answer, Call, CloseAnswer, CloseCall},
    },
};

/// Counters, and distinct counts, that one process holds at most.
const KEYS_MAX: usize = 2_000_000;

/// The counters in this process: the same state machines that the scripts mirror. They begin empty,
/// so every key asks for its floor first.
#[derive(Debug)]
pub struct LocalCounters {
    counters: PackedShelf<KeyState>,
    runs: NumberedRuns,
    distinct: Shelf<DistinctState>,
    /// How calls get here and back; absent: at once.
    #[cfg(test)]
    way: Option<super::far::Way>,
}

impl Default for LocalCounters {
    fn default() -> Self {
        Self::new()
    }
}

impl LocalCounters {
    /// No counters yet.
    pub fn new() -> Self {
        Self {
            counters: PackedShelf::new(KEYS_MAX),
            runs: NumberedRuns::default(),
            distinct: Shelf::new(KEYS_MAX),
            #[cfg(test)]
            way: None,
        }
    }

    /// Whether they stand in for shared ones.
    #[cfg(test)]
    pub fn is_far(&self) -> bool {
        self.way.is_some()
    }

    /// No counters yet, at the end of `way`.
    #[cfg(test)]
    pub fn far(way: super::far::Way) -> Self {
        Self { way: Some(way), ..Self::new() }
    }

    /// Applies a call to the key, if it gets here; the answer may be lost all the same.
    #[cfg(test)]
    pub async fn call_from_afar(&self, key: &CellKey, call: &Call) -> Result<Answer, StoreError> {
        use super::far::Half;
        let Some(way) = &self.way else { return self.call(key, call) };
        way.go(Half::There).await?;
        let answer = self.call(key, call)?;
        way.go(Half::Back).await?;
        Ok(answer)
    }

    /// Applies a call to the key.
    pub fn call(&self, key: &CellKey, call: &Call) -> Result<Answer, StoreError> {
        let call = &self.runs.call(call);
        self.counters.apply(key, |slot| {
            // There is one run here, so nobody has to be told of a recall.
            let (answer, _) = KeyState::apply(slot, true, call);
            // The only run is done with the window. What is held is never forgotten.
            let is_idle = slot.as_ref().is_none_or(|state| state.outstanding() == 0);
            let is_done = call.retention.is_some() && matches!(answer, Answer::Counted(_));
            (answer, if is_done && is_idle { Keep::No } else { Keep::Yes })
        })
    }

    /// Applies a step of a run's closing to the key.
    pub fn close(&self, key: &CellKey, call: &CloseCall) -> Result<CloseAnswer, StoreError> {
        let call = &self.runs.close_call(call);
        // An absent key remembers the closing, too: a floor may be on its way that was read before.
        self.counters.apply(key, |slot| (KeyState::close(slot, true, call), Keep::Yes))
    }

    /// Applies a call to the key's distinct count.
    pub fn distinct(
        &self,
        key: &CellKey,
        call: &DistinctCall,
    ) -> Result<DistinctAnswer, StoreError> {
        call.check()?;
        self.distinct.apply(key, |slot| {
            let answer = DistinctState::apply(slot, true, call);
            (answer, if call.retention.is_some() { Keep::No } else { Keep::Yes })
        })
    }

    /// One counter as it stands.
    pub fn inspect(&self, key: &CellKey) -> Option<Inspection> {
        let mut seen = self.counters.get(key).as_ref().and_then(Inspection::of)?;
        seen.runs.iter_mut().for_each(|one| one.run = self.runs.run(one.run));
        Some(seen)
    }

    /// Forgets a key of which nobody makes a counter any more, unless something of it is outstanding.
    ///
    /// Should somebody have begun one just before, it is founded again: on the usage of earlier runs,
    /// beside which this run tells all that it has ever done.
    pub fn forget_over(&self, key: &CellKey) {
        let forgotten = self.counters.apply(key, |slot| {
            let is_idle = slot.as_ref().is_none_or(|state| state.outstanding() == 0);
            ((), if is_idle { Keep::No } else { Keep::Yes })
        });
        // There is no room for a key that is not there, nor need there be.
        drop(forgotten);
    }

    /// Gives the memory back that forgotten counters took.
    pub fn shrink(&self) {
        self.counters.shrink();
        self.distinct.shrink();
    }

    /// All counters, in no order.
    pub fn keys(&self) -> Vec<CellKey> {
        self.counters.keys()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::ids::RunId,
        leases::message::{Ask, Ceiling, Epoch, Floor, Totals},
        store::shelf::tests::key,
    };

    /// A call of the only run, which has got and returned so much, and wants so much more.
    fn call(sequence: u64, (granted, returned): (u64, u64), need_to: u64) -> Call {
        Call {
            run: RunId(Uuid::from_u128(7)),
            epoch: Epoch { number: 1, recovered: true },
            sequence,
            totals: Totals { granted, returned, ..Totals::default() },
            ceiling: Ceiling { units: Some(100), version: 1 },
            ask: Ask { want: 1, need_to, wanted_to: need_to, target: need_to, last: false },
            closed: false,
            depose: None,
            retention: None,
            floor: Some(Box::new(Floor::default())),
        }
    }

    #[test]
    fn a_key_whose_window_is_over_is_forgotten_once_nothing_of_it_is_outstanding() {
        let (counters, key) = (LocalCounters::new(), key("acme"));
        counters.call(&key, &call(1, (0, 0), 10)).unwrap();
        counters.forget_over(&key);
        assert_eq!(counters.inspect(&key).unwrap().outstanding, 10, "somebody may spend it");
        counters.call(&key, &call(2, (10, 10), 0)).unwrap();
        assert!(counters.inspect(&key).is_some());
        counters.forget_over(&key);
        assert!(counters.inspect(&key).is_none() && counters.keys().is_empty());
        counters.forget_over(&key);
        assert!(counters.keys().is_empty());
    }
}
