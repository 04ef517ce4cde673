//! All that is in memory, for those who look at it as a whole.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Directory, tenant_state::TenantState};
use crate::enforcement::counter::Counter;

impl Directory {
    /// At most `max` tenants in memory from the place `first` on, in the order in which they came.
    pub fn some(&self, first: usize, max: usize) -> Vec<Arc<TenantState>> {
        self.roster.some(first, max)
    }

    /// Every live counter.
    pub fn all_counters(&self) -> Vec<Arc<Counter>> {
        self.tenants.iter().flat_map(|state| state.all_counters()).collect()
    }

    /// Forgets what some of the dropped counters left whose windows are over at `real_now` and by their
    /// tenants' clocks. Called again and again, it comes to all of them.
    pub fn forget_left(&self, real_now: Timestamp) {
        for key in self.seed.search_left(real_now) {
            if let Some(state) = self.known(&key.tenant) {
                state.forget_left(&key, real_now);
            }
        }
    }

    /// Tenants in memory.
    pub fn len(&self) -> usize {
        self.tenants.len()
    }

    /// Whether no tenant is in memory.
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }
}
