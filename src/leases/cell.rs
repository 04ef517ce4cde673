//! The hot side of one key in one run: escrow in hand, and what was counted, as atomics.
//!
//! *Conservation*: at every moment `granted − returned = available + held + consumed`, where
//! `granted` and `returned` belong to the [`Holder`](super::holder::Holder) and `held` (units
//! between `take` and `commit` or `give_back`: requests on their way through the journal, and
//! reservations) is whatever is left over. No unit is in two places: each operation moves units
//! by one read-modify-write on `available`, so of two takers of the last unit one fails.
//!
//! *Orderings*. All changes of `available` are AcqRel read-modify-writes. Two facts hang on that:
//! - `close` stores `recalled` before it swaps `available` to 0, `give_back` adds before it loads
//!   `recalled`. Both are read-modify-writes of `available`, hence ordered: either the swap takes
//!   the units given back, or `give_back` sees `recalled` and says so. None is forgotten.
//! - The counters are read in the order undone, recorded, consumed (Acquire), and grow by Release:
//!   a report with an `undone` contains the usage that it takes back, never less.
//! - `generation` grows by Release after what may allow more has changed, and is read by Acquire
//!   before anything is decided: whoever reads a generation decides on all that it stands for.
//!
//! Everything else is Relaxed: figures for display and for sizing.
//!
//! Callers check the window themselves, before `take`, with the same `now` that stamps the event.

use super::atomics::{
    AtomicBool, AtomicI64, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// The lock-free side of a lease. Shared by all requests on one key.
///
/// In this order: the figures that every look reads lie on one cache line in a counter, and what only
/// answers write to, on the line before.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Cell {
    /// Below this a refill is worth asking for.
    low_water: AtomicU64,
    /// Escrow in hand that nobody has taken.
    available: AtomicU64,
    consumed: AtomicU64,
    recorded: AtomicU64,
    undone: AtomicU64,
    /// Usage of all other runs as of the last answer.
    used_elsewhere: AtomicI64,
    /// Forfeited units as of the last answer.
    forfeited: AtomicU64,
    /// Grows when more may be allowed than before; a remembered denial is over when it has. Begins
    /// anew after as many changes as nobody makes while a denial is remembered.
    generation: AtomicU32,
    /// A refill was asked for since the last answer.
    refill_asked: AtomicBool,
    /// The lease is closed for the sake of others.
    recalled: AtomicBool,
}

/// What [`Cell::take`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "taken units must be committed or given back"]
pub enum Take {
    /// The units are the caller's, to commit or give back.
    Taken,
    /// As `Taken`, and the caller is the one to wake the slow side for a refill.
    TakenLow,
    /// Not enough in hand; nothing was taken.
    Short,
}

/// What [`Cell::give_back`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a recalled cell has to return what was given back"]
pub enum GivenBack {
    /// The units are in hand again.
    Kept,
    /// Others are waiting for them: wake the slow side.
    Recalled,
}

/// What was counted, read in the order that makes a safe report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CellCounts {
    pub consumed: u64,
    pub recorded: u64,
    pub undone: u64,
}

/// The state that something was decided on, or an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Basis(u32);

#[cfg(test)]
impl Cell {
    /// Which of its bytes are the figures.
    pub const FIGURES: std::ops::Range<usize> =
        std::mem::offset_of!(Self, available)..std::mem::offset_of!(Self, generation);
}

impl Cell {
    /// An empty cell.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `amount` units, all or none. One compare-and-swap when nobody interferes.
    #[inline]
    pub fn take(&self, amount: u64) -> Take {
        let mut available = self.available.load(Relaxed);
        loop {
            let Some(left) = available.checked_sub(amount) else { return Take::Short };
            match self.available.compare_exchange_weak(available, left, AcqRel, Relaxed) {
                Ok(_) if left < self.low_water.load(Relaxed) => return self.taken_low(),
                Ok(_) => return Take::Taken,
                Err(now) => available = now,
            }
        }
    }

    #[cold]
    fn taken_low(&self) -> Take {
        if self.refill_asked.swap(true, Relaxed) { Take::Taken } else { Take::TakenLow }
    }

