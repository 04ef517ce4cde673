//! The tenants in memory in the order in which they came, for those who look at all of them a few at a
//! time.

use std::sync::{Arc, PoisonError, RwLock};

use super::tenant_state::TenantState;

/// Tenants by their places.
#[derive(Debug, Default)]
pub(super) struct Roster(RwLock<Vec<Arc<TenantState>>>);

impl Roster {
    /// One more, behind all others.
    pub fn add(&self, state: Arc<TenantState>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(state);
    }

    /// Puts `state` in the place of `before`.
    pub fn replace(&self, before: &Arc<TenantState>, state: Arc<TenantState>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = all.iter_mut().find(|known| Arc::ptr_eq(known, before)) {
            *place = state;
        }
    }

    /// At most `max` tenants from the place `first` on.
    pub fn some(&self, first: usize, max: usize) -> Vec<Arc<TenantState>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().skip(first).take(max).cloned().collect()
    }
}
