//! A catalog's plans side by side.

use rust_decimal::Decimal;

use crate::{
    cli::table::table,
    domain::catalog::{
        Catalog,
        allowances::EmergencyRule,
        definition::CatalogDefinition,
        features::FeatureDef,
        meters::{MeterDef, Unit},
        operations::{RateLimitDef, RateUnit},
        plans::{Availability, EnforcementDef, LimitDef, PaymentMethod, PlanDef, TrialStart},
        prices::{PriceTier, UsagePrice},
    },
    domain::{limit::OutagePolicy, period::Period},
};

/// One column per plan; rows for prices, trial, limits, rates, emergency rules and features.
pub(super) fn of(catalog: &Catalog) -> String {
    let definition = catalog.definition();
    let mut heads = vec![""];
    heads.extend(definition.plans.iter().map(|plan| plan.name.as_str()));
    let mut rows = vec![
        row("per month", definition, |plan| price(plan.prices.as_ref()?.monthly?.get())),
        row("per year", definition, |plan| price(plan.prices.as_ref()?.per_year()?)),
        row("trial, days", definition, |plan| {
            let trial = plan.trial?;
            let needs = match trial.payment_method {
                PaymentMethod::Required => " (payment method required)",
                PaymentMethod::NotRequired => "",
            };
            let starts = match trial.starts {
                TrialStart::OnSubscription => "",
                TrialStart::OnTenantCreation => " from a tenant's creation",
            };
            Some(format!("{}{needs}{starts}", trial.days))
        }),
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
    rows.extend(definition.meters.iter().filter_map(|meter| {
        let price = |plan: &PlanDef| Some(usage_price(meter, plan.usage_prices.get(&meter.name)?));
        any(row(&format!("price of {}", meter.name), definition, price))
    }));
    rows.extend(definition.rates.iter().filter_map(|rate| {
        let limits = |plan: &PlanDef| Some(rate_limits(plan.rate_limits.get(&rate.name)?));
        any(row(&format!("rate {}", rate.name), definition, limits))
    }));
    rows.extend(any(row("emergency", definition, |plan| {
        let rules: Vec<_> = plan.emergency.iter().map(|rule| emergency(rule, definition)).collect();
        (!rules.is_empty()).then(|| rules.join("; "))
    })));
    rows.extend(any(row("dunning", definition, |plan| Some(plan.dunning.as_ref()?.to_string()))));
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

/// A row that says something of one plan at least.
fn any(row: Vec<String>) -> Option<Vec<String>> {
    row.iter().skip(1).any(|cell| cell != "-").then_some(row)
}

fn rate_limits(windows: &[RateLimitDef]) -> String {
    let window = |window: &RateLimitDef| {
        let per = match window.per {
            RateUnit::Second => "second",
            RateUnit::Minute => "minute",
            RateUnit::Hour => "hour",
            RateUnit::Day => "day",
        };
        let burst = window.burst.map_or(String::new(), |burst| format!(", burst {burst}"));
        format!("{} per {per}{burst}", window.requests)
    };
    windows.iter().map(window).collect::<Vec<_>>().join("; ")
}

fn emergency(rule: &EmergencyRule, definition: &CatalogDefinition) -> String {
    let meter = definition.meters.iter().find(|meter| meter.name == rule.meter);
    let amount = meter.map_or_else(
        || rule.amount.get().to_string(),
        |meter| {
            format!("{} {}", in_unit(rule.amount.get(), &meter.display()), meter.display().name)
        },
    );
    let period = rule.period.unwrap_or(Period::BillingCycle);
    let price = meter.map_or(String::new(), |meter| usage_price(meter, &rule.price));
    let mut text = format!("{} {amount} of {}, ", rule.name, rule.meter);
    match rule.times {
        1 => text.push_str(&format!("once a {period}, {price}")),
        times => text.push_str(&format!("{times} times a {period}, {price}")),
    }
    if !rule.operations.is_empty() {
        let names: Vec<_> = rule.operations.iter().map(ToString::to_string).collect();
        text.push_str(&format!(", for {}", names.join(", ")));
    }
    text
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
    if limit.period != Period::Lifetime {
        text.push_str(&format!(" / {}", limit.period));
    }
    if limit.grace > 0 {
        text.push_str(&format!(" + {} grace", in_unit(limit.grace, &unit)));
    }
    if let Some(overage) = &written.overage {
        text.push_str(&format!(", then {}", usage_price(meter, overage)));
    } else if written.enforcement == EnforcementDef::Soft {
        text.push_str(", soft");
    }
    if let Some(cap) = written.hard_cap {
        text.push_str(&format!(", {} at most", in_unit(cap.get(), &unit)));
    }
    if let Some(policy) = written.on_outage {
        let verb = match policy {
            OutagePolicy::Allow => "allows",
            OutagePolicy::Deny => "denies",
        };
        text.push_str(&format!(", {verb} in outages"));
    }
    if let Some(alerts) = &written.alerts {
        let percents: Vec<_> = alerts.iter().map(ToString::to_string).collect();
        text.push_str(&format!(", alerts at {} %", percents.join(", ")));
    }
    text
}

fn usage_price(meter: &MeterDef, price: &UsagePrice) -> String {
    let per = meter.pricing_per(price.per.as_deref()).name;
    let tiers = |how: &str, tiers: &[PriceTier]| {
        let tier = |tier: &PriceTier| {
            let flat = tier.flat.map_or(String::new(), |flat| format!(" and {flat} once"));
            match tier.up_to {
                Some(up_to) => {
                    format!("{}{flat} up to {}", tier.rate, in_unit(up_to.get(), &meter.display()))
                }
                None => format!("{}{flat} beyond", tier.rate),
            }
        };
        let tiers: Vec<_> = tiers.iter().map(tier).collect();
        format!("{how} per {per}: {}", tiers.join(", "))
    };
    let mut text = match (price.rate, &price.package, &price.graduated, &price.volume) {
        (Some(rate), ..) => format!("{rate} per {per}"),
        (_, Some(package), ..) => {
            format!("{} per {} {}", package.price, package.size.get(), meter.unit)
        }
        (_, _, Some(graduated), _) => tiers("graduated", graduated),
        (_, _, _, Some(volume)) => tiers("volume", volume),
        // No catalog that was checked has such a price.
        _ => "no price".to_owned(),
    };
    if let Some(by) = &price.by_property {
        let rates: Vec<_> =
            by.rates.iter().map(|(value, rate)| format!("{value} {rate}")).collect();
        text.push_str(&format!(" (by {}: {})", by.property, rates.join(", ")));
    }
    text
}

/// An amount in a larger unit.
pub(super) fn in_unit(amount: u64, unit: &Unit) -> String {
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
