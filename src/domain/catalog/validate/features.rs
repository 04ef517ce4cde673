use std::collections::BTreeSet;

use super::findings::Findings;
use crate::domain::catalog::{
    definition::CatalogDefinition,
    features::{FeatureDef, FeatureType},
    field_path::FieldPath,
};

pub(super) fn check(catalog: &CatalogDefinition, root: &FieldPath, findings: &mut Findings) {
    let list = root.key("features");
    findings.unique(&list, "name", catalog.features.iter().map(|feature| feature.name.as_str()));
    for (index, feature) in catalog.features.iter().enumerate() {
        let path = list.item(index);
        values(feature, &path, findings);
        rollout(catalog, feature, &path, findings);
        sunset(catalog, feature, &path, findings);
    }
}

fn values(feature: &FeatureDef, path: &FieldPath, findings: &mut Findings) {
    let is_enum = feature.kind == FeatureType::Enum;
    if is_enum && feature.values.is_empty() {
        findings.add(path.key("values"), "is missing", "list the values of the enum");
    }
    if !is_enum && !feature.values.is_empty() {
        findings.add(path.key("values"), "is only for enums", "remove it, or set type: enum");
    }
    let mut seen = BTreeSet::new();
    for (index, value) in feature.values.iter().enumerate() {
        if !seen.insert(value) {
            let item = path.key("values").item(index);
            findings.add(item, format!("{value:?} is named twice"), "remove one");
        }
    }
    if let Some(default) = &feature.default
        && let Err(invalid) = feature.value(default)
    {
        findings.add_invalid(path.key("default"), invalid);
    }
}

fn rollout(
    catalog: &CatalogDefinition,
    feature: &FeatureDef,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let Some(rollout) = &feature.rollout else { return };
    let path = path.key("rollout");
    match &rollout.value {
        Some(value) => {
            if let Err(invalid) = feature.value(value) {
                findings.add_invalid(path.key("value"), invalid);
            }
        }
        None if feature.kind != FeatureType::Boolean => {
            findings.add(path.key("value"), "is missing", "give the value that tenants get");
        }
        None => {}
    }
    for (index, plan) in rollout.plans.iter().enumerate() {
        let plans = catalog.plans.iter().map(|plan| plan.name.as_str());
        findings.known(path.key("plans").item(index), "plan", plan.as_str(), plans);
    }
}

fn sunset(
    catalog: &CatalogDefinition,
    feature: &FeatureDef,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let Some(sunset) = &feature.sunset else { return };
    let Some(replacement) = &sunset.replacement else { return };
    let path = path.key("sunset").key("replacement");
    if *replacement == feature.name {
        findings.add(path, "is the feature itself", "name another feature or remove it");
        return;
    }
    let features = catalog.features.iter().map(|feature| feature.name.as_str());
    findings.known(path, "feature", replacement.as_str(), features);
}
