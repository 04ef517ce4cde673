//! One counter in this sidecar: the lock-free cell that requests take from, and the slow side that
//! a driver works for it.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::{futures::OwnedNotified, oneshot};

use super::{
    slow::Slow,
    slow_side::{SlowGuard, SlowSide},
    waiters::Verdict,
};
use crate::{
    domain::{bounds::Bounds, cell_key::CellKey, window::Window},
    leases::{
        cell::Cell,
        holder::Holder,
        message::{Ceiling, Totals},
        onlookers::Onlookers,
        seat::Seat,
    },
};

/// One (tenant, meter, subject, window) of a summed meter.
///
/// In this order: what a look reads of a counter, from the window's start to the figures of the cell,
/// takes two cache lines, and only the second of them is written to by every CONSUME, nothing else of
/// the counter is; the first, by who begins or ends to look on, and by the driver, some times a second.
/// The count of those who share the counter, which each of them writes to, is elsewhere.
#[derive(Debug)]
#[repr(C)]
pub struct Counter {
    pub key: CellKey,
    pub window: Bounds,
    pub onlookers: Onlookers,
    /// When it was last used, seconds since the start of the run.
    used_at_s: AtomicU32,
    seat: Seat,
    /// Everything was returned and told at the end of its life; it may be dropped.
    is_retired: AtomicBool,
    /// The counter of the window after has been made.
    has_next: AtomicBool,
    /// When the last answer came, milliseconds since the start of the run; 0 = never.
    answered_at_ms: AtomicU64,
    /// Units held by reservations, for display.
    pub reserved: AtomicU64,
    pub cell: Cell,
    /// Journal position of its latest event, as the ledger's mark counts.
    journalled_to: AtomicU64,
    slow: SlowSide,
}

/// What a counter that was dropped in mid-window leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    totals: Totals,
    refused: u64,
    /// Whether the journal says that this run touches the key.
    is_opened: bool,
}

impl Counter {
    /// A counter with nothing in hand.
    pub fn new(key: CellKey, window: Window, ceiling: Ceiling) -> Self {
        Self::with(key, window, Cell::new(), Slow::new(Holder::new(), ceiling))
    }

    /// The counter of a key that this run has had before.
    pub fn resumed(key: CellKey, window: Window, ceiling: Ceiling, left: Left) -> Self {
        let cell = Cell::new();
        let holder = Holder::resumed(&cell, left.totals);
        let mut slow = Slow::new(holder, ceiling);
        (slow.refused, slow.is_opened) = (left.refused, left.is_opened);
        Self::with(key, window, cell, slow)
    }

    /// What has to be kept of it when it is dropped in mid-window.
    pub fn left(&self) -> Left {
        self.look_at_slow(|slow| Left {
            totals: slow.holder.totals(&self.cell),
            refused: slow.refused,
            is_opened: slow.is_opened,
        })
    }

    fn with(key: CellKey, window: Window, cell: Cell, slow: Slow) -> Self {
        Self {
            key,
            window: window.bounds(),
            cell,
            slow: SlowSide::new(slow),
            seat: Seat::default(),
            onlookers: Onlookers::default(),
            answered_at_ms: AtomicU64::new(0),
            is_retired: AtomicBool::new(false),
            reserved: AtomicU64::new(0),
            used_at_s: AtomicU32::new(0),
            journalled_to: AtomicU64::new(0),
            has_next: AtomicBool::new(false),
        }
    }

