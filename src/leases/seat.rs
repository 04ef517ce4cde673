//! The driver's seat of one counter: at most one driver at a time, and none missing while there is
//! something to do.
//!
//! Whoever changes something looks for a driver afterwards; a driver that leaves looks for changes
//! afterwards. Both put a sequentially consistent fence between what they do and what they look
//! for, so at least one of them sees the other's.

use super::atomics::{
    AtomicBool,
    Ordering::{AcqRel, Relaxed, Release, SeqCst},
    fence,
};

/// Who drives, and whether there is news.
#[derive(Debug, Default)]
pub struct Seat {
    /// A driver is at work.
    driven: AtomicBool,
    /// The driver was woken and has not looked since.
    woken: AtomicBool,
}

impl Seat {
    /// Notes that the driver has to look.
    pub fn wake(&self) {
        self.woken.store(true, Release);
    }

    /// Notes that the driver looks now.
    pub fn look(&self) {
        self.woken.store(false, Release);
    }

    /// Whether the driver was woken and has not looked since.
    pub fn is_woken(&self) -> bool {
        self.woken.load(Relaxed)
    }

    /// Whether a driver has to be started; the caller is the one to start it. To be called after
    /// the change that the driver has to see.
    pub fn needs_driver(&self) -> bool {
        fence(SeqCst);
        !self.driven.load(Relaxed) && !self.driven.swap(true, AcqRel)
    }

    /// The driver is gone without having looked once more: whoever comes next has to start another.
    pub fn abandon(&self) {
        self.driven.store(false, Release);
    }

    /// The driver has nothing to do. Whether it may go; if not, something came up meanwhile, as
    /// `has_news` tells from the counter.
    pub fn leave(&self, has_news: impl FnOnce() -> bool) -> bool {
        // Swapped, so that it follows on what those who tried to sit down have written.
        self.driven.swap(false, AcqRel);
        fence(SeqCst);
        let news = self.woken.load(Relaxed) || has_news();
        !news || self.driven.swap(true, AcqRel)
    }
}
