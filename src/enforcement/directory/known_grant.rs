//! A tenant's grant, and what it counts in now.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;

use crate::domain::{
    cell_key::CellKey, grant::Grant, ids::Subject, tenant::Tenant, window::Window,
};

/// A grant under one version of its tenant's terms.
#[derive(Debug)]
pub(super) struct KnownGrant {
    pub grant: Grant,
    /// The latest stretch that was asked for: what spares the hot path the calendar and the making
    /// of a key.
    latest: ArcSwapOption<Stretch>,
}

/// The stretch of a grant that some time falls into.
#[derive(Debug)]
pub(super) struct Stretch {
    /// Its counter.
    pub key: CellKey,
    window: Window,
}

impl KnownGrant {
    /// A grant that nothing was asked of yet.
    pub fn new(grant: Grant) -> Self {
        Self { grant, latest: ArcSwapOption::empty() }
    }

    /// Whether it is for usage of `subject` too.
    pub fn is_for(&self, subject: Option<&Subject>) -> bool {
        self.grant.subject.is_none() || self.grant.subject.as_ref() == subject
    }

    /// The stretch that `now` falls into. `tenant` is the one that has the grant.
    pub fn stretch(&self, tenant: &Tenant, now: Timestamp) -> Arc<Stretch> {
        if let Some(latest) = &*self.latest.load()
            && latest.window.contains(now)
        {
            return latest.clone();
        }
        let window = self.grant.stretch(&tenant.subscription.schedule, now);
        let stretch = Arc::new(Stretch { key: key(tenant, &self.grant, window), window });
        self.latest.store(Some(stretch.clone()));
        stretch
    }
}

/// The key of one stretch of a grant of `tenant`.
pub(super) fn key(tenant: &Tenant, grant: &Grant, window: Window) -> CellKey {
    CellKey {
        tenant: tenant.id.clone(),
        meter: grant.meter.clone(),
        subject: grant.subject.clone(),
        label: window.label,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        catalog::Catalog,
        grant::GrantKind,
        ids::{GrantId, MeterName},
        period::Period,
    };

    const CATALOG: &str = "\
catalog: shop
currency: USD
meters:
  - { name: calls, kind: counter, unit: call }
plans:
  - { name: basic, prices: { monthly: 0 }, limits: { calls: 10 } }
tenants:
  - { id: acme, plan: basic }
";

    #[test]
    fn a_recurring_grant_counts_in_each_window_by_itself_and_again_in_an_earlier_one() {
        let tenant = Catalog::parse("shop", CATALOG).unwrap().tenants().next().unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let known = KnownGrant::new(Grant {
            id: GrantId(7),
            kind: GrantKind::Recurring,
            meter: MeterName::new("calls").unwrap(),
            subject: None,
            amount: 5,
            priority: 0,
            starts_at: at("2026-03-10T00:00:00Z"),
            expires_at: None,
            every: Some(Period::Month),
            covers_level: false,
            is_revoked: false,
        });
        let label = |now: &str| known.stretch(&tenant, at(now)).key.label;
        let march = label("2026-03-10T00:00:00Z");
        assert_eq!(label("2026-03-31T23:59:59Z"), march);
        let april = label("2026-04-01T00:00:00Z");
        assert_ne!(april, march);
        assert_eq!(label("2026-03-15T00:00:00Z"), march, "a clock that goes back");
        assert_eq!(label("2026-04-30T00:00:00Z"), april);
    }
}
