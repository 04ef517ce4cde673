//! Which runs a key listens to no more, and how long it has to remember them by name.
//!
//! A call of a closed run may come at any time, and so may a second telling that it is closed: whoever
//! sends it may have stood still for ever so long. A run is forgotten only when its closing, and every
//! one before it, is folded wherever it has to be. What remains of those that are forgotten is one
//! number: a telling of a closing up to it is no news, and a run without an entry has to show by a later
//! floor that it is open.

use serde::{Deserialize, Serialize};

use super::message::{Call, CloseCall, CloseStep};
use crate::domain::ids::RunId;

/// How many times [`CloseCall::fenced_max`] a key remembers of runs whose closings are not folded
/// everywhere.
pub const UNFOLDED_FACTOR: u64 = 16;

/// The closed runs of one key. Most have none, and of these nothing is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fences(Option<Box<Closed>>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Closed {
    /// Latest last.
    fences: Vec<Fence>,
    /// Closings up to this one are folded everywhere, and some of their runs are not in `fences`.
    folded_through: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Fence {
    run: RunId,
    /// The number of its closing, once that is folded here.
    closed_seq: Option<u64>,
}

impl Fence {
    /// Whether its closing is folded, here and everywhere.
    fn is_folded_through(self, folded_through: u64) -> bool {
        self.closed_seq.is_some_and(|closed_seq| closed_seq <= folded_through)
    }
}

impl Fences {
    /// Whether the run is known to be closed.
    pub fn has(&self, run: RunId) -> bool {
        self.fences().iter().any(|fence| fence.run == run)
    }

    /// The closing that a floor has to be as late as, for a run without an entry: it may be closed, and
    /// forgotten since. `None`: the floor of `call` is, or nobody was forgotten.
    pub fn asks_proof(&self, call: &Call) -> Option<u64> {
        let open_at = call.floor.as_ref().map_or(0, |floor| floor.closed_seq);
        let folded_through = self.folded_through();
        (open_at < folded_through).then_some(folded_through)
    }

    /// Whether this closing is folded here.
    pub fn is_folded(&self, run: RunId, closed_seq: u64) -> bool {
        closed_seq <= self.folded_through()
            || self.fences().iter().any(|fence| fence.run == run && fence.closed_seq.is_some())
    }

    /// Whether one more run cannot be remembered. The closing that all later ones wait for always can:
    /// once it is folded everywhere, others are forgotten.
    pub fn is_crowded(&self, call: &CloseCall) -> bool {
        let next = call.folded_through.saturating_add(1);
        if matches!(call.step, CloseStep::Fold { closed_seq, .. } if closed_seq <= next) {
            return false;
        }
        let unfolded =
            self.fences().iter().filter(|fence| !fence.is_folded_through(call.folded_through));
        unfolded.count() as u64 >= call.fenced_max.saturating_mul(UNFOLDED_FACTOR)
            && !self.has(call.run)
    }

    /// Remembers the run of `call`, with the number of its closing if that is folded here now, and
    /// forgets whom it may for it.
    pub fn remember(&mut self, call: &CloseCall, closed_seq: Option<u64>) {
        let Closed { fences, folded_through } = &mut **self.0.get_or_insert_default();
        match fences.iter_mut().find(|fence| fence.run == call.run) {
            Some(fence) => fence.closed_seq = fence.closed_seq.or(closed_seq),
            None => fences.push(Fence { run: call.run, closed_seq }),
        }
        while fences.len() as u64 > call.fenced_max {
            let oldest =
                fences.iter().position(|fence| fence.is_folded_through(call.folded_through));
            let Some(oldest) = oldest else { break };
            let forgotten = fences.remove(oldest).closed_seq.unwrap_or(0);
            *folded_through = (*folded_through).max(forgotten);
        }
    }

    fn fences(&self) -> &[Fence] {
        self.0.as_ref().map_or(&[], |closed| &closed.fences)
    }

    fn folded_through(&self) -> u64 {
        self.0.as_ref().map_or(0, |closed| closed.folded_through)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    /// The closing of a run of this number, with 1 fence kept and none folded everywhere.
    fn step(number: u64, step: CloseStep) -> CloseCall {
        let run = RunId(Uuid::from_u128(number.into()));
        CloseCall { epoch: 1, run, step, folded_through: 0, fenced_max: 1, retention: None }
    }

    fn fold(closed_seq: u64) -> CloseCall {
        let fold = CloseStep::Fold { closed_seq, used: 0, undone: 0, forfeit: 0 };
        step(closed_seq, fold)
    }

    #[test]
    fn a_crowded_key_lets_the_closing_in_that_all_others_wait_for() {
        let mut fences = Fences::default();
        for later in 2..2 + UNFOLDED_FACTOR {
            assert!(!fences.is_crowded(&fold(later)), "{later}");
            fences.remember(&fold(later), Some(later));
        }
        assert!(fences.is_crowded(&fold(99)));
        assert!(fences.is_crowded(&step(99, CloseStep::Fence)));
        assert!(!fences.is_crowded(&fold(1)));
        fences.remember(&fold(1), Some(1));
        // Now all are folded, and the next makes room for itself.
        let next = CloseCall { folded_through: 1 + UNFOLDED_FACTOR, ..fold(99) };
        assert!(!fences.is_crowded(&next));
        fences.remember(&next, Some(99));
        assert_eq!((fences.fences().len(), fences.folded_through()), (1, 1 + UNFOLDED_FACTOR));
    }
}