    /// Turns `amount` taken units into consumption. Call it once the journal has the event.
    #[inline]
    pub fn commit(&self, amount: u64) {
        self.consumed.fetch_add(amount, Release);
    }

    /// Puts `amount` taken units back: a roll-back, a release, what a reservation did not use.
    pub fn give_back(&self, amount: u64) -> GivenBack {
        self.available.fetch_add(amount, AcqRel);
        self.renew();
        if self.recalled.load(Acquire) { GivenBack::Recalled } else { GivenBack::Kept }
    }

    /// Counts usage that no escrow covers.
    pub fn record(&self, amount: u64) {
        self.recorded.fetch_add(amount, Release);
    }

    /// Takes counted usage back, once the ledger has committed that it is a duplicate, was
    /// quarantined, or lowers a level.
    pub fn undo(&self, amount: u64) {
        self.undone.fetch_add(amount, Release);
        self.renew();
    }

    /// More may be allowed than before: escrow came into hand, usage was taken back, or the ceiling
    /// is another. To be called after the change.
    pub fn renew(&self) {
        self.generation.fetch_add(1, Release);
    }

    /// Escrow in hand.
    #[inline]
    pub fn available(&self) -> u64 {
        self.available.load(Acquire)
    }

    /// Whether the lease is closed for the sake of others.
    pub fn is_recalled(&self) -> bool {
        self.recalled.load(Acquire)
    }

    /// What is decided on what is read after this stands until the basis is another.
    pub fn basis(&self) -> Basis {
        Basis(self.generation.load(Acquire))
    }

    /// What was counted, for a report.
    #[inline]
    pub fn counts(&self) -> CellCounts {
        // The order matters; see the module's documentation.
        let undone = self.undone.load(Acquire);
        let recorded = self.recorded.load(Acquire);
        let consumed = self.consumed.load(Acquire);
        CellCounts { consumed, recorded, undone }
    }

    /// Usage of the whole window as far as this run knows: the others' as of the last answer, its
    /// own up to now. Units taken but not committed are not in it.
    #[inline]
    pub fn used(&self) -> i64 {
        let own = self.counts();
        let own =
            own.consumed.saturating_add(own.recorded).cast_signed() - own.undone.cast_signed();
        self.used_elsewhere.load(Relaxed).saturating_add(own)
    }

    /// Units forfeited in the window as of the last answer.
    #[inline]
    pub fn forfeited(&self) -> u64 {
        self.forfeited.load(Relaxed)
    }

    /// Puts newly granted units into hand.
    pub(super) fn refill(&self, amount: u64) {
        if amount > 0 {
            self.available.fetch_add(amount, AcqRel);
            self.renew();
        }
    }

    /// Closes the lease: takes everything out of hand, to be returned, and marks the cell so that
    /// what is given back later is returned too.
    pub(super) fn close(&self) -> u64 {
        self.recalled.store(true, Release);
        self.available.swap(0, AcqRel)
    }

    /// The recall is over.
    pub(super) fn reopen(&self) {
        self.recalled.store(false, Release);
    }

    /// Goes on from the totals that an earlier cell of this run left behind.
    pub(super) fn resume(&self, counts: CellCounts) {
        self.consumed.fetch_add(counts.consumed, Release);
        self.recorded.fetch_add(counts.recorded, Release);
        self.undone.fetch_add(counts.undone, Release);
    }

    /// Arms the low-water mark for the next refill.
    pub(super) fn arm(&self, low_water: u64) {
        self.low_water.store(low_water, Relaxed);
        self.refill_asked.store(false, Relaxed);
    }

    /// Whether a request has found the cell low since the last answer.
    pub(super) fn is_low(&self) -> bool {
        self.refill_asked.load(Relaxed)
    }

