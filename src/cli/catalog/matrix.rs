//! A catalog's plans side by side.

use rust_decimal::Decimal;

use crate::{
    cli::table::table,
    domain::catalog::{
        Catalog,
        definition::CatalogDefinition,
        features::FeatureDef,
        meters::{MeterDef, Unit},
        plans::{Availability, EnforcementDef, LimitDef, PlanDef},
        prices::UsagePrice,
    },
};

/// One column per plan; rows for prices, trial, limits and features.
pub(super) fn of(catalog: &Catalog) -> String {
    let definition = catalog.definition();
    let mut heads = vec![""];
    heads.extend(definition.plans.iter().map(|plan| plan.name.as_str()));
    let mut rows = vec![
        row("per month", definition, |plan| price(plan.prices.as_ref()?.monthly?.get())),
        row("per year", definition, |plan| price(plan.prices.as_ref()?.per_year()?)),
        row("trial, days", definition, |plan| Some(plan.trial?.days.to_string())),
        row("open to", definition, |plan| {
            let open_to = match plan.availability {
                Availability::Available => "all",
                Availability::ContactSales => "contact sales",
                Availability::Hidden => "hidden",
                Availability::Retired => "nobody new",
            };
            Some(open_to.to_owned())
        }),
    ];
    rows.extend(definition.meters.iter().map(|meter| {
        let cell = |plan: &PlanDef| plan.limits.get(&meter.name).map(|one| limit(meter, one));
        row(&with_unit(meter), definition, cell)
    }));
    rows.extend(
        definition.features.iter().map(|feature| {
            row(feature.name.as_str(), definition, |plan| Some(value(feature, plan)))
        }),
    );
    table(&heads, &rows)
}

fn row(
    head: &str,
    definition: &CatalogDefinition,
    cell: impl Fn(&PlanDef) -> Option<String>,
) -> Vec<String> {
    let cells = definition.plans.iter().map(|plan| cell(plan).unwrap_or_else(|| "-".to_owned()));
    std::iter::once(head.to_owned()).chain(cells).collect()
}

fn price(amount: Decimal) -> Option<String> {
    Some(amount.normalize().to_string())
}

fn with_unit(meter: &MeterDef) -> String {
    format!("{}, {}", meter.name, meter.display().name)
}

fn limit(meter: &MeterDef, written: &LimitDef) -> String {
    let limit = written.compile(meter);
    let unit = meter.display();
    let mut text = limit.amount.map_or("unlimited".to_owned(), |amount| in_unit(amount, &unit));
    if let (true, Some(subject)) = (limit.per_subject, &meter.subject) {
        text.push_str(&format!(" each {subject}"));
    }
    if limit.period != crate::domain::period::Period::Lifetime {
        text.push_str(&format!(" / {}", limit.period));
    }
    if limit.grace > 0 {
        text.push_str(&format!(" + {} grace", in_unit(limit.grace, &unit)));
    }
    if let Some(overage) = &written.overage {
        text.push_str(&format!(", then {}", overage_price(meter, overage)));
    } else if written.enforcement == EnforcementDef::Soft {
        text.push_str(", soft");
    }
    if let Some(cap) = written.hard_cap {
        text.push_str(&format!(", {} at most", in_unit(cap.get(), &unit)));
    }
    text
}

fn overage_price(meter: &MeterDef, price: &UsagePrice) -> String {
    let per = meter.pricing_per(price.per.as_deref());
    match (price.rate, &price.package) {
        (Some(rate), _) => format!("{rate} per {}", per.name),
        (None, Some(package)) => {
            format!("{} per {} {}", package.price, package.size.get(), meter.unit)
        }
        (None, None) => "by tiers".to_owned(),
    }
}

fn in_unit(amount: u64, unit: &Unit) -> String {
    // Units have at least one base unit.
    let figure = Decimal::from(amount).checked_div(Decimal::from(unit.size));
    figure.unwrap_or_default().normalize().to_string()
}

fn value(feature: &FeatureDef, plan: &PlanDef) -> String {
    let value = match plan.features.get(&feature.name) {
        Some(value) => feature.value(value).ok(),
        None => feature.value_by_default(),
    };
    match value.map(|value| value.to_json()) {
        Some(serde_json::Value::Bool(true)) => "yes".to_owned(),
        Some(serde_json::Value::Bool(false)) | None => "-".to_owned(),
        Some(serde_json::Value::String(text)) => text,
        Some(other) => other.to_string(),
    }
}
