use super::findings::Findings;
use crate::domain::{
    catalog::{definition::CatalogDefinition, discounts::PromoCodeDef, field_path::FieldPath},
    ids::PlanName,
};

/// Longest commitment and tenure, in months.
const MONTHS_MAX: u16 = 120;

pub(super) fn check(catalog: &CatalogDefinition, root: &FieldPath, findings: &mut Findings) {
    commitments(catalog, &root.key("commitments"), findings);
    let codes = root.key("promo_codes");
    findings.unique(&codes, "code", catalog.promo_codes.iter().map(|promo| promo.code.as_str()));
    for (index, promo) in catalog.promo_codes.iter().enumerate() {
        promo_code(catalog, promo, &codes.item(index), findings);
    }
    if let Some(referral) = &catalog.referral {
        let path = root.key("referral");
        findings.price(
            path.key("referrer_credit"),
            Some(referral.referrer_credit),
            catalog.currency,
        );
        if referral.code_random_characters < 3 {
            findings.add(
                path.key("code_random_characters"),
                format!("is {}", referral.code_random_characters),
                "give at least 3, so that codes cannot be guessed",
            );
        }
    }
    loyalty(catalog, &root.key("loyalty"), findings);
}

fn commitments(catalog: &CatalogDefinition, list: &FieldPath, findings: &mut Findings) {
    for (index, commitment) in catalog.commitments.iter().enumerate() {
        let path = list.item(index);
        if !(1..=MONTHS_MAX).contains(&commitment.months) {
            findings.add(
                path.key("months"),
                format!("is {}", commitment.months),
                format!("give 1 to {MONTHS_MAX}"),
            );
        }
        if catalog.commitments[..index].iter().any(|one| one.months == commitment.months) {
            findings.add(
                path.key("months"),
                format!("{} months are committed to twice", commitment.months),
                "keep one of them",
            );
        }
        findings.price(
            path.key("early_termination_fee"),
            Some(commitment.early_termination_fee),
            catalog.currency,
        );
        plans(catalog, &commitment.plans, &path, findings);
    }
}

fn promo_code(
    catalog: &CatalogDefinition,
    promo: &PromoCodeDef,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let in_code = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
    if !(3..=32).contains(&promo.code.len()) || !promo.code.chars().all(in_code) {
        findings.add(
            path.key("code"),
            format!("{:?} is not a code", promo.code),
            "use 3 to 32 upper-case letters and digits",
        );
    }
    let given = [promo.percent.is_some(), promo.amount.is_some(), promo.free_months.is_some()];
    if given.iter().filter(|given| **given).count() != 1 {
        findings.add(
            path.clone(),
            "does not say what it gives, or says it more than once",
            "give exactly one of percent, amount, free_months",
        );
    }
    if promo.invoices.is_some() && promo.free_months.is_some() {
        findings.add(path.key("invoices"), "stands beside free_months", "remove it");
    }
    if let (Some(from), Some(through)) = (promo.from, promo.through)
        && through < from
    {
        findings.add(
            path.key("through"),
            format!("{through} is before the first day, {from}"),
            "give the last day on which the code can be entered",
        );
    }
    if promo.new_customers_only && promo.upgrades_only {
        findings.add(
            path.key("upgrades_only"),
            "cannot hold together with new_customers_only",
            "keep one of them",
        );
    }
    let counts = [
        ("free_months", promo.free_months.map(u64::from)),
        ("invoices", promo.invoices.map(u64::from)),
        ("max_uses", promo.max_uses.map(u64::from)),
        ("max_uses_per_account", promo.max_uses_per_account.map(u64::from)),
    ];
    for (field, count) in counts {
        if let Some(count) = count {
            findings.at_least_one(path.key(field), count);
        }
    }
    findings.price(path.key("amount"), promo.amount, catalog.currency);
    findings.price(path.key("minimum_purchase"), promo.minimum_purchase, catalog.currency);
    plans(catalog, &promo.plans, path, findings);
}

fn loyalty(catalog: &CatalogDefinition, path: &FieldPath, findings: &mut Findings) {
    let Some(loyalty) = &catalog.loyalty else { return };
    if loyalty.max_percent.is_some() && loyalty.percent_per_year.is_none() {
        findings.add(
            path.key("max_percent"),
            "has no percent_per_year to bound",
            "add percent_per_year, or remove it",
        );
    }
    let tiers = path.key("tiers");
    findings.unique(&tiers, "name", loyalty.tiers.iter().map(|tier| tier.name.as_str()));
    let months: Vec<_> = loyalty.tiers.iter().map(|tier| tier.months).collect();
    findings.ascending(&tiers, "months", &months);
    let tenants: Vec<_> = loyalty.volume.iter().map(|one| one.tenants).collect();
    findings.ascending(&path.key("volume"), "tenants", &tenants);
}

fn plans(
    catalog: &CatalogDefinition,
    plans: &[PlanName],
    path: &FieldPath,
    findings: &mut Findings,
) {
    for (index, plan) in plans.iter().enumerate() {
        let names = catalog.plans.iter().map(|plan| plan.name.as_str());
        findings.known(path.key("plans").item(index), "plan", plan.as_str(), names);
    }
}
