//! How fast a cell spends, in whole units per second.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Shortest stretch that a rate is measured over, in milliseconds. A chunk that is gone within it
/// makes the next one about ten times as large, so that a cell reaches its size in a few calls.
const STRETCH_MS_MIN: u64 = 100;

/// The rate of spending lately: the latest measurement, or the one before decaying by half a second
/// at a time, whichever is more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Demand {
    per_second: u64,
    spent: u64,
}

impl Demand {
    /// Takes note that `spent` units (a running total) have been spent, `elapsed` after the last
    /// time, or after the start of the run.
    pub(super) fn observe(&mut self, spent: u64, elapsed: Duration) {
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let newly = spent.saturating_sub(self.spent);
        let measured = newly.saturating_mul(1000) / elapsed_ms.max(STRETCH_MS_MIN);
        let kept = u128::from(2000 - elapsed_ms.min(1000));
        let decayed = u128::from(self.per_second) * kept / 2000;
        let decayed = u64::try_from(decayed).unwrap_or(self.per_second);
        self.per_second = measured.max(decayed);
        self.spent = spent;
    }

    /// Units per second.
    pub(super) fn per_second(&self) -> u64 {
        self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_counts_at_once_and_is_forgotten_by_halves() {
        let mut demand = Demand::default();
        demand.observe(100, Duration::from_millis(1));
        assert_eq!(demand.per_second(), 1000);
        demand.observe(100, Duration::from_millis(1000));
        assert_eq!(demand.per_second(), 500);
        demand.observe(900, Duration::from_millis(1000));
        assert_eq!(demand.per_second(), 800);
    }
}