    /// The slow side, to be changed.
    pub fn slow(&self) -> SlowGuard<'_> {
        self.slow.lock()
    }

    /// What `look` says of the slow side, which stays as it is.
    pub fn look_at_slow<R>(&self, look: impl FnOnce(&Slow) -> R) -> R {
        self.slow.look(look)
    }

    /// Takes over a newer ceiling; whether it was newer.
    pub fn set_ceiling(&self, ceiling: Ceiling) -> bool {
        let mut slow = self.slow();
        let is_newer = ceiling.version > Ceiling::from(slow.ceiling).version;
        if is_newer {
            slow.ceiling = ceiling.into();
            self.cell.renew();
        }
        is_newer
    }

    /// What a remembered denial left remaining, if it still holds for `amount` at `now`.
    pub fn remembered_denial(&self, amount: u64, now: Duration) -> Option<u64> {
        self.slow.repeated_denial(&self.cell, amount, now)
    }

    /// Whether more is in hand than the limit leaves, as far as this sidecar knows.
    pub fn is_beyond_limit(&self) -> bool {
        let in_hand = self.cell.available();
        if in_hand == 0 {
            return false;
        }
        let ceiling = self.look_at_slow(|slow| Ceiling::from(slow.ceiling).units);
        let ceiling = ceiling.map_or(i64::MAX, |units| i64::try_from(units).unwrap_or(i64::MAX));
        self.cell.used().saturating_add_unsigned(in_hand) > ceiling
    }

    /// Notes that an event for this counter was handed to the journal at `position`.
    pub fn journalled(&self, position: u64, now: Duration) {
        self.journalled_to.fetch_max(position, Ordering::Relaxed);
        self.touch(now);
    }

    /// Takes back units that were counted, and then not kept by the journal.
    pub fn refuse(&self, units: u64) {
        self.slow().refused += units;
        self.cell.undo(units);
    }

    /// Units of what is undone of which the ledger knows nothing. When the counter is dropped, they
    /// are to be kept for [`Counter::resumed`].
    pub fn refused(&self) -> u64 {
        self.look_at_slow(|slow| slow.refused)
    }

    /// Takes back what the ledger has undone of this run in all, as far as that is not done. Only
    /// the flusher calls it. The units that it took back.
    pub fn undo_to(&self, total: u64) -> u64 {
        let done = self.cell.counts().undone.saturating_sub(self.refused());
        let units = total.saturating_sub(done);
        self.cell.undo(units);
        units
    }

    /// Notes that a call has come back; `answered` unless it failed.
    pub fn called(&self, answered: Option<Duration>) {
        if let Some(now) = answered {
            self.answered_at_ms.store(millis(now).max(1), Ordering::Relaxed);
        }
        let called = self.slow.take_bell(|bells| bells.called.take());
        if let Some(called) = called {
            called.notify_waiters();
        }
    }

    /// Waits until a call comes back that is sent after this.
    pub fn next_call(&self) -> OwnedNotified {
        self.slow().bells().called.get_or_insert_default().clone().notified_owned()
    }

    /// Whether an answer has come since it was made.
    pub fn is_answered(&self) -> bool {
        self.answered_at_ms.load(Ordering::Relaxed) != 0
    }

    /// How long ago the last answer came; `None` = there was none.
    pub fn answer_age(&self, now: Duration) -> Option<Duration> {
        match self.answered_at_ms.load(Ordering::Relaxed) {
            0 => None,
            at => Some(now.saturating_sub(Duration::from_millis(at))),
        }
    }

    /// Notes a use.
    #[inline]
    pub fn touch(&self, now: Duration) {
        let now_s = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        // Never back, for one who began long ago; and a place that all cores look at is not written
        // to for every check.
        if self.used_at_s.load(Ordering::Relaxed) < now_s {
            self.used_at_s.fetch_max(now_s, Ordering::Relaxed);
        }
    }

    /// Whether it has not been used since `since`, and all that was is in the ledger.
    pub fn is_idle(&self, since: Duration, flushed_to: u64) -> bool {
        // Both in whole seconds: never sooner than it is.
        u64::from(self.used_at_s.load(Ordering::Relaxed)) < since.as_secs()
            && self.journalled_to.load(Ordering::Relaxed) <= flushed_to
            && self.reserved.load(Ordering::Relaxed) == 0
    }

    /// Has the driver, if there is one, look now.
    pub fn wake_driver(&self) {
        self.wake_driver_after(|_| {});
    }

    /// Queues a request for `amount`, and has the driver, if there is one, look now.
    pub fn queue(&self, amount: u64) -> oneshot::Receiver<Verdict> {
        self.wake_driver_after(|slow| slow.waiters.push(amount))
    }

    /// Has the driver, if there is one, look at what `change` has changed.
    fn wake_driver_after<T>(&self, change: impl FnOnce(&mut Slow) -> T) -> T {
        let mut slow = self.slow();
        let changed = change(&mut slow);
        self.seat.wake();
        let wake = slow.wake_bell();
        drop(slow);
        // Whoever is woken runs code of its own. Rung late, it costs the driver one look too many.
        if let Some(wake) = wake {
            wake.notify_one();
        }
        changed
    }

    /// Waits for [`Counter::wake_driver`]; not if that was called since the last [`Counter::look`].
    ///
    /// All three hold the lock of the slow side: who wakes comes before the driver looks, which then
    /// sees what has changed, or before it hangs its bell up, and finds itself woken, or finds the
    /// bell, to ring it once the lock is let go.
    pub async fn woken(&self) {
        let wake = {
            let mut slow = self.slow();
            if self.seat.is_woken() {
                return;
            }
            slow.bells().wake.get_or_insert_default().clone()
        };
        wake.notified().await;
    }

    /// Notes that the driver looks now, at what `slow` guards and at the cell.
    pub fn look(&self, _slow: &Slow) {
        self.seat.look();
    }

    /// Notes whether everything is returned and told, and nothing more expected.
    pub fn set_retired(&self, is_retired: bool) {
        self.is_retired.store(is_retired, Ordering::Release);
    }

    /// Whether everything is returned and told, and nothing more expected.
    pub fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Acquire)
    }

    /// Has an idle counter give back what it holds and say good-bye, to be dropped afterwards.
    pub fn part(&self, retention: Option<Duration>) {
        let mut slow = self.slow();
        slow.parted_at = Some(self.journalled_to.load(Ordering::Relaxed));
        slow.holder.part(retention);
    }

    /// Whether it was asked to part and has counted nothing since.
    pub fn has_parted(&self) -> bool {
        self.look_at_slow(|slow| self.has_parted_by(slow))
    }

    /// As [`Counter::has_parted`], by its slow side.
    pub fn has_parted_by(&self, slow: &Slow) -> bool {
        slow.parted_at == Some(self.journalled_to.load(Ordering::Relaxed))
    }

    /// Whether it can be dropped, unless somebody is about to count on it.
    pub fn is_done(&self) -> bool {
        self.is_retired() && self.has_parted() && self.reserved.load(Ordering::Relaxed) == 0
    }

    /// It is in use again after all.
    pub fn revive(&self) {
        let mut slow = self.slow();
        slow.parted_at = None;
        slow.holder.revive();
    }

    /// Whether the caller is the one to make the counter of the window after.
    pub fn claim_next(&self) -> bool {
        !self.has_next.swap(true, Ordering::Relaxed)
    }

    /// Whether the journal knows that this run touches the key.
    pub fn is_opened(&self) -> bool {
        self.look_at_slow(|slow| slow.is_opened)
    }

    /// Notes that the journal knows that this run touches the key.
    pub fn set_opened(&self) {
        self.slow().is_opened = true;
    }

    /// When it was last used, since the start of the run, to the second before.
    pub fn used_at(&self) -> Duration {
        Duration::from_secs(self.used_at_s.load(Ordering::Relaxed).into())
    }

    /// What it leaves behind for [`Counter::resumed`].
    pub fn totals(&self) -> Totals {
        self.look_at_slow(|slow| slow.holder.totals(&self.cell))
    }

    /// Whether a driver has to be started; the caller is the one to start it. To be called after the
    /// change that the driver has to see.
    pub fn needs_driver(&self) -> bool {
        self.seat.needs_driver()
    }

    /// The driver has ended before its time: whoever comes next starts another.
    pub fn abandon(&self, slow: &mut Slow) {
        // As in [`Counter::leave`].
        slow.take_bell(|bells| bells.wake.take());
        self.seat.abandon();
    }

    /// The driver has nothing to do. Whether it may go; if not, something came up meanwhile.
    pub fn leave(&self) -> bool {
        // Before it gives up the seat: afterwards the bell may be another driver's, who sleeps.
        self.slow.take_bell(|bells| bells.wake.take());
        self.seat.leave(|| {
            self.look_at_slow(|slow| {
                !slow.waiters.is_empty() || !slow.holder.is_settled(&self.cell)
            })
        })
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{mem::offset_of, pin::pin};

    use futures::{FutureExt, poll};
    use jiff::Timestamp;

    use super::*;

    fn counter() -> Counter {
        let label = "day:0:1".parse().unwrap();
        let key = CellKey {
            tenant: "acme".parse().unwrap(),
            meter: "calls".parse().unwrap(),
            subject: None,
            label,
        };
        let window = Window { label, start: Timestamp::UNIX_EPOCH, end: None };
        let ceiling = Ceiling { units: Some(100), version: 1 };
        Counter::new(key, window, ceiling)
    }

    #[test]
    fn a_counter_and_those_who_share_it_take_no_more_than_224_bytes() {
        // Beyond, the allocator's next size is 256.
        assert!(size_of::<Counter>() + 2 * size_of::<usize>() <= 224);
    }

    #[test]
    fn what_a_look_reads_takes_two_cache_lines() {
        const LINE: usize = 64;
        // Before it, in the same piece of memory, are two counts of those who share it.
        let at = |offset| (2 * size_of::<usize>() + offset) / LINE;
        let window = offset_of!(Counter, window);
        let known = [
            window,
            window + size_of::<Bounds>() - 1,
            offset_of!(Counter, onlookers),
            offset_of!(Counter, used_at_s),
            offset_of!(Counter, answered_at_ms),
            offset_of!(Counter, reserved),
        ];
        assert_eq!(known.map(at), [1; 6]);
        let figures = offset_of!(Counter, cell) + Cell::FIGURES.start;
        let journalled_to = offset_of!(Counter, journalled_to);
        let written = [figures, figures + Cell::FIGURES.len() - 1, journalled_to];
        assert_eq!(written.map(at), [2; 3]);
    }

    #[tokio::test]
    async fn a_driver_that_is_woken_before_or_while_it_sleeps_looks_again() {
        let counter = counter();
        counter.look(&counter.slow());
        counter.wake_driver();
        assert!(counter.woken().now_or_never().is_some(), "woken since it looked");
        counter.look(&counter.slow());
        let mut sleep = pin!(counter.woken());
        assert!(poll!(&mut sleep).is_pending());
        counter.wake_driver();
        assert!(poll!(&mut sleep).is_ready());
        counter.look(&counter.slow());
        let mut sleep = pin!(counter.woken());
        assert!(poll!(&mut sleep).is_pending());
        let _verdict = counter.queue(1);
        assert!(poll!(&mut sleep).is_ready(), "a request waits");
    }

    #[test]
    fn a_driver_that_ends_before_its_time_takes_its_bell_down() {
        let counter = counter();
        assert!(counter.needs_driver());
        assert!(counter.woken().now_or_never().is_none(), "nobody has woken it");
        assert!(counter.slow().wake_bell().is_some());
        counter.abandon(&mut counter.slow());
        assert!(counter.slow().wake_bell().is_none());
        assert!(counter.needs_driver(), "whoever comes next starts another");
    }

    #[tokio::test]
    async fn who_waits_for_a_call_hears_of_it_though_the_driver_has_left() {
        let counter = counter();
        let mut called = pin!(counter.next_call());
        assert!(poll!(&mut called).is_pending());
        assert!(counter.needs_driver() && counter.leave());
        assert!(poll!(&mut called).is_pending());
        counter.called(None);
        assert!(poll!(&mut called).is_ready());
    }
}
