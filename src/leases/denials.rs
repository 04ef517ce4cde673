//! A denial that may be repeated from memory.
//!
//! *It is never given for a newer state than the one it was decided on.* Its [`Basis`] is read
//! before anything that it is decided on is; whoever may allow more changes the state first and
//! the basis afterwards. So a denial that missed a change has a basis of before it, and is over.
//! Of what changes elsewhere it knows nothing, and lives only a moment for that.

use std::time::Duration;

use super::cell::{Basis, Cell};

/// More than `remaining` units cannot be had.
#[derive(Clone, Copy, Debug)]
pub struct Denied {
    pub remaining: u64,
    /// The cell's, from before anything was read that this was decided on.
    pub basis: Basis,
    /// Since the start of the run.
    pub until: Duration,
}

impl Denied {
    /// Whether it must not be repeated any more. Once it is over it stays so.
    pub fn is_over(&self, cell: &Cell, now: Duration) -> bool {
        self.basis != cell.basis() || now >= self.until
    }

    /// What it left remaining, if it holds for `amount`. For one that is not over.
    pub fn repeated(&self, amount: u64) -> Option<u64> {
        (amount > self.remaining).then_some(self.remaining)
    }
}
