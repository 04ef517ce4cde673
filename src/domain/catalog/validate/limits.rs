use super::{findings::Findings, prices};
use crate::domain::{
    amount::AMOUNT_MAX,
    catalog::{
        definition::CatalogDefinition,
        field_path::FieldPath,
        meters::MeterDef,
        plans::{EnforcementDef, LimitDef, PlanDef},
    },
    meter::{Aggregation, MeterKind},
    period::Period,
};

pub(super) fn check(
    catalog: &CatalogDefinition,
    plan: &PlanDef,
    path: &FieldPath,
    findings: &mut Findings,
) {
    for (name, limit) in &plan.limits {
        let path = path.key("limits").key(name.as_str());
        let names = catalog.meters.iter().map(|meter| meter.name.as_str());
        findings.known(path.clone(), "meter", name.as_str(), names);
        let Some(meter) = catalog.meters.iter().find(|one| one.name == *name) else { continue };
        at_the_limit(limit, &path, findings);
        of_its_meter(meter, limit, &path, findings);
        if let Some(overage) = &limit.overage {
            prices::usage_price(catalog, meter, overage, &path.key("overage"), findings);
            if plan.usage_prices.contains_key(name) {
                findings.add(
                    path.key("overage"),
                    "prices usage that usage_prices prices too",
                    "keep one of them",
                );
            }
        }
        if let Some(alerts) = &limit.alerts {
            findings.ascending_items(&path.key("alerts"), alerts);
        }
    }
}

/// What stands beyond a limit needs a soft one, and a limit at all.
fn at_the_limit(limit: &LimitDef, path: &FieldPath, findings: &mut Findings) {
    let beyond = [
        ("hard_cap", limit.hard_cap.is_some()),
        ("grace", limit.grace.get() > 0),
        ("overage", limit.overage.is_some()),
    ];
    let given = || beyond.iter().filter(|(_, given)| *given).map(|(field, _)| *field);
    let Some(amount) = limit.limit.get() else {
        for field in given() {
            findings.add(
                path.key(field),
                "stands on an unlimited meter, which nothing is beyond",
                "remove it, or give a limit",
            );
        }
        return;
    };
    if limit.enforcement == EnforcementDef::Hard {
        for field in given() {
            findings.add(
                path.key(field),
                "stands on a hard limit, which nothing is admitted beyond",
                "add enforcement: soft, or remove it",
            );
        }
        return;
    }
    if let Some(cap) = limit.hard_cap.map(|cap| cap.get())
        && cap < amount
    {
        findings.add(
            path.key("hard_cap"),
            format!("is {cap}, below the limit of {amount}"),
            "give the cap from zero, the limit included",
        );
    }
    if amount + limit.grace.get() > AMOUNT_MAX {
        findings.add(
            path.key("grace"),
            "comes with the limit to more than 2^53 - 1",
            "meter in a larger base unit",
        );
    }
}

fn of_its_meter(meter: &MeterDef, limit: &LimitDef, path: &FieldPath, findings: &mut Findings) {
    if meter.kind == MeterKind::Static && limit.enforcement == EnforcementDef::Soft {
        findings.add(
            path.key("enforcement"),
            "is soft on a static meter, which is only read",
            "remove it",
        );
    }
    if meter.kind != MeterKind::Counter
        && limit.period.is_some_and(|period| period != Period::Lifetime)
    {
        findings.add(
            path.key("period"),
            "is on a meter that never starts again",
            "remove it, or make the meter a counter",
        );
    }
    if limit.per_subject && meter.subject.is_none() {
        findings.add(
            path.key("per_subject"),
            format!("needs to know what a subject of {} is", meter.name),
            "add `subject` to the meter, such as subject: listing",
        );
    }
    let adds_up = matches!(
        meter.aggregation,
        Aggregation::Sum | Aggregation::Count | Aggregation::DistinctCount
    );
    if limit.grace.get() > 0 && !adds_up {
        findings.add(
            path.key("grace"),
            "needs a meter that adds up",
            "remove it, or use the aggregation sum or count",
        );
    }
}
