//! What a catalog has beside its plans: a table for each list, a line for each policy.
//!
//! They are made of what is stored, so that nothing of it is left out; what is not written there
//! has its default.

use rust_decimal::Decimal;
use serde_json::{Map, Value};

use super::matrix::in_unit;
use crate::{
    cli::table::table,
    domain::catalog::{Catalog, definition::CatalogDefinition},
};

/// What is shown elsewhere, or belongs to no stored catalog.
const SHOWN_ELSEWHERE: [&str; 5] = ["catalog", "title", "currency", "plans", "tenants"];
/// Fields of a thing with a `meter` that are amounts of that meter, in base units.
const AMOUNTS: [&str; 5] = ["adds", "amount", "rollover_cap", "size", "total"];

/// Fields that say what a thing is called.
const NAMES: [&str; 3] = ["feature", "meter", "name"];

/// All sections, each after an empty line; policies last.
pub(super) fn of(catalog: &Catalog) -> String {
    let definition = catalog.definition();
    let Ok(Value::Object(stored)) = serde_json::to_value(definition) else {
        return String::new();
    };
    let (mut lists, mut policies) = (String::new(), String::new());
    for (name, value) in &stored {
        match value {
            _ if SHOWN_ELSEWHERE.contains(&name.as_str()) => {}
            Value::Array(entries) => {
                lists.push_str(&format!("\n{}\n{}", words(name), section(entries, definition)));
            }
            policy => {
                policies.push_str(&format!("{}: {}\n", words(name), inline(policy, definition)))
            }
        }
    }
    if policies.is_empty() { lists } else { format!("{lists}\n{policies}") }
}

/// A row for each entry and a column for each field that one of them has, titles last.
fn section(entries: &[Value], definition: &CatalogDefinition) -> String {
    let entries: Vec<_> = entries.iter().filter_map(Value::as_object).collect();
    let mut columns: Vec<&str> = Vec::new();
    for entry in &entries {
        for name in entry.keys().map(String::as_str) {
            if !columns.contains(&name) {
                columns.push(name);
            }
        }
    }
    columns.sort_by_key(|name| *name == "title");
    let heads: Vec<_> = columns.iter().map(|name| words(name)).collect();
    let heads: Vec<_> = heads.iter().map(|head| format!("  {head}")).collect();
    let row = |entry: &&Map<String, Value>| {
        let cell = |name: &&str| format!("  {}", cell(entry, name, definition));
        columns.iter().map(cell).collect::<Vec<_>>()
    };
    let rows: Vec<_> = entries.iter().map(row).collect();
    table(&heads.iter().map(String::as_str).collect::<Vec<_>>(), &rows)
}

fn cell(entry: &Map<String, Value>, name: &str, definition: &CatalogDefinition) -> String {
    let Some(value) = entry.get(name) else { return "-".to_owned() };
    let meter = entry.get("meter").and_then(Value::as_str);
    let meter = definition.meters.iter().find(|it| meter == Some(it.name.as_str()));
    match (meter, value.as_u64()) {
        (Some(meter), Some(units)) if AMOUNTS.contains(&name) => {
            let unit = meter.display();
            format!("{} {}", in_unit(units, &unit), unit.name)
        }
        _ => inline(value, definition),
    }
}

/// `keeps_back_percent` as `keeps back percent`.
fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// A value in one line. What an object is called comes first, and the rest in brackets.
fn inline(value: &Value, definition: &CatalogDefinition) -> String {
    let list = |entries: &[Value]| {
        let entries = entries.iter().map(|entry| inline(entry, definition));
        entries.collect::<Vec<_>>().join(", ")
    };
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        // Decimals are stored as text.
        Value::String(text) => match text.parse::<Decimal>() {
            Ok(number) => number.normalize().to_string(),
            Err(_) => text.clone(),
        },
        Value::Number(number) => number.to_string(),
        Value::Array(entries) => list(entries),
        Value::Object(fields) => {
            let told: Vec<_> = fields.iter().map(|it| field(fields, it, definition)).collect();
            let first = fields.keys().next().map_or("", String::as_str);
            match told.split_first() {
                Some((name, [])) if NAMES.contains(&first) => name.clone(),
                Some((name, rest)) if NAMES.contains(&first) => {
                    format!("{name} ({})", rest.join(", "))
                }
                _ => told.join(", "),
            }
        }
    }
}

/// A field with its name, unless it is itself what the thing is called.
fn field(
    fields: &Map<String, Value>,
    (name, value): (&String, &Value),
    definition: &CatalogDefinition,
) -> String {
    let told = cell(fields, name, definition);
    match value {
        _ if NAMES.contains(&name.as_str()) => told,
        Value::Array(_) | Value::Object(_) => format!("{} [{told}]", words(name)),
        _ => format!("{} {told}", words(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOG: &str = "
catalog: shop
currency: USD
meters:
  - { name: storage, kind: level, unit: byte, units: { GB: 1000000000 }, display_unit: GB }
features:
  - { name: export, type: boolean, default: false, rollout: { percent: 20 } }
rates:
  - { name: api, scope: sidecar, on_outage: deny }
operations:
  - { name: upload, features: [export], rates: [api], meters: [{ meter: storage, amount: 5 GB }], critical: true }
plans:
  - name: basic
    prices: { monthly: 0 }
    limits: { storage: 10 GB }
    rate_limits: { api: [{ requests: 60, per: minute, burst: 100 }] }
    emergency:
      - { name: rescue, meter: storage, amount: 1 GB, price: 0.5 }
grants:
  - { name: extra, kind: top_up, meter: storage, amount: 2.5 GB, price: 5 }
pools:
  - { name: team, meter: storage, size: 50 GB, plans: [basic] }
alerts: { thresholds: [50, 90] }
";

    #[test]
    fn nothing_that_is_stored_is_left_out() {
        let catalog = Catalog::parse("shop.yaml", CATALOG).unwrap();
        let shown = format!("{}{}", super::super::matrix::of(&catalog), of(&catalog));
        let squeezed = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        for told in [
            "rate api 60 per minute, burst 100",
            "emergency rescue 1 GB of storage",
            "rates name scope on outage api sidecar deny",
            "upload export api storage (amount 5 GB)",
            "export no percent 20",
            "extra top_up storage 2.5 GB 5",
            "team storage 50 GB basic",
            "alerts: thresholds [50, 90]",
        ] {
            assert!(squeezed.contains(told), "{told} is missing in\n{shown}");
        }
    }
}
