//! How much of the disk budget is used, by all runs of the data directory together.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that the segments take.
#[derive(Debug)]
pub struct DiskUse {
    used_bytes: AtomicU64,
    budget_bytes: u64,
}

impl DiskUse {
    /// A budget of which nothing is used yet.
    pub fn new(budget_bytes: u64) -> Self {
        Self { used_bytes: AtomicU64::new(0), budget_bytes }
    }

    /// The most that may be used.
    pub fn budget_bytes(&self) -> u64 {
        self.budget_bytes
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Takes `bytes` out of the budget, or nothing if they do not fit.
    pub fn take(&self, bytes: u64) -> bool {
        self.used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|used| *used <= self.budget_bytes)
            })
            .is_ok()
    }

    /// Counts what is there already, budget or not.
    pub fn count(&self, bytes: u64) {
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Puts `bytes` back that were taken or counted before.
    pub fn give_back(&self, bytes: u64) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
