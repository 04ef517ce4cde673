//! Small worlds of two or three threads on one cell, each asserting what must hold whatever the
//! order. Loom plays them in every order.

use std::{sync::Arc as PlainArc, time::Duration};

use loom::{
    sync::{
        Arc, Mutex, MutexGuard, Notify,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{
    cell::{Basis, Cell, GivenBack, Take},
    denials::Denied,
    onlookers::{Onlookers, Standing},
    seat::Seat,
};

/// Takes `amount` and consumes it; what it consumed.
fn consume(cell: &Cell, amount: u64) -> u64 {
    match cell.take(amount) {
        Take::Short => 0,
        Take::Taken | Take::TakenLow => {
            cell.commit(amount);
            amount
        }
    }
}

/// Two requests want more together than was granted.
pub fn takers_never_take_more_than_was_granted() {
    let cell = Arc::new(Cell::new());
    cell.refill(3);
    let other = {
        let cell = cell.clone();
        thread::spawn(move || consume(&cell, 2))
    };
    let consumed = consume(&cell, 2) + other.join().unwrap();
    assert_eq!(consumed, 2, "one of two gets what is enough for one");
    assert_eq!(cell.counts().consumed + cell.available(), 3);
}

/// A lease is closed and returned while a request takes and another gives back.
pub fn what_a_close_returns_is_not_admitted_and_nothing_is_stranded() {
    let cell = Arc::new(Cell::new());
    cell.refill(3);
    let taker = {
        let cell = cell.clone();
        thread::spawn(move || consume(&cell, 1))
    };
    let giver = {
        let cell = cell.clone();
        thread::spawn(move || match cell.take(2) {
            Take::Short => GivenBack::Kept,
            Take::Taken | Take::TakenLow => cell.give_back(2),
        })
    };
    let mut returned = cell.close();
    let consumed = taker.join().unwrap();
    if giver.join().unwrap() == GivenBack::Recalled {
        // Told so, the slow side returns what has come back.
        returned += cell.close();
    }
    assert_eq!(cell.available(), 0, "units are stranded in a closed cell");
    assert_eq!(consumed + returned, 3, "lost or made");
}

/// As a slow side would do it that says what it returns before it closes.
pub fn returned_before_closed() {
    let cell = Arc::new(Cell::new());
    cell.refill(2);
    let taker = {
        let cell = cell.clone();
        thread::spawn(move || consume(&cell, 1))
    };
    let returned = cell.available();
    let _ = cell.close();
    assert!(taker.join().unwrap() + returned <= 2, "what was returned was admitted, too");
}

/// A cell that has parted, and is still held by a request that looked it up before.
pub fn a_cell_that_has_parted_never_admits() {
    let cell = Arc::new(Cell::new());
    cell.refill(2);
    let held = {
        let cell = cell.clone();
        thread::spawn(move || consume(&cell, 1) + consume(&cell, 1))
    };
    let returned = cell.close();
    // From here on the slow side knows: nothing is outstanding but what was taken before.
    assert_eq!(consume(&cell, 1), 0, "a parted cell admits");
    assert_eq!(held.join().unwrap() + returned, 2);
    assert_eq!(cell.counts().consumed + returned, 2);
}

/// A refill races with the takers and the end of a recall.
pub fn a_refill_reaches_the_takers_and_is_counted_once() {
    let cell = Arc::new(Cell::new());
    let taker = {
        let cell = cell.clone();
        thread::spawn(move || consume(&cell, 1))
    };
    let slow = {
        let cell = cell.clone();
        thread::spawn(move || {
            cell.refill(2);
            cell.reopen();
            cell.arm(1);
        })
    };
    let early = consume(&cell, 1);
    let late = taker.join().unwrap();
    slow.join().unwrap();
    assert_eq!(early + late + cell.close(), 2);
}

/// The flusher undoes what a request has consumed while a report is made.
pub fn a_report_never_undoes_what_it_does_not_contain() {
    let cell = Arc::new(Cell::new());
    cell.refill(1);
    let consumed = Arc::new(Mutex::new(false));
    let request = {
        let (cell, consumed) = (cell.clone(), consumed.clone());
        thread::spawn(move || {
            consume(&cell, 1);
            cell.record(1);
            *consumed.lock().unwrap() = true;
        })
    };
    let flusher = {
        let cell = cell.clone();
        thread::spawn(move || {
            // It has read in the journal what the request wrote there.
            if *consumed.lock().unwrap() {
                cell.undo(2);
            }
        })
    };
    let counts = cell.counts();
    assert!(counts.undone <= counts.consumed + counts.recorded, "{counts:?}");
    request.join().unwrap();
    flusher.join().unwrap();
}

/// Two requests find the cell low.
pub fn only_one_of_those_who_find_it_low_wakes_the_slow_side() {
    let cell = Arc::new(Cell::new());
    cell.refill(2);
    cell.arm(3);
    let other = {
        let cell = cell.clone();
        thread::spawn(move || cell.take(1))
    };
    let takes = [cell.take(1), other.join().unwrap()];
    let low = takes.iter().filter(|take| **take == Take::TakenLow).count();
    assert_eq!(low, 1, "{takes:?}");
}

/// A counter as its driver sees it.
#[derive(Default)]
struct Driven {
    cell: Cell,
    seat: Seat,
    /// As the slow side's lock.
    slow: Mutex<Slow>,
}

#[derive(Default)]
struct Slow {
    /// What was told of the cell: the rest is counted and not told yet.
    told: u64,
    /// Wakes the driver before its time. Not in loom's own `Arc`, which aborts when it is dropped on the
    /// way out of a deadlock.
    wake: Option<PlainArc<Notify>>,
}

impl Driven {
    fn slow(&self) -> MutexGuard<'_, Slow> {
        self.slow.lock().unwrap()
    }

    fn look(&self) {
        let mut slow = self.slow();
        self.seat.look();
        slow.told = self.cell.counts().consumed;
    }

    fn drive(&self) {
        loop {
            self.look();
            if self.leave() {
                return;
            }
        }
    }

    fn leave(&self) -> bool {
        self.slow().wake = None;
        self.seat.leave(|| self.slow().told != self.cell.counts().consumed)
    }

    fn change(&self) {
        let _ = consume(&self.cell, 1);
        if self.seat.needs_driver() {
            self.drive();
        }
    }

    fn wake(&self) {
        let slow = self.slow();
        self.seat.wake();
        let wake = slow.wake.clone();
        drop(slow);
        if let Some(wake) = wake {
            wake.notify();
        }
    }

    fn sleep(&self, is_woken: fn(&Seat) -> bool) {
        let mut slow = self.slow();
        if is_woken(&self.seat) {
            return;
        }
        let wake = slow.wake.get_or_insert_default().clone();
        drop(slow);
        wake.wait();
    }
}

/// Requests change the counter while its driver is about to leave.
pub fn no_change_is_left_without_a_driver() {
    let driven = Arc::new(Driven::default());
    driven.cell.refill(2);
    let other = {
        let driven = driven.clone();
        thread::spawn(move || driven.change())
    };
    driven.change();
    other.join().unwrap();
    assert_eq!(driven.cell.counts().consumed, 2);
    assert_eq!(driven.slow().told, 2, "nobody was told of a change");
}

/// Two requests change the counter; the driver of one of them sleeps until it has seen what both did.
fn driven_by_one_that_sleeps(look: fn(&Driven), is_woken: fn(&Seat) -> bool) {
    let driven = PlainArc::new(Driven::default());
    driven.cell.refill(2);
    let change = move |driven: &Driven| {
        let _ = consume(&driven.cell, 1);
        driven.wake();
        if !driven.seat.needs_driver() {
            return;
        }
        loop {
            look(driven);
            if driven.slow().told < 2 {
                driven.sleep(is_woken);
            } else if driven.leave() {
                return;
            }
        }
    };
    let other = {
        let driven = driven.clone();
        thread::spawn(move || change(&driven))
    };
    change(&driven);
    other.join().unwrap();
    assert_eq!(driven.slow().told, 2, "nobody was told of a change");
}

/// As the drivers of the product do it.
pub fn no_change_is_slept_through() {
    driven_by_one_that_sleeps(Driven::look, Seat::is_woken);
}

/// The driver hangs its bell up without asking whether it was woken before.
pub fn slept_though_woken() {
    driven_by_one_that_sleeps(Driven::look, |_| false);
}

/// The driver notes that it looks when it has looked, and the lock is let go.
pub fn looked_outside_the_lock() {
    let look = |driven: &Driven| {
        driven.slow().told = driven.cell.counts().consumed;
        driven.seat.look();
    };
    driven_by_one_that_sleeps(look, Seat::is_woken);
}

/// A driver denies one unit, on what it reads and on the basis that `decide` gives, while a request
/// gives a unit back.
fn denied_while_a_unit_comes_back(decide: fn(&Cell) -> (Basis, u64)) {
    let cell = Arc::new(Cell::new());
    let kept = Arc::new(Mutex::new(None));
    cell.refill(1);
    assert_eq!(cell.take(1), Take::Taken);
    let driver = {
        let (cell, kept) = (cell.clone(), kept.clone());
        thread::spawn(move || {
            let (basis, remaining) = decide(&cell);
            if remaining == 0 {
                *kept.lock().unwrap() = Some(Denied { remaining, basis, until: Duration::MAX });
            }
        })
    };
    let _ = cell.give_back(1);
    driver.join().unwrap();
    assert_eq!(cell.available(), 1);
    let denied = kept.lock().unwrap().filter(|denied| !denied.is_over(&cell, Duration::ZERO));
    let repeated = denied.and_then(|denied| denied.repeated(1));
    assert_eq!(repeated, None, "a denial is repeated though there is enough again");
}

/// As the drivers of the product do it.
pub fn a_denial_ends_when_something_comes_back() {
    denied_while_a_unit_comes_back(|cell| {
        let basis = cell.basis();
        (basis, cell.available())
    });
}

/// The basis is read when all is decided.
pub fn denied_on_a_late_basis() {
    denied_while_a_unit_comes_back(|cell| {
        let remaining = cell.available();
        (cell.basis(), remaining)
    });
}

/// A counter that its owner, somebody who uses it and an onlooker share is about to be dropped,
/// while the onlooker goes as `go` does it.
fn dropped_while_an_onlooker_goes(go: fn(&Onlookers, &AtomicUsize)) {
    let onlookers = Arc::new(Onlookers::default());
    let holders = Arc::new(AtomicUsize::new(3));
    onlookers.join();
    let onlooker = {
        let (onlookers, holders) = (onlookers.clone(), holders.clone());
        thread::spawn(move || go(&onlookers, &holders))
    };
    let is_in_use = onlookers.are_not_alone(|| holders.load(Ordering::Relaxed));
    assert!(is_in_use, "a counter is dropped that somebody uses");
    onlooker.join().unwrap();
}

/// As the product does it, with the holders counted as `std::sync::Arc` counts them.
pub fn an_onlooker_that_goes_hides_nobody() {
    dropped_while_an_onlooker_goes(|onlookers, holders| {
        onlookers.leave();
        holders.fetch_sub(1, Ordering::Release);
    });
}

/// The onlooker lets go of the counter before it leaves.
pub fn let_go_before_left() {
    dropped_while_an_onlooker_goes(|onlookers, holders| {
        holders.fetch_sub(1, Ordering::Release);
        onlookers.leave();
    });
}

/// Terms are replaced, of which a counter's onlookers are told, while one looks the terms up.
fn replaced_while_one_comes(come: fn(&Onlookers, &AtomicUsize) -> (usize, Option<Standing>)) {
    let onlookers = Arc::new(Onlookers::default());
    let terms = Arc::new(AtomicUsize::new(1));
    let replacing = {
        let (onlookers, terms) = (onlookers.clone(), terms.clone());
        thread::spawn(move || {
            terms.store(2, Ordering::Release);
            onlookers.send_away();
        })
    };
    let (found, standing) = come(&onlookers, &terms);
    replacing.join().unwrap();
    let stands = standing.is_some_and(|standing| onlookers.still(standing));
    assert!(!stands || found == 2, "old terms are looked at");
}

/// As the product does it.
pub fn nobody_looks_on_by_terms_that_were_replaced() {
    replaced_while_one_comes(|onlookers, terms| {
        let standing = onlookers.standing();
        (terms.load(Ordering::Acquire), standing)
    });
}

/// The standing is read when the terms were found.
pub fn stood_after_the_terms() {
    replaced_while_one_comes(|onlookers, terms| {
        (terms.load(Ordering::Acquire), onlookers.standing())
    });
}
