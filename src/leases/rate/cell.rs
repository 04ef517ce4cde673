//! One window of a rate in this process, on one atomic.
//!
//! *State*: the theoretical arrival time (when the debt is paid off, in nanoseconds of the caller's
//! clock) and what is held (permits that may still be let go, as nanoseconds of debt). Both are
//! halves of one 128-bit atomic, so each operation is one compare-and-swap.
//!
//! *Invariant*: after each operation at `now`, `max(tat − now, 0) + held ≤ capacity`. Taking and
//! holding check it; keeping moves the same amount from one side to the other; time and letting go
//! only lower the left side. Permits count from when they are *kept* (or were held, where that is a
//! moment before), so what is kept within any
//! interval of length `t` costs at most `t + capacity`: at most `rate × t + burst`. A hold that is
//! let go never was, whatever happened meanwhile; that could not be said if it were subtracted from
//! an arrival time that it had been added to, since part of it may have been paid off.
//!
//! A clock that stands still or goes back only delays.

use portable_atomic::{AtomicU128, Ordering::AcqRel, Ordering::Acquire};

use crate::domain::rate::RateWindow;

/// The state of one window. Shared by all requests on one key.
#[derive(Debug, Default)]
pub struct RateCell {
    state: AtomicU128,
}

/// Not enough permits; nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// How long until there are, in nanoseconds, if nobody takes any and what is held is kept;
    /// `None` = more than the burst.
    pub wait_ns: Option<u64>,
}

/// The atomic's halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    arrival_ns: u64,
    held_ns: u64,
}

impl State {
    fn unpack(packed: u128) -> Self {
        // The lower half, on purpose.
        #[allow(clippy::cast_possible_truncation)]
        Self { arrival_ns: (packed >> 64) as u64, held_ns: packed as u64 }
    }

    fn pack(self) -> u128 {
        u128::from(self.arrival_ns) << 64 | u128::from(self.held_ns)
    }

    /// Held permits count as debt: they may still be kept.
    fn debt_ns(self, now_ns: u64) -> u64 {
        self.arrival_ns.saturating_sub(now_ns).saturating_add(self.held_ns)
    }

    fn with_debt(self, cost_ns: u64, now_ns: u64) -> Self {
        let arrival_ns = self.arrival_ns.max(now_ns).saturating_add(cost_ns);
        Self { arrival_ns, ..self }
    }
}

impl RateCell {
    /// A cell with a debt.
    pub fn indebted(debt_ns: u64, now_ns: u64) -> Self {
        let state = State { arrival_ns: now_ns.saturating_add(debt_ns), held_ns: 0 };
        Self { state: AtomicU128::new(state.pack()) }
    }

    /// Takes `permits`, all or none. The debt after it.
    #[inline]
    pub fn take(&self, window: &RateWindow, permits: u32, now_ns: u64) -> Result<u64, Short> {
        self.change_if_room(window, permits, now_ns, |state, cost_ns| {
            state.with_debt(cost_ns, now_ns)
        })
    }

    /// Holds `permits`, all or none, until they are kept or let go. The debt with them.
    #[inline]
    pub fn hold(&self, window: &RateWindow, permits: u32, now_ns: u64) -> Result<u64, Short> {
        self.change_if_room(window, permits, now_ns, |state, cost_ns| State {
            held_ns: state.held_ns + cost_ns,
            ..state
        })
    }

    /// Counts held permits.
    pub fn keep(&self, window: &RateWindow, permits: u32, now_ns: u64) {
        let cost_ns = window.cost_ns(permits);
        self.change(|state| State {
            held_ns: state.held_ns.saturating_sub(cost_ns),
            ..state.with_debt(cost_ns, now_ns)
        });
    }

    /// Forgets that permits were held.
    pub fn let_go(&self, window: &RateWindow, permits: u32) {
        let cost_ns = window.cost_ns(permits);
        self.change(|state| State { held_ns: state.held_ns.saturating_sub(cost_ns), ..state });
    }

    /// The debt, held permits included, in nanoseconds.
    #[inline]
    pub fn debt_ns(&self, now_ns: u64) -> u64 {
        State::unpack(self.state.load(Acquire)).debt_ns(now_ns)
    }

    #[inline]
    fn change_if_room(
        &self,
        window: &RateWindow,
        permits: u32,
        now_ns: u64,
        change: impl Fn(State, u64) -> State,
    ) -> Result<u64, Short> {
        let cost_ns = window.cost_ns(permits);
        let capacity_ns = window.capacity_ns();
        let mut packed = self.state.load(Acquire);
        loop {
            let state = State::unpack(packed);
            let debt_ns = state.debt_ns(now_ns);
            let wanted_ns = debt_ns.saturating_add(cost_ns);
            if wanted_ns > capacity_ns {
                return Err(Short { wait_ns: window.wait_ns(debt_ns, permits) });
            }
            let changed = change(state, cost_ns).pack();
            match self.state.compare_exchange_weak(packed, changed, AcqRel, Acquire) {
                Ok(_) => return Ok(wanted_ns),
                Err(current) => packed = current,
            }
        }
    }

