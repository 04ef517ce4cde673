//! What happened in a world.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The latest events that are kept, at most.
const TRACE_MAX: usize = 300;

/// The latest events of a world; outlives it.
#[derive(Clone, Default)]
pub(super) struct Trace(Arc<Mutex<VecDeque<String>>>);

impl Trace {
    pub(super) fn note(&self, event: String) {
        let mut events = self.events();
        if events.len() == TRACE_MAX {
            events.pop_front();
        }
        events.push_back(event);
    }

    fn events(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.events().iter().try_for_each(|event| writeln!(f, "{event}"))
    }
}
