//! A counter that threads increment beside each other.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, CounterFn};

use crate::lanes::Lanes;

/// Counts in lanes, until that is told to the counter that is shown.
pub struct LanedCounter {
    untold: Lanes<AtomicU64>,
    shown: Counter,
}

impl LanedCounter {
    /// Counts for `shown`.
    pub fn new(shown: Counter) -> Self {
        Self { untold: Lanes::default(), shown }
    }

    /// Tells what was counted since the last time.
    pub fn tell(&self) {
        let count = self.untold.all().map(|lane| lane.swap(0, Ordering::Relaxed)).sum();
        if count > 0 {
            self.shown.increment(count);
        }
    }
}

impl CounterFn for LanedCounter {
    fn increment(&self, by: u64) {
        self.untold.own().fetch_add(by, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.shown.absolute(value);
    }
}
