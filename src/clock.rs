//! Where `now` comes from. Only the edges hold a [`Clock`]; everything below is handed the time.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;

/// A source of the present instant.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's wall clock.
    System,
    /// A clock that stands still until it is moved; for tests and for `--now`.
    Manual(Arc<Mutex<Timestamp>>),
}

impl Clock {
    /// A clock that stands at `now` until [`Clock::set`] moves it.
    pub fn manual(now: Timestamp) -> Self {
        Self::Manual(Arc::new(Mutex::new(now)))
    }

    /// The present instant.
    #[allow(clippy::disallowed_methods)] // The one place that may ask the machine.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Manual(at) => *at.lock().unwrap_or_else(|poisoned| poisoned.into_inner()),
        }
    }

    /// Moves a manual clock; the machine's own clock is never moved.
    pub fn set(&self, now: Timestamp) {
        if let Self::Manual(at) = self {
            *at.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = now;
        }
    }
}
