//! Names that nobody knew a moment ago: asking for them again costs nobody a query.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use ahash::AHashMap;

use crate::domain::ids::TenantId;

/// A bounded memory of unknown tenants.
#[derive(Debug)]
pub struct UnknownTenants {
    /// Guards the names and when they were found unknown.
    since: Mutex<AHashMap<TenantId, Instant>>,
    forget_after: Duration,
    names_max: usize,
}

impl UnknownTenants {
    /// Remembers each name for `forget_after`, at most `names_max` at a time.
    pub fn new(forget_after: Duration, names_max: usize) -> Self {
        Self { since: Mutex::default(), forget_after, names_max }
    }

    /// Whether the name was unknown a moment ago.
    pub fn holds(&self, tenant: &TenantId) -> bool {
        self.lock().get(tenant).is_some_and(|since| since.elapsed() < self.forget_after)
    }

    /// Remembers a name. When the memory is full, all of it is dropped: it is only a moment's.
    pub fn remember(&self, tenant: TenantId) {
        let mut since = self.lock();
        if since.len() >= self.names_max {
            since.clear();
        }
        since.insert(tenant, Instant::now());
    }

    /// The name is known now.
    pub fn forget(&self, tenant: &TenantId) {
        self.lock().remove(tenant);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, AHashMap<TenantId, Instant>> {
        self.since.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: usize) -> TenantId {
        TenantId::new(format!("t{number}")).unwrap()
    }

    #[test]
    fn a_name_is_remembered_until_it_is_known() {
        let unknown = UnknownTenants::new(Duration::from_secs(60), 10);
        unknown.remember(tenant(1));
        assert!(unknown.holds(&tenant(1)));
        unknown.forget(&tenant(1));
        assert!(!unknown.holds(&tenant(1)));
    }

    #[test]
    fn a_flood_of_names_stays_within_the_bound() {
        let unknown = UnknownTenants::new(Duration::from_secs(60), 10);
        (0..1000).for_each(|number| unknown.remember(tenant(number)));
        assert!(unknown.lock().len() <= 10);
    }
}
