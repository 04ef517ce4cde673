use std::collections::BTreeMap;

use super::findings::Findings;
use crate::domain::{
    catalog::{definition::CatalogDefinition, field_path::FieldPath, tenants::TenantDef},
    features::feature_override::OVERRIDES_MAX,
};

fn overrides(
    catalog: &CatalogDefinition,
    tenant: &TenantDef,
    list: &FieldPath,
    findings: &mut Findings,
) {
    if tenant.overrides.len() > OVERRIDES_MAX {
        let problem = format!("has {} entries", tenant.overrides.len());
        findings.add(list.clone(), problem, format!("use at most {OVERRIDES_MAX}"));
    }
    findings.unique(list, "feature", tenant.overrides.iter().map(|one| one.feature.as_str()));
    for (index, one) in tenant.overrides.iter().enumerate() {
        let path = list.item(index);
        let names = catalog.features.iter().map(|feature| feature.name.as_str());
        findings.known(path.key("feature"), "feature", one.feature.as_str(), names);
        let feature = catalog.features.iter().find(|feature| feature.name == one.feature);
        let value = feature.map_or(Ok(()), |feature| feature.value(&one.value).map(drop));
        if let Err(invalid) = value.and_then(|()| one.check_size()) {
            findings.add_invalid(path.key("value"), invalid);
        }
    }
}

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
        overrides(catalog, tenant, &path.key("overrides"), findings);
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
