use std::collections::BTreeMap;

use super::findings::Findings;
use crate::domain::catalog::{
    definition::CatalogDefinition, field_path::FieldPath, tenants::TenantDef,
};

pub(super) fn check(
    catalog: &CatalogDefinition,
    tenants: &[TenantDef],
    root: &FieldPath,
    findings: &mut Findings,
) {
    let list = root.key("tenants");
    findings.unique(&list, "id", tenants.iter().map(|tenant| tenant.id.as_str()));
    let mut clocks = BTreeMap::new();
    for (index, tenant) in tenants.iter().enumerate() {
        let path = list.item(index);
        let plans = catalog.plans.iter().map(|plan| plan.name.as_str());
        findings.known(path.key("plan"), "plan", tenant.plan.as_str(), plans);
        let account = tenant.account.as_ref().map_or(tenant.id.as_str(), |id| id.as_str());
        let clock = clocks.entry(account).or_insert(tenant.test_clock);
        if *clock != tenant.test_clock {
            findings.add(
                path.key("test_clock"),
                format!("differs from another tenant's of the account {account}"),
                "a test clock is an account's: give all its tenants the same",
            );
        }
    }
}