    fn change(&self, change: impl Fn(State) -> State) {
        let mut packed = self.state.load(Acquire);
        loop {
            let changed = change(State::unpack(packed)).pack();
            match self.state.compare_exchange_weak(packed, changed, AcqRel, Acquire) {
                Ok(_) => return,
                Err(current) => packed = current,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    fn window(permits: u32, burst: u32) -> RateWindow {
        RateWindow::new(permits, Duration::from_secs(1), burst)
    }

    #[test]
    fn a_burst_passes_at_once_and_then_one_per_interval() {
        let (cell, window) = (RateCell::default(), window(10, 3));
        for left in [2, 1, 0] {
            let debt_ns = cell.take(&window, 1, 0).unwrap();
            assert_eq!(window.standing(debt_ns).remaining, left);
        }
        assert_eq!(cell.take(&window, 1, 0), Err(Short { wait_ns: Some(100 * MS) }));
        assert_eq!(cell.take(&window, 1, 99 * MS), Err(Short { wait_ns: Some(MS) }));
        assert!(cell.take(&window, 1, 100 * MS).is_ok());
        assert_eq!(cell.take(&window, 2, 100 * MS), Err(Short { wait_ns: Some(200 * MS) }));
        assert_eq!(cell.take(&window, 4, 100 * MS), Err(Short { wait_ns: None }));
    }

    #[test]
    fn what_was_held_and_let_go_never_was() {
        let (cell, window) = (RateCell::default(), window(1, 2));
        cell.take(&window, 1, 0).unwrap();
        let before_ns = cell.debt_ns(900 * MS);
        cell.hold(&window, 1, 0).unwrap();
        assert!(cell.take(&window, 1, 900 * MS).is_err());
        cell.let_go(&window, 1);
        assert_eq!(cell.debt_ns(900 * MS), before_ns);
        assert!(cell.take(&window, 1, 900 * MS).is_ok());
        assert!(cell.take(&window, 1, 999 * MS).is_err());
    }

    #[test]
    fn a_clock_that_goes_back_admits_nothing_more() {
        let (cell, window) = (RateCell::default(), window(1, 1));
        cell.take(&window, 1, 1_000 * MS).unwrap();
        assert!(cell.take(&window, 1, 0).is_err());
        assert!(cell.take(&window, 1, 2_000 * MS).is_ok());
    }

    #[derive(Clone, Debug)]
    enum Act {
        Wait(u64),
        Take(u32),
        Hold(u32),
        /// The hold of that number, if there is one.
        Keep(usize),
        /// The same, to count from when it was held.
        KeepAsHeld(usize),
        LetGo(usize),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (0..400 * MS).prop_map(Act::Wait),
            (1..4_u32).prop_map(Act::Take),
            (1..4_u32).prop_map(Act::Hold),
            (0..4_usize).prop_map(Act::Keep),
            (0..4_usize).prop_map(Act::KeepAsHeld),
            (0..4_usize).prop_map(Act::LetGo),
        ]
    }

    proptest! {
        #[test]
        fn no_interval_has_more_than_the_rate_and_the_burst(
            permits in 1_u32..20,
            burst in 1_u32..8,
            acts in proptest::collection::vec(act(), 0..200),
        ) {
            let (cell, window) = (RateCell::default(), window(permits, burst));
            let (mut now_ns, mut holds, mut kept) = (0, vec![], vec![]);
            for act in acts {
                match act {
                    Act::Wait(ns) => now_ns += ns,
                    Act::Take(n) => if cell.take(&window, n, now_ns).is_ok() {
                        kept.push((now_ns, n));
                    },
                    Act::Hold(n) => if cell.hold(&window, n, now_ns).is_ok() {
                        holds.push((now_ns, n));
                    },
                    Act::Keep(which) if which < holds.len() => {
                        let (_, n) = holds.remove(which);
                        cell.keep(&window, n, now_ns);
                        kept.push((now_ns, n));
                    }
                    Act::KeepAsHeld(which) if which < holds.len() => {
                        let (held_at_ns, n) = holds.remove(which);
                        cell.keep(&window, n, held_at_ns);
                        kept.push((held_at_ns, n));
                    }
                    Act::LetGo(which) if which < holds.len() => {
                        cell.let_go(&window, holds.remove(which).1);
                    }
                    Act::Keep(_) | Act::KeepAsHeld(_) | Act::LetGo(_) => {}
                }
            }
            kept.sort_unstable();
            for (from, (begin_ns, _)) in kept.iter().enumerate() {
                let mut sum = 0;
                for (end_ns, n) in &kept[from..] {
                    sum += u64::from(*n);
                    let bound_ns = window.capacity_ns() + (end_ns - begin_ns);
                    prop_assert!(sum * window.interval_ns() <= bound_ns);
                }
            }
        }

        #[test]
        fn whoever_waits_as_long_as_told_is_admitted_and_not_a_nanosecond_earlier(
            permits in 1_u32..5_000_000,
            burst in 1_u32..1_000,
            used in 0_u32..1_000,
            wanted in 1_u32..1_000,
        ) {
            let (cell, window) = (RateCell::default(), window(permits, burst));
            prop_assume!(used <= window.burst && wanted <= window.burst);
            cell.take(&window, used, 0).unwrap();
            match cell.take(&window, wanted, 0) {
                Ok(_) => {}
                Err(Short { wait_ns }) => {
                    let wait_ns = wait_ns.unwrap();
                    prop_assert!(cell.take(&window, wanted, wait_ns - 1).is_err());
                    prop_assert!(cell.take(&window, wanted, wait_ns).is_ok());
                }
            }
        }
    }

    #[test]
    fn threads_that_race_share_the_burst_exactly() {
        let (cell, window) = (RateCell::default(), window(1, 1_000));
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|number| {
                    let (cell, window) = (&cell, &window);
                    scope.spawn(move || {
                        let mut taken = 0;
                        for round in 0..1_000 {
                            if (round + number) % 3 == 0 {
                                if cell.hold(window, 1, 0).is_ok() {
                                    cell.let_go(window, 1);
                                }
                            } else if cell.take(window, 1, 0).is_ok() {
                                taken += 1;
                            }
                        }
                        taken
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 1_000);
        assert_eq!(cell.debt_ns(0), window.capacity_ns());
    }
}
