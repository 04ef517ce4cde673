use super::findings::Findings;
use crate::domain::{
    catalog::{
        definition::CatalogDefinition,
        features::FeatureType,
        field_path::FieldPath,
        meters::MeterDef,
        operations::{OperationDef, OperationFeature},
    },
    meter::{Aggregation, MeterKind},
};

pub(super) fn check(catalog: &CatalogDefinition, root: &FieldPath, findings: &mut Findings) {
    let rates = root.key("rates");
    findings.unique(&rates, "name", catalog.rates.iter().map(|rate| rate.name.as_str()));

    let list = root.key("operations");
    findings.unique(&list, "name", catalog.operations.iter().map(|one| one.name.as_str()));
    for (index, operation) in catalog.operations.iter().enumerate() {
        one(catalog, operation, &list.item(index), findings);
    }
}

fn one(
    catalog: &CatalogDefinition,
    operation: &OperationDef,
    path: &FieldPath,
    findings: &mut Findings,
) {
    for (index, needed) in operation.features.iter().enumerate() {
        feature(catalog, needed, &path.key("features").item(index), findings);
    }
    for (index, rate) in operation.rates.iter().enumerate() {
        let rates = catalog.rates.iter().map(|rate| rate.name.as_str());
        findings.known(path.key("rates").item(index), "rate", rate.as_str(), rates);
    }
    let meters = path.key("meters");
    let mut distinct_before = None;
    for (index, taken) in operation.meters.iter().enumerate() {
        let path = meters.item(index).key("meter");
        let names = catalog.meters.iter().map(|meter| meter.name.as_str());
        findings.known(path.clone(), "meter", taken.meter.as_str(), names);
        let meter = catalog.meters.iter().find(|meter| meter.name == taken.meter);
        if meter.is_some_and(|meter| meter.kind == MeterKind::Static) {
            findings.add(path.clone(), "is static: nothing can be taken from it", "remove it");
        }
        let is_distinct = |meter: &&MeterDef| meter.aggregation == Aggregation::DistinctCount;
        // A distinct value cannot be taken back when another part denies: it comes last, alone.
        if let Some(meter) = meter.filter(is_distinct)
            && let Some(before) = distinct_before.replace(&meter.name)
        {
            let problem = format!("counts distinct values, as {before} does");
            findings.add(path, problem, "let an operation take from one such meter");
        }
    }
}

fn feature(
    catalog: &CatalogDefinition,
    needed: &OperationFeature,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let names = catalog.features.iter().map(|feature| feature.name.as_str());
    findings.known(path.key("feature"), "feature", needed.feature.as_str(), names);
    let Some(feature) = catalog.features.iter().find(|one| one.name == needed.feature) else {
        return;
    };
    if needed.any_of.is_empty() && feature.kind != FeatureType::Boolean {
        findings.add(
            path.key("any_of"),
            format!("is missing: {} is not a boolean", feature.name),
            "list the values that will do",
        );
    }
    for (index, value) in needed.any_of.iter().enumerate() {
        if let Err(invalid) = feature.value(value) {
            findings.add_invalid(path.key("any_of").item(index), invalid);
        }
    }
}
