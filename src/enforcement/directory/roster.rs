//! The tenants in memory by their places, for those who look at all of them a few at a time.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::tenant_state::TenantState;

/// Tenants by their places. One keeps its place until one before it goes, and the last takes its own.
#[derive(Debug, Default)]
pub(super) struct Roster(RwLock<Vec<Arc<TenantState>>>);

impl Roster {
    /// One more, behind all others.
    pub fn add(&self, state: Arc<TenantState>) {
        self.write().push(state);
    }

    /// Puts `state` in the place of `before`.
    pub fn replace(&self, before: &Arc<TenantState>, state: Arc<TenantState>) {
        if let Some(place) = self.write().iter_mut().find(|known| Arc::ptr_eq(known, before)) {
            *place = state;
        }
    }

    /// The tenant at `place`, if there are so many.
    pub fn at(&self, place: usize) -> Option<Arc<TenantState>> {
        self.read().get(place).cloned()
    }

    /// Takes `state` from its `place`, where the last one is put, if it `may_go`; whether it has gone.
    /// It is not found here while that is asked.
    pub fn remove_if(
        &self,
        place: usize,
        state: &Arc<TenantState>,
        may_go: impl FnOnce() -> bool,
    ) -> bool {
        let mut all = self.write();
        let is_there = all.get(place).is_some_and(|known| Arc::ptr_eq(known, state));
        let goes = is_there && may_go();
        if goes {
            all.swap_remove(place);
        }
        goes
    }

    /// Gives memory back, once most of it is free.
    pub fn shrink(&self) {
        let mut all = self.write();
        if 4 * all.len() < all.capacity() {
            let places = 2 * all.len();
            all.shrink_to(places);
        }
    }

    /// Tenants.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Places that there is memory for.
    #[cfg(test)]
    pub fn places(&self) -> usize {
        self.read().capacity()
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Arc<TenantState>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Arc<TenantState>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
