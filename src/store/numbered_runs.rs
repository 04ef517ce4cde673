//! The runs that counters in this process know, by numbers.
//!
//! A run's id is 16 random bytes, a third of what there is to keep of most counters. Where counters and
//! run are of one process, a small number says the same.

use std::sync::{PoisonError, RwLock};

use uuid::Uuid;

use crate::{
    domain::ids::RunId,
    leases::message::{Call, CloseCall},
};

/// The runs in the order in which they came: this process', and in tests a few others.
#[derive(Debug, Default)]
pub(super) struct NumberedRuns {
    /// Held for a look-up; written when a run comes.
    known: RwLock<Vec<RunId>>,
}

impl NumberedRuns {
    /// `call` as the counters hear it.
    pub fn call(&self, call: &Call) -> Call {
        let mut call = call.clone();
        call.run = self.number(call.run);
        for open in call.floor.iter_mut().flat_map(|floor| &mut floor.open_runs) {
            open.run = self.number(open.run);
        }
        call
    }

    /// `call` as the counters hear it.
    pub fn close_call(&self, call: &CloseCall) -> CloseCall {
        CloseCall { run: self.number(call.run), ..*call }
    }

    /// The run that the counters have by `number`.
    pub fn run(&self, number: RunId) -> RunId {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let place = usize::try_from(number.0.as_u128()).ok();
        place.and_then(|place| known.get(place).copied()).unwrap_or(number)
    }

    fn number(&self, run: RunId) -> RunId {
        let place = |known: &[RunId]| known.iter().position(|known| *known == run);
        let known = place(&self.known.read().unwrap_or_else(PoisonError::into_inner));
        let number = known.unwrap_or_else(|| {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            place(&known).unwrap_or_else(|| {
                known.push(run);
                known.len() - 1
            })
        });
        RunId(Uuid::from_u128(number as u128))
    }
}
