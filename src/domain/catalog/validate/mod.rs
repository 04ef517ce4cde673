//! What a catalog must mean, beyond its shape. One file per part; each finds all it can.

mod allowances;
mod currencies;
mod discounts;
mod envoy;
mod features;
mod findings;
mod limits;
mod meters;
mod operations;
mod plans;
mod policies;
mod prices;
mod tenants;

use findings::Findings;

use super::{
    definition::CatalogDefinition, error::nearest, field_path::FieldPath, finding::Finding,
};

/// Everything that is wrong with `catalog`.
pub(super) fn catalog(catalog: &CatalogDefinition) -> Vec<Finding> {
    let mut findings = Findings::default();
    let root = FieldPath::default();
    let currency = catalog.currency.as_str();
    if !currencies::CURRENCIES.contains(&currency) {
        findings.add(
            root.key("currency"),
            format!("{currency:?} is not a currency in use"),
            match nearest(currency, currencies::CURRENCIES) {
                Some(near) => format!("did you mean {near}?"),
                None => "use a code of ISO 4217, such as USD".to_owned(),
            },
        );
    }
    meters::check(catalog, &root, &mut findings);
    features::check(catalog, &root, &mut findings);
    operations::check(catalog, &root, &mut findings);
    envoy::check(catalog, &root, &mut findings);
    plans::check(catalog, &root, &mut findings);
    allowances::check(catalog, &root, &mut findings);
    discounts::check(catalog, &root, &mut findings);
    policies::check(catalog, &root, &mut findings);
    tenants::check(catalog, &catalog.tenants, &root, &mut findings);
    findings.all
}

/// Everything that is wrong with tenants that another file gives to `catalog`.
pub(super) fn tenants_of(
    catalog: &CatalogDefinition,
    tenants: &[super::tenants::TenantDef],
) -> Vec<Finding> {
    let mut findings = Findings::default();
    tenants::check(catalog, tenants, &FieldPath::default(), &mut findings);
    findings.all
}
