//! Several windows of one rate: all must have room, or nothing is taken of any.

use std::sync::Arc;

use super::cell::{RateCell, Short};
use crate::domain::rate::{RateStandings, RateWindow};

/// A cell per window.
///
/// Windows are asked in their order, the shortest first, and what the earlier ones hold is let go
/// when a later one has no room. Another request that comes in between may be denied for the sake
/// of what is let go a moment later; it is never admitted too much.
#[derive(Debug)]
pub struct RateStack {
    windows: Arc<[RateWindow]>,
    cells: Box<[RateCell]>,
}

impl RateStack {
    /// Nothing used yet.
    pub fn new(windows: Arc<[RateWindow]>) -> Self {
        let cells = windows.iter().map(|_| RateCell::default()).collect();
        Self { windows, cells }
    }

    /// With what was used before of each window, in nanoseconds of debt.
    pub fn indebted(
        windows: Arc<[RateWindow]>,
        debts_ns: impl IntoIterator<Item = u64>,
        now_ns: u64,
    ) -> Self {
        let cells = windows
            .iter()
            .zip(debts_ns)
            .map(|(window, debt_ns)| RateCell::indebted(debt_ns.min(window.capacity_ns()), now_ns));
        Self { cells: cells.collect(), windows }
    }

    /// The windows.
    pub fn windows(&self) -> &Arc<[RateWindow]> {
        &self.windows
    }

    /// What this stack's permits are under other windows: a window goes on from the one of the same
    /// period, and a new one begins unused.
    pub fn with_windows(&self, windows: Arc<[RateWindow]>, now_ns: u64) -> Self {
        let cells = windows.iter().map(|window| {
            let same = self.each().find(|(old, _)| old.period == window.period);
            same.map_or_else(RateCell::default, |(old, cell)| {
                RateCell::indebted(window.converted_ns(old, cell.debt_ns(now_ns)), now_ns)
            })
        });
        Self { cells: cells.collect(), windows }
    }

    /// Takes `permits` of every window, or of none.
    pub fn take(&self, permits: u32, now_ns: u64) -> Result<(), Short> {
        if let ([window], [cell]) = (&*self.windows, &*self.cells) {
            return cell.take(window, permits, now_ns).map(drop);
        }
        self.hold(permits, now_ns)?;
        self.keep(permits, now_ns);
        Ok(())
    }

    /// Holds `permits` of every window, or of none, until they are kept or let go.
    pub fn hold(&self, permits: u32, now_ns: u64) -> Result<(), Short> {
        for (held, (window, cell)) in self.each().enumerate() {
            if cell.hold(window, permits, now_ns).is_err() {
                self.each().take(held).for_each(|(window, cell)| cell.let_go(window, permits));
                return Err(self.short(permits, now_ns));
            }
        }
        Ok(())
    }

    /// Counts held permits.
    pub fn keep(&self, permits: u32, now_ns: u64) {
        self.each().for_each(|(window, cell)| cell.keep(window, permits, now_ns));
    }

    /// Forgets that permits were held.
    pub fn let_go(&self, permits: u32) {
        self.each().for_each(|(window, cell)| cell.let_go(window, permits));
    }

    /// Whether `permits` would be admitted now.
    pub fn look(&self, permits: u32, now_ns: u64) -> Result<(), Short> {
        match self.short(permits, now_ns) {
            Short { wait_ns: Some(0) } => Ok(()),
            short => Err(short),
        }
    }

    /// Where the windows stand.
    pub fn standings(&self, now_ns: u64) -> RateStandings {
        self.each().map(|(window, cell)| window.standing(cell.debt_ns(now_ns))).collect()
    }

    /// Whether it is as good as new.
    pub fn is_unused(&self, now_ns: u64) -> bool {
        self.cells.iter().all(|cell| cell.debt_ns(now_ns) == 0)
    }

    fn each(&self) -> impl Iterator<Item = (&RateWindow, &RateCell)> {
        self.windows.iter().zip(&self.cells)
    }

    /// The longest wait of all windows.
    fn short(&self, permits: u32, now_ns: u64) -> Short {
        let mut longest_ns = 0;
        for (window, cell) in self.each() {
            match window.wait_ns(cell.debt_ns(now_ns), permits) {
                Some(wait_ns) => longest_ns = longest_ns.max(wait_ns),
                None => return Short { wait_ns: None },
            }
        }
        Short { wait_ns: Some(longest_ns) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;
    const DAY: Duration = Duration::from_secs(86_400);

    fn stack() -> RateStack {
        let windows =
            [RateWindow::new(10, Duration::from_secs(1), 10), RateWindow::new(15, DAY, 15)];
        RateStack::new(windows.into())
    }

    fn remaining(stack: &RateStack, now_ns: u64) -> Vec<u32> {
        stack.standings(now_ns).iter().map(|standing| standing.remaining).collect()
    }

    #[test]
    fn the_window_without_room_denies_and_nothing_is_taken_of_the_other() {
        let stack = stack();
        stack.take(10, 0).unwrap();
        assert_eq!(stack.take(1, 0), Err(Short { wait_ns: Some(SECOND_NS / 10) }));
        assert_eq!(remaining(&stack, 0), [0, 5]);
        stack.take(5, SECOND_NS).unwrap();
        // The day is used up; the second is not, and stays so.
        let Err(Short { wait_ns: Some(wait_ns) }) = stack.take(1, 2 * SECOND_NS) else { panic!() };
        assert_eq!(Duration::from_nanos(wait_ns), DAY / 15 - Duration::from_secs(2));
        assert_eq!(remaining(&stack, 2 * SECOND_NS), [10, 0]);
    }

    #[test]
    fn more_than_the_smallest_burst_never_passes() {
        assert_eq!(stack().take(11, 0), Err(Short { wait_ns: None }));
        assert_eq!(stack().look(11, 0), Err(Short { wait_ns: None }));
        assert_eq!(stack().look(10, 0), Ok(()));
    }

    #[test]
    fn a_hold_is_kept_or_let_go_in_all_windows() {
        let stack = stack();
        stack.hold(4, 0).unwrap();
        assert_eq!(remaining(&stack, 0), [6, 11]);
        stack.let_go(4);
        assert_eq!(remaining(&stack, 0), [10, 15]);
        assert!(stack.is_unused(0));
        stack.hold(4, 0).unwrap();
        stack.keep(4, 0);
        assert_eq!(remaining(&stack, 0), [6, 11]);
        assert!(!stack.is_unused(SECOND_NS));
        assert!(stack.is_unused(4 * 86_400 * SECOND_NS / 15));
    }

    #[test]
    fn other_limits_keep_what_was_used_under_the_same_period() {
        let stack = stack();
        stack.take(10, 0).unwrap();
        let minute = Duration::from_secs(60);
        let windows = [RateWindow::new(100, minute, 100), RateWindow::new(30, DAY, 30)];
        let changed = stack.with_windows(windows.into(), 0);
        assert_eq!(remaining(&changed, 0), [100, 20]);
    }
}
