//! Who only looks at a counter, and whether what they found it by still holds.
//!
//! An onlooker keeps the counter in memory, as anybody does who shares it, but not in use: it takes
//! nothing. So a counter may be dropped from where it is found under the eyes of onlookers, who
//! then learn that they have to look it up again.
//!
//! Who drops a counter first counts all who share it, then the onlookers among them. An onlooker
//! leaves by [`Onlookers::leave`] first and lets go of the counter afterwards. So one who goes
//! meanwhile may be counted among those who share it alone: the counter looks used, and is dropped
//! another time. The other way round somebody who uses it would be hidden. None comes meanwhile:
//! both are done under a lock of the counter's owner.

use super::atomics::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

/// The onlookers of one counter.
#[derive(Debug, Default)]
pub struct Onlookers {
    count: AtomicU32,
    /// Grows with all that may make onlookers' ways to the counter wrong: other terms, another
    /// counter in its place. At its end it stays, and nobody looks on any more.
    standing: AtomicU32,
}

/// When an onlooker came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing(u32);

impl Onlookers {
    /// Another one. Who drops the counter is locked out meanwhile.
    pub fn join(&self) {
        self.count.fetch_add(1, Relaxed);
    }

    /// One less; it lets go of the counter afterwards.
    pub fn leave(&self) {
        self.count.fetch_sub(1, Release);
    }

    /// Whether anybody but its owner and the onlookers is among the `holders` of the counter. To be
    /// asked while nobody joins.
    pub fn are_not_alone(&self, holders: impl FnOnce() -> usize) -> bool {
        let holders = holders();
        // Whoever is no longer among them has left before, and is seen to.
        fence(Acquire);
        holders > 1 + self.count()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Relaxed) as usize
    }

    /// What one who comes now has to ask [`Onlookers::still`] by, if there may be any more. To be
    /// read before the last look at what leads to the counter.
    pub fn standing(&self) -> Option<Standing> {
        Some(self.standing.load(Acquire)).filter(|standing| *standing < u32::MAX).map(Standing)
    }

    /// Whether nothing has changed since for one who came then.
    #[inline]
    pub fn still(&self, standing: Standing) -> bool {
        self.standing.load(Acquire) == standing.0
    }

    /// Has all onlookers look the counter up again. To be called after the change.
    pub fn send_away(&self) {
        let mut standing = self.standing.load(Relaxed);
        while let Some(next) = standing.checked_add(1) {
            match self.standing.compare_exchange_weak(standing, next, Release, Relaxed) {
                Ok(_) => return,
                Err(now) => standing = now,
            }
        }
    }
}
