//! Where `now` comes from. Only the edges hold a [`Clock`]; everything below is handed the time.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;

#[cfg(target_os = "linux")]
const STEADY: rustix::time::ClockId = rustix::time::ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const STEADY: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

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

    /// Nanoseconds since some instant in the past, for lengths of time: it never goes back, and runs
    /// on while the machine is suspended, unlike the standard library's.
    pub fn steady_ns(&self) -> u64 {
        match self {
            Self::System => {
                let now = rustix::time::clock_gettime(STEADY);
                let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
                seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
            }
            Self::Manual(_) => u64::try_from(self.now().as_nanosecond()).unwrap_or(0),
        }
    }

    /// Moves a manual clock; the machine's own clock is never moved.
    pub fn set(&self, now: Timestamp) {
        if let Self::Manual(at) = self {
            *at.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = now;
        }
    }
}
