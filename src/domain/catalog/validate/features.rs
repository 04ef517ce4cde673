use std::collections::BTreeSet;

use super::findings::Findings;
use crate::domain::catalog::{
    definition::CatalogDefinition,
    features::{FeatureDef, FeatureType},
    field_path::FieldPath,
};

/// Most attributes of a catalog.
const ATTRIBUTES_MAX: usize = 16;
/// Most rules of a feature.
const TARGETING_RULES_MAX: usize = 32;
/// Most values of an attribute in a rule.
const TARGETING_VALUES_MAX: usize = 100;

pub(super) fn check(catalog: &CatalogDefinition, root: &FieldPath, findings: &mut Findings) {
    let list = root.key("features");
    findings.unique(&list, "name", catalog.features.iter().map(|feature| feature.name.as_str()));
    let attributes = root.key("attributes");
    at_most(catalog.attributes.len(), ATTRIBUTES_MAX, &attributes, findings);
    findings.unique(&attributes, "name", catalog.attributes.iter().map(|one| one.name.as_str()));
    for (index, feature) in catalog.features.iter().enumerate() {
        let path = list.item(index);
        values(feature, &path, findings);
        targeting(catalog, feature, &path, findings);
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

fn at_most(count: usize, most: usize, path: &FieldPath, findings: &mut Findings) {
    if count > most {
        findings.add(path.clone(), format!("has {count} entries"), format!("use at most {most}"));
    }
}

fn targeting(
    catalog: &CatalogDefinition,
    feature: &FeatureDef,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let list = path.key("targeting");
    at_most(feature.targeting.len(), TARGETING_RULES_MAX, &list, findings);
    for (index, rule) in feature.targeting.iter().enumerate() {
        let path = list.item(index);
        given_value(feature, rule.value.as_ref(), &path, findings);
        let when = path.key("when");
        if rule.when.is_empty() {
            let remedy = "name an attribute, or give the value as the default";
            findings.add(when.clone(), "is empty", remedy);
        }
        for (attribute, values) in &rule.when {
            let path = when.key(attribute.as_str());
            let known = catalog.attributes.iter().map(|attribute| attribute.name.as_str());
            findings.known(path.clone(), "declared attribute", attribute.as_str(), known);
            if values.is_empty() {
                findings.add(path.clone(), "is empty", "list the values that will do");
            }
            at_most(values.len(), TARGETING_VALUES_MAX, &path, findings);
        }
    }
}

/// The value of a rollout or a rule: `true` goes without saying.
fn given_value(
    feature: &FeatureDef,
    value: Option<&serde_json::Value>,
    path: &FieldPath,
    findings: &mut Findings,
) {
    match value {
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
}

fn rollout(
    catalog: &CatalogDefinition,
    feature: &FeatureDef,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let Some(rollout) = &feature.rollout else { return };
    let path = path.key("rollout");
    given_value(feature, rollout.value.as_ref(), &path, findings);
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
