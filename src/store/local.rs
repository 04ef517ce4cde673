//! The counters in this process, for a sidecar that runs alone.

use dashmap::DashMap;

use crate::{
    domain::cell_key::CellKey,
    leases::{
        key::KeyState,
        message::{Answer, Call, CloseAnswer, CloseCall},
    },
};

/// The counters in this process: the same state machines that the scripts mirror. They begin empty,
/// so every key asks for its floor first.
#[derive(Debug, Default)]
pub struct LocalCounters {
    keys: DashMap<CellKey, Option<KeyState>>,
}

impl LocalCounters {
    /// No counters yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies a call to the key.
    pub fn call(&self, key: &CellKey, call: &Call) -> Answer {
        // There is one run here, so nobody has to be told of a recall.
        let (answer, _) = {
            let mut slot = self.keys.entry(key.clone()).or_default();
            KeyState::apply(&mut slot, true, call)
        };
        // The only run is done with the window.
        let done = call.retention.is_some() && matches!(answer, Answer::Counted(_));
        if done || matches!(answer, Answer::NeedFloor { .. }) {
            self.keys.remove_if(key, |_, slot| {
                slot.as_ref().is_none_or(|state| done && state.outstanding() == 0)
            });
        }
        answer
    }

    /// Applies a step of a run's closing to the key.
    pub fn close(&self, key: &CellKey, call: &CloseCall) -> CloseAnswer {
        // An absent key needs no stub here: floors do not travel.
        match self.keys.get_mut(key) {
            Some(mut slot) => KeyState::close(&mut slot, true, call),
            None => CloseAnswer::Absent,
        }
    }
}
