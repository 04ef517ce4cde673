//! Directories of a file's tenants, for tests.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Directory, FileSource, NoCounter, Source, tenant_state::TenantState};
use crate::{
    domain::{catalog::Catalog, ids::TenantId, tenant::Tenant},
    enforcement::counter::Counter,
};

const CATALOG: &str = "\
catalog: shop
currency: USD
meters:
  - { name: calls, kind: counter, unit: call, period: day }
  - { name: mails, kind: counter, unit: mail, period: day }
plans:
  - { name: basic, prices: { monthly: 0 }, limits: { calls: 10, mails: 7 } }
tenants:
  - { id: acme, plan: basic }
";
pub const NOW: Timestamp = Timestamp::constant(1_795_341_600, 0);

/// A directory of tenants like `acme`.
pub fn directory(tenants: &[&str]) -> Directory {
    changed_directory(tenants, |_| {})
}

/// The same, with what `change` does to each.
pub fn changed_directory(tenants: &[&str], change: impl Fn(&mut Tenant)) -> Directory {
    let catalog = Catalog::parse("shop", CATALOG).unwrap();
    let mut source = FileSource::of(&catalog);
    let acme = catalog.tenants().next().unwrap();
    for name in tenants {
        let mut tenant = Tenant { id: TenantId::new(name).unwrap(), ..acme.clone() };
        change(&mut tenant);
        source.tenants.insert(tenant.id.clone(), Arc::new(tenant));
    }
    Directory::new(Source::File(Arc::new(source)), None)
}

/// The tenant's state.
pub fn find(directory: &Directory, tenant: &str) -> Arc<TenantState> {
    let id = TenantId::new(tenant).unwrap();
    futures::executor::block_on(directory.find(&id, "tenant")).unwrap()
}

/// The tenant's counter of `meter` in the window of `now`.
pub fn counter(
    state: &TenantState,
    meter: &str,
    now: Timestamp,
) -> Result<Arc<Counter>, NoCounter> {
    let terms = state.terms();
    let meter = terms.plan.meter(meter).unwrap();
    state.current_counter(&terms, meter, None, now, 9)
}

/// The tenant's state, with a counter of `meter` of which `used` is told.
pub fn begin(directory: &Directory, tenant: &str, meter: &str, used: u64) -> Arc<TenantState> {
    let state = find(directory, tenant);
    count(&state, meter, used);
    state
}

/// Tells the counter of `meter` of `used`.
pub fn count(state: &TenantState, meter: &str, used: u64) {
    counter(state, meter, NOW).unwrap().cell.record(used);
}
