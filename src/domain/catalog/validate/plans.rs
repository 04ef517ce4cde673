use super::{findings::Findings, limits, prices};
use crate::domain::catalog::{
    compiled_plan::PLAN_METERS_MAX,
    definition::CatalogDefinition,
    field_path::FieldPath,
    plans::{Availability, PlanDef, TrialStart},
};

/// Longest trial, in days.
const TRIAL_DAYS_MAX: u16 = 365;

pub(super) fn check(catalog: &CatalogDefinition, root: &FieldPath, findings: &mut Findings) {
    let list = root.key("plans");
    if catalog.plans.is_empty() {
        findings.add(list.clone(), "is empty", "describe at least one plan");
    }
    findings.unique(&list, "name", catalog.plans.iter().map(|plan| plan.name.as_str()));
    for (index, plan) in catalog.plans.iter().enumerate() {
        let path = list.item(index);
        base_fee(catalog, plan, &path, findings);
        limits::check(catalog, plan, &path, findings);
        for (meter, price) in &plan.usage_prices {
            let path = path.key("usage_prices").key(meter.as_str());
            let meters = catalog.meters.iter().map(|meter| meter.name.as_str());
            findings.known(path.clone(), "meter", meter.as_str(), meters);
            if let Some(meter) = catalog.meters.iter().find(|one| one.name == *meter) {
                prices::usage_price(catalog, meter, price, &path, findings);
            }
        }
        let named = plan.limits.len() + plan.usage_prices.len();
        if named > PLAN_METERS_MAX {
            findings.add(
                path.key("limits"),
                format!("names {named} meters"),
                format!("use at most {PLAN_METERS_MAX}"),
            );
        }
        features(catalog, plan, &path, findings);
        rate_limits(catalog, plan, &path, findings);
        if let Some(name) = &plan.dunning {
            let policies = catalog.dunning.iter().map(|policy| policy.name.as_str());
            findings.known(path.key("dunning"), "dunning policy", name.as_str(), policies);
        }
    }
    trials(catalog, &list, findings);
}

fn base_fee(
    catalog: &CatalogDefinition,
    plan: &PlanDef,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let Some(fee) = &plan.prices else {
        if plan.availability == Availability::Available {
            findings.add(
                path.key("prices"),
                "is missing on a plan that everyone can subscribe to",
                "add it (monthly: 0 for a free plan), or set availability: contact_sales",
            );
        }
        return;
    };
    let path = path.key("prices");
    if fee.monthly.is_none() && fee.yearly.is_none() {
        findings.add(path.key("monthly"), "is missing", "give monthly, yearly or both");
    }
    if fee.yearly.is_some() && fee.yearly_discount_percent.is_some() {
        findings.add(
            path.key("yearly_discount_percent"),
            "stands beside yearly",
            "give the yearly price or the discount that it is computed with, not both",
        );
    }
    if fee.yearly_discount_percent.is_some() && fee.monthly.is_none() {
        findings.add(
            path.key("yearly_discount_percent"),
            "has no monthly price to be computed from",
            "add monthly, or give yearly instead",
        );
    }
    findings.price(path.key("monthly"), fee.monthly, catalog.currency);
    findings.price(path.key("yearly"), fee.yearly, catalog.currency);
}

fn trials(catalog: &CatalogDefinition, list: &FieldPath, findings: &mut Findings) {
    let mut starts_by_itself = None;
    for (index, plan) in catalog.plans.iter().enumerate() {
        let Some(trial) = &plan.trial else { continue };
        let path = list.item(index).key("trial");
        if !(1..=TRIAL_DAYS_MAX).contains(&trial.days) {
            findings.add(
                path.key("days"),
                format!("is {}", trial.days),
                format!("give 1 to {TRIAL_DAYS_MAX}; leave `trial` out for none"),
            );
        }
        if trial.starts == TrialStart::OnTenantCreation {
            match starts_by_itself {
                None => starts_by_itself = Some(&plan.name),
                Some(first) => findings.add(
                    path.key("starts"),
                    format!("is on_tenant_creation, as on the plan {first} already"),
                    "let one plan's trial start by itself",
                ),
            }
        }
    }
}

fn features(
    catalog: &CatalogDefinition,
    plan: &PlanDef,
    path: &FieldPath,
    findings: &mut Findings,
) {
    for (name, value) in &plan.features {
        let path = path.key("features").key(name.as_str());
        let names = catalog.features.iter().map(|feature| feature.name.as_str());
        findings.known(path.clone(), "feature", name.as_str(), names);
        if let Some(feature) = catalog.features.iter().find(|one| one.name == *name)
            && let Err(invalid) = feature.value(value)
        {
            findings.add_invalid(path, invalid);
        }
    }
}

fn rate_limits(
    catalog: &CatalogDefinition,
    plan: &PlanDef,
    path: &FieldPath,
    findings: &mut Findings,
) {
    for (name, limits) in &plan.rate_limits {
        let path = path.key("rate_limits").key(name.as_str());
        let names = catalog.rates.iter().map(|rate| rate.name.as_str());
        findings.known(path.clone(), "rate", name.as_str(), names);
        if limits.is_empty() {
            findings.add(path.clone(), "is empty", "give a rate, or remove it for no limit");
        }
        for (index, limit) in limits.iter().enumerate() {
            let path = path.item(index);
            findings.at_least_one(path.key("requests"), limit.requests.into());
            if let Some(burst) = limit.burst {
                findings.at_least_one(path.key("burst"), burst.into());
            }
            if limits[..index].iter().any(|before| before.per == limit.per) {
                findings.add(
                    path.key("per"),
                    "is limited twice for the same unit of time",
                    "keep the lower one",
                );
            }
        }
    }
}