    /// Notes what the last answer told of the rest of the world.
    pub(super) fn observe(&self, used_elsewhere: i64, forfeited: u64) {
        self.used_elsewhere.store(used_elsewhere, Relaxed);
        self.forfeited.store(forfeited, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn a_take_is_all_or_nothing() {
        let cell = Cell::new();
        cell.refill(10);
        assert_eq!(cell.take(11), Take::Short);
        assert_eq!(cell.available(), 10);
        assert_eq!(cell.take(10), Take::Taken);
        assert_eq!(cell.take(1), Take::Short);
        assert_eq!(cell.take(0), Take::Taken, "an event of amount 0 needs no escrow");
    }

    #[test]
    fn only_the_first_to_find_the_cell_low_wakes_the_slow_side() {
        let cell = Cell::new();
        cell.refill(10);
        cell.arm(3);
        assert_eq!(cell.take(7), Take::Taken);
        assert_eq!(cell.take(1), Take::TakenLow);
        assert_eq!(cell.take(1), Take::Taken);
        cell.arm(3);
        assert_eq!(cell.take(1), Take::TakenLow);
    }

    #[test]
    fn what_is_given_back_to_a_closed_cell_asks_to_be_returned() {
        let cell = Cell::new();
        cell.refill(10);
        assert_eq!(cell.take(4), Take::Taken);
        assert_eq!(cell.close(), 6);
        assert_eq!(cell.give_back(4), GivenBack::Recalled);
        assert_eq!(cell.close(), 4);
        cell.reopen();
        assert_eq!(cell.give_back(0), GivenBack::Kept);
    }

    #[test]
    fn racing_takers_closers_and_givers_neither_lose_nor_make_units() {
        const UNITS: u64 = 20_000;
        let cell = Arc::new(Cell::new());
        cell.refill(UNITS);
        let takers: Vec<_> = (1..=3)
            .map(|amount| {
                let cell = Arc::clone(&cell);
                thread::spawn(move || {
                    let mut spent = 0;
                    while cell.take(amount) != Take::Short {
                        if spent % 5 == 0 {
                            let _ = cell.give_back(amount);
                            spent += 1;
                            cell.record(1);
                        } else {
                            cell.commit(amount);
                            spent += amount;
                        }
                    }
                })
            })
            .collect();
        let mut closed = 0;
        for _ in 0..50 {
            closed += cell.close();
            cell.refill(closed / 2);
            closed -= closed / 2;
        }
        takers.into_iter().for_each(|taker| taker.join().unwrap());
        assert_eq!(cell.counts().consumed + closed + cell.close(), UNITS);
    }

    /// What may happen to a cell, with an amount.
    const REFILL: u8 = 0;
    const TAKE: u8 = 1;
    const COMMIT: u8 = 2;
    const GIVE_BACK: u8 = 3;
    const CLOSE: u8 = 4;
    const REOPEN: u8 = 5;

    proptest::proptest! {
        #[test]
        fn units_are_taken_all_or_not_at_all_and_none_is_lost_or_made(
            steps in proptest::collection::vec((REFILL..=REOPEN, 0u64..20), 0..60),
        ) {
            let cell = Cell::new();
            let (mut granted, mut returned, mut held, mut recalled) = (0, 0, 0, false);
            for (step, amount) in steps {
                let in_hand = cell.available();
                match step {
                    REFILL => {
                        cell.refill(amount);
                        granted += amount;
                    }
                    TAKE => {
                        let taken = cell.take(amount) != Take::Short;
                        proptest::prop_assert_eq!(taken, amount <= in_hand);
                        held += if taken { amount } else { 0 };
                    }
                    COMMIT => {
                        let amount = amount.min(held);
                        cell.commit(amount);
                        held -= amount;
                    }
                    GIVE_BACK => {
                        let amount = amount.min(held);
                        let found = cell.give_back(amount);
                        proptest::prop_assert_eq!(found == GivenBack::Recalled, recalled);
                        held -= amount;
                    }
                    CLOSE => {
                        returned += cell.close();
                        recalled = true;
                    }
                    _ => {
                        cell.reopen();
                        recalled = false;
                    }
                }
                let consumed = cell.counts().consumed;
                proptest::prop_assert_eq!(
                    granted - returned,
                    cell.available() + held + consumed
                );
            }
        }
    }
}
