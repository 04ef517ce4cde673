//! One rate of one tenant, and of one subject where it holds for each.

use std::sync::Arc;

use crate::{
    domain::rate::{RateStandings, RateWindow},
    leases::rate::{cell::Short, stack::RateStack},
};

/// Where a rate stands in this sidecar.
#[derive(Debug)]
pub struct RateKey {
    stack: RateStack,
}

impl RateKey {
    /// Nothing used yet.
    pub fn new(windows: Arc<[RateWindow]>) -> Self {
        Self { stack: RateStack::new(windows) }
    }

    /// The same key when its plan allows something else.
    pub fn with_windows(&self, windows: Arc<[RateWindow]>, now_ns: u64) -> Self {
        Self { stack: self.stack.with_windows(windows, now_ns) }
    }

    /// What the plan allows, as this key knows it.
    pub fn windows(&self) -> &Arc<[RateWindow]> {
        self.stack.windows()
    }

    /// Whether a new key would be as good.
    pub fn is_unused(&self, now_ns: u64) -> bool {
        self.stack.is_unused(now_ns)
    }

    pub(super) fn look(&self, permits: u32, now_ns: u64) -> Result<(), Short> {
        self.stack.look(permits, now_ns)
    }

    pub(super) fn take(&self, permits: u32, now_ns: u64) -> Result<(), Short> {
        self.stack.take(permits, now_ns)
    }

    pub(super) fn hold(&self, permits: u32, now_ns: u64) -> Result<(), Short> {
        self.stack.hold(permits, now_ns)
    }

    pub(super) fn keep(&self, permits: u32, now_ns: u64) {
        self.stack.keep(permits, now_ns);
    }

    pub(super) fn let_go(&self, permits: u32) {
        self.stack.let_go(permits);
    }

    pub(super) fn standings(&self, now_ns: u64) -> RateStandings {
        self.stack.standings(now_ns)
    }
}
