//! A denial that may be repeated from memory.
//!
//! *It is never given for a newer state than the one it was decided on.* Its [`Basis`] is read
//! before anything that it is decided on is; whoever may allow more changes the state first and
//! the basis afterwards. So a denial that missed a change has a basis of before it, and is over.
//! Of what changes elsewhere it knows nothing, and lives only a moment for that.

use std::time::Duration;

use super::{
    atomics::Mutex,
    cell::{Basis, Cell},
};

/// More than `remaining` units cannot be had.
#[derive(Clone, Copy, Debug)]
pub struct Denied {
    pub remaining: u64,
    /// The cell's, from before anything was read that this was decided on.
    pub basis: Basis,
    /// Since the start of the run.
    pub until: Duration,
}

/// The last denial of one counter.
#[derive(Debug, Default)]
pub struct Denials {
    /// Guards the denial; only requests that found too little look at it. Boxed: most counters deny
    /// nothing.
    last: Mutex<Option<Box<Denied>>>,
}

impl Denials {
    /// Remembers a denial, in place of the one before.
    pub fn remember(&self, denied: Denied) {
        // Nothing that holds the lock panics.
        let mut last = self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match &mut *last {
            Some(last) => **last = denied,
            None => *last = Some(Box::new(denied)),
        }
    }

    /// What the remembered denial left remaining, if it still holds for `amount` at `now`.
    pub fn repeated(&self, cell: &Cell, amount: u64, now: Duration) -> Option<u64> {
        let last = self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let denied = **last.as_ref()?;
        drop(last);
        let holds = denied.basis == cell.basis() && now < denied.until && amount > denied.remaining;
        holds.then_some(denied.remaining)
    }
}
