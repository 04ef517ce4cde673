//! All that is in memory, for those who look at it as a whole.

use std::sync::Arc;

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

    /// Tenants in memory.
    pub fn len(&self) -> usize {
        self.tenants.len()
    }

    /// Whether no tenant is in memory.
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }
}
