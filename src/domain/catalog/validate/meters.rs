use std::collections::BTreeSet;

use super::findings::Findings;
use crate::domain::{
    amount::AMOUNT_MAX,
    catalog::{
        definition::CatalogDefinition, error::did_you_mean, field_path::FieldPath, meters::MeterDef,
    },
    meter::{Aggregation, MeterKind},
    period::Period,
    properties::PROPERTY_NAME_BYTES_MAX,
};

/// Most properties that a meter's rollups may be kept by: their rows are the product of the values.
const GROUP_BY_MAX: usize = 8;
/// Longest name of a unit, in bytes.
const UNIT_BYTES_MAX: usize = 32;

pub(super) fn check(catalog: &CatalogDefinition, root: &FieldPath, findings: &mut Findings) {
    let list = root.key("meters");
    if catalog.meters.is_empty() {
        findings.add(list.clone(), "is empty", "describe at least one meter");
    }
    findings.unique(&list, "name", catalog.meters.iter().map(|meter| meter.name.as_str()));
    for (index, meter) in catalog.meters.iter().enumerate() {
        let path = list.item(index);
        kind_and_aggregation(meter, &path, findings);
        units(meter, &path, findings);
        properties(meter, &path, findings);
    }
}

fn kind_and_aggregation(meter: &MeterDef, path: &FieldPath, findings: &mut Findings) {
    let distinct = meter.aggregation == Aggregation::DistinctCount;
    match (&meter.distinct_property, distinct) {
        (None, true) => findings.add(
            path.key("distinct_property"),
            "is missing",
            "name the property whose distinct values are counted",
        ),
        (Some(_), false) => findings.add(
            path.key("distinct_property"),
            "is only for the aggregation distinct_count",
            "remove it, or set aggregation: distinct_count",
        ),
        _ => {}
    }
    match meter.kind {
        MeterKind::Counter => {}
        MeterKind::Level => {
            if !matches!(meter.aggregation, Aggregation::Sum | Aggregation::Last) {
                findings.add(
                    path.key("aggregation"),
                    "does not fit a level",
                    "use sum (events are changes) or last (events are the level itself)",
                );
            }
        }
        MeterKind::Static => {
            if meter.aggregation != Aggregation::Sum {
                findings.add(
                    path.key("aggregation"),
                    "is on a static meter, which nothing is recorded on",
                    "remove it",
                );
            }
            if meter.event_retention_days > 0 || !meter.group_by.is_empty() {
                findings.add(
                    path.clone(),
                    "keeps events of a static meter, which nothing is recorded on",
                    "remove event_retention_days and group_by",
                );
            }
        }
    }
    if meter.kind != MeterKind::Counter
        && meter.period.is_some_and(|period| period != Period::Lifetime)
    {
        findings.add(
            path.key("period"),
            "is on a meter that never starts again",
            "remove it, or set kind: counter",
        );
    }
    if meter.billed_on.is_some() && meter.kind != MeterKind::Level {
        findings.add(path.key("billed_on"), "is only for levels", "remove it, or set kind: level");
    }
}

fn units(meter: &MeterDef, path: &FieldPath, findings: &mut Findings) {
    let name_is_fine = |name: &str| {
        !name.is_empty()
            && name.len() <= UNIT_BYTES_MAX
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
    };
    let remedy = "use a letter, then letters, digits, '_' or '-', at most 32 in all";
    if !name_is_fine(&meter.unit) {
        findings.add(path.key("unit"), format!("{:?} is not a unit's name", meter.unit), remedy);
    }
    for (name, size) in &meter.units {
        let unit = path.key("units").key(name);
        if !name_is_fine(name) {
            findings.add(unit.clone(), "is not a unit's name", remedy);
        }
        if *name == meter.unit {
            findings.add(unit.clone(), "is the base unit", "remove it: it is always 1");
        }
        if *size < 1 || *size > AMOUNT_MAX {
            findings.add(
                unit,
                format!("is {size} base units"),
                format!("give 1 to 2^53 - 1 = {AMOUNT_MAX}"),
            );
        }
    }
    for (field, name) in
        [("display_unit", &meter.display_unit), ("pricing_unit", &meter.pricing_unit)]
    {
        if let Some(name) = name
            && meter.unit_size(name).is_none()
        {
            unknown_unit(meter, name, path.key(field), findings);
        }
    }
}

/// Says that `name` is not a unit of `meter`.
pub(super) fn unknown_unit(meter: &MeterDef, name: &str, path: FieldPath, findings: &mut Findings) {
    let known = std::iter::once(meter.unit.as_str()).chain(meter.units.keys().map(String::as_str));
    findings.add(
        path,
        format!("{name:?} is not a unit of the meter {}", meter.name),
        did_you_mean(name, known),
    );
}

fn properties(meter: &MeterDef, path: &FieldPath, findings: &mut Findings) {
    let list = path.key("group_by");
    if meter.group_by.len() > GROUP_BY_MAX {
        findings.add(
            list.clone(),
            format!("names {} properties", meter.group_by.len()),
            format!("use at most {GROUP_BY_MAX}: rollups have a row per combination of values"),
        );
    }
    let mut seen = BTreeSet::new();
    for (index, name) in meter.group_by.iter().enumerate() {
        if name.is_empty() || name.len() > PROPERTY_NAME_BYTES_MAX {
            findings.add(
                list.item(index),
                format!("has {} bytes", name.len()),
                format!("use 1 to {PROPERTY_NAME_BYTES_MAX}"),
            );
        }
        if !seen.insert(name) {
            findings.add(list.item(index), format!("{name:?} is named twice"), "remove one");
        }
    }
}
