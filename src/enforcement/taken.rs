//! Units that were taken from a counter and belong to one request.

use std::{
    fmt, mem,
    sync::{Arc, atomic::Ordering},
};

use super::{counter::Counter, leasing::Leasing};
use crate::leases::cell::GivenBack;

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
        self.leasing.wake_if_idle(&self.counter);
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
        let amount = mem::take(&mut self.amount);
        if amount > 0 && self.counter.cell.give_back(amount) == GivenBack::Recalled {
            self.leasing.wake(&self.counter);
        }
    }
}
