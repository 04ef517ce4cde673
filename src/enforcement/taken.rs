//! Units that were taken from a counter and belong to one request.

use std::{
    fmt, mem,
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::oneshot;

use super::{counter::Counter, leasing::Leasing, waiters::Verdict};
use crate::{
    domain::usage::Part,
    leases::{
        cell::{GivenBack, Take},
        holder::Denial,
    },
};

/// Taken units: spent, held, or given back by being dropped. A request that ends early (a denial
/// further on, a refusal by the journal, a caller that hung up) leaks nothing.
pub struct Taken {
    counter: Arc<Counter>,
    leasing: Arc<Leasing>,
    amount: u64,
}

impl Taken {
    /// Wraps units that were just taken from `counter`'s cell.
    pub fn new(counter: Arc<Counter>, leasing: Arc<Leasing>, amount: u64) -> Self {
        Self { counter, leasing, amount }
    }

    /// Whose units.
    pub fn counter(&self) -> &Arc<Counter> {
        &self.counter
    }

    /// What an event says of them that they cover.
    pub fn part(&self) -> Part {
        Part { key: self.counter.key.clone(), units: self.amount, recorded: 0 }
    }

    /// How many.
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// Counts `spent` of the units as consumed; the rest goes back. To be called as soon as the
    /// journal has the event.
    pub fn spend(mut self, spent: u64) {
        let spent = spent.min(self.amount);
        self.counter.cell.commit(spent);
        self.amount -= spent;
        self.leasing.spent(&self.counter);
    }

    /// Marks the units as reserved, for display.
    pub fn reserve(&self) {
        self.counter.reserved.fetch_add(self.amount, Ordering::Relaxed);
    }

    /// Takes the mark of [`Taken::reserve`] back.
    pub fn unreserve(&self) {
        self.counter.reserved.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} units of {}", self.amount, self.counter.key)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.leasing.give_back(&self.counter, mem::take(&mut self.amount));
    }
}

/// As [`Taken`], where it stays on the stack: nobody else counts as a holder of what it is of.
#[must_use = "dropped, it gives back what was taken"]
pub struct TakenHere<'t> {
    counter: &'t Arc<Counter>,
    leasing: &'t Arc<Leasing>,
    amount: u64,
}

impl TakenHere<'_> {
    /// The same, for who waits before it is spent.
    fn keep(mut self) -> Taken {
        Taken::new(self.counter.clone(), self.leasing.clone(), mem::take(&mut self.amount))
    }

    /// Counts all of it as consumed; as [`Taken::spend`].
    pub fn spend(mut self) {
        self.counter.cell.commit(mem::take(&mut self.amount));
        self.leasing.spent(self.counter);
    }
}

impl Drop for TakenHere<'_> {
    fn drop(&mut self) {
        self.leasing.give_back(self.counter, self.amount);
    }
}

/// What came of asking for units.
#[derive(Debug)]
pub enum Acquired {
    /// The units.
    Taken(Taken),
    /// No more than `remaining` can be had, and that only if others return what they hold; without
    /// them, `at_hand`.
    Denied { remaining: u64, at_hand: u64 },
    /// The shared counters are out of reach: the limit's policy decides.
    Unavailable,
}

impl Leasing {
    /// Takes `amount` from what is in hand. `None` when it is too little.
    #[inline]
    pub fn take(self: &Arc<Self>, counter: &Arc<Counter>, amount: u64) -> Option<Taken> {
        self.take_here(counter, amount).map(TakenHere::keep)
    }

    /// The same, for who spends it before anybody is waited for.
    #[inline]
    pub fn take_here<'t>(
        self: &'t Arc<Self>,
        counter: &'t Arc<Counter>,
        amount: u64,
    ) -> Option<TakenHere<'t>> {
        match counter.cell.take(amount) {
            Take::Short => return None,
            Take::Taken => {}
            Take::TakenLow => self.wake(counter),
        }
        Some(TakenHere { counter, leasing: self, amount })
    }

    fn give_back(self: &Arc<Self>, counter: &Arc<Counter>, amount: u64) {
        if amount > 0 && counter.cell.give_back(amount) == GivenBack::Recalled {
            self.wake(counter);
        }
    }

    /// Takes `amount` from what is in hand, or waits for it.
    pub async fn take_or_acquire(
        self: &Arc<Self>,
        counter: &Arc<Counter>,
        amount: u64,
    ) -> Acquired {
        match self.take(counter, amount) {
            Some(taken) => Acquired::Taken(taken),
            None => self.acquire(counter, amount).await,
        }
    }

    /// Takes `amount`, waiting for a refill or for others to return what they do not need.
    pub async fn acquire(self: &Arc<Self>, counter: &Arc<Counter>, amount: u64) -> Acquired {
        if let Some(remaining) = counter.remembered_denial(amount, self.now()) {
            // A request for what remains asks anew, and hears what of it is at hand.
            return Acquired::Denied { remaining, at_hand: remaining };
        }
        let verdict = counter.queue(amount);
        self.wake_if_idle(counter);
        let mut wait =
            Wait { verdict, counter: counter.clone(), leasing: self.clone(), amount, done: false };
        // The driver answers everyone before it ends; it only vanishes with the process' tasks.
        let verdict = (&mut wait.verdict).await.unwrap_or(Verdict::Unavailable);
        wait.done = true;
        match verdict {
            Verdict::Granted => Acquired::Taken(Taken::new(counter.clone(), self.clone(), amount)),
            Verdict::Denied {
                remaining,
                at_hand,
                why: Denial::Exhausted | Denial::RecallTimedOut,
            } => Acquired::Denied { remaining, at_hand },
            Verdict::Unavailable => Acquired::Unavailable,
        }
    }
}

/// A place in the queue. Left early (the caller hung up), it gives back what was granted to it
/// meanwhile.
struct Wait {
    verdict: oneshot::Receiver<Verdict>,
    counter: Arc<Counter>,
    leasing: Arc<Leasing>,
    amount: u64,
    done: bool,
}

impl Drop for Wait {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // Closed first: from here on the driver's answer fails, and it keeps the units itself.
        self.verdict.close();
        if matches!(self.verdict.try_recv(), Ok(Verdict::Granted)) {
            drop(Taken::new(self.counter.clone(), self.leasing.clone(), self.amount));
        }
    }
}
