//! What changes between two versions of a catalog, field by field.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Catalog, plan_definition::PlanDefinition};
use crate::domain::ids::{CatalogName, PlanName};

/// What tells the items of a list apart, in the order that it is looked for.
const IDENTITIES: [&str; 9] =
    ["name", "code", "id", "meter", "feature", "months", "day", "tenants", "per"];

/// What a new version of a catalog changes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CatalogDiff {
    pub catalog: CatalogName,
    /// Plans that come, go or get a new version, in the new catalog's order.
    pub plans: Vec<PlanDiff>,
    /// Changes outside plans; what plans use of it is repeated at each of them.
    pub rest: Vec<FieldChange>,
}

/// What happens to one plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanDiff {
    pub plan: PlanName,
    pub effect: PlanEffect,
    pub changes: Vec<FieldChange>,
}

/// The kind of a plan's change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanEffect {
    /// The plan is new.
    Added,
    /// The plan gets a new version; subscribers keep theirs.
    NewVersion,
    /// The catalog no longer has the plan; subscribers keep their version.
    Removed,
}

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldChange {
    /// Path of the field, list items by their names; empty for all of it.
    pub field: String,
    /// Absent: the field is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// Absent: the field goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

impl CatalogDiff {
    /// What `after` changes of `before`; `None` = there was no such catalog.
    pub fn between(before: Option<&Catalog>, after: &Catalog) -> Self {
        let plans_before: Vec<_> = before.into_iter().flat_map(Catalog::plans).collect();
        let plans_after: Vec<_> = after.plans().collect();
        let mut plans: Vec<_> = plans_after
            .iter()
            .filter_map(|plan| {
                let name = &plan.plan.name;
                plan_diff(plans_before.iter().find(|one| one.plan.name == *name), Some(plan))
            })
            .collect();
        let removed = plans_before
            .iter()
            .filter(|plan| plans_after.iter().all(|one| one.plan.name != plan.plan.name));
        plans.extend(removed.filter_map(|plan| plan_diff(Some(plan), None)));

        let mut rest = Vec::new();
        if let Some(before) = before {
            let (before, after) = (without_plans(before), without_plans(after));
            compare("", Some(&before), Some(&after), &mut rest);
            let names = |plans: &[PlanDefinition]| -> Vec<_> {
                plans.iter().map(|plan| plan.plan.name.to_string()).collect()
            };
            compare_order("plans", names(&plans_before), names(&plans_after), &mut rest);
        }
        Self { catalog: after.name().clone(), plans, rest }
    }

    /// Whether both mean the same.
    pub fn is_empty(&self) -> bool {
        self.plans.is_empty() && self.rest.is_empty()
    }
}

fn without_plans(catalog: &Catalog) -> Value {
    let mut json = catalog.to_json();
    if let Some(object) = json.as_object_mut() {
        object.remove("plans");
    }
    json
}

fn plan_diff(before: Option<&PlanDefinition>, after: Option<&PlanDefinition>) -> Option<PlanDiff> {
    let (plan, effect) = match (before, after) {
        (None, Some(after)) => (after, PlanEffect::Added),
        (Some(before), None) => (before, PlanEffect::Removed),
        (Some(before), Some(after)) if before.hash() != after.hash() => {
            (after, PlanEffect::NewVersion)
        }
        _ => return None,
    };
    let mut changes = Vec::new();
    if effect == PlanEffect::NewVersion {
        let [before, after] = [before, after].map(|plan| plan.map(in_plan_words));
        compare("", before.as_ref(), after.as_ref(), &mut changes);
    }
    Some(PlanDiff { plan: plan.plan.name.clone(), effect, changes })
}

/// The definition with the plan's own fields at the top, as the file has them.
fn in_plan_words(plan: &PlanDefinition) -> Value {
    let mut json = plan.to_json();
    if let Some(object) = json.as_object_mut() {
        // What the plan says of features stands beside what their types are.
        if let Some(types) = object.remove("features") {
            object.insert("feature_types".to_owned(), types);
        }
        if let Some(Value::Object(own)) = object.remove("plan") {
            // Only the name of the policy: its steps are already there under the same word.
            object.extend(own.into_iter().filter(|(field, _)| field != "dunning"));
        }
    }
    json
}

fn compare(
    field: &str,
    before: Option<&Value>,
    after: Option<&Value>,
    changes: &mut Vec<FieldChange>,
) {
    match (before, after) {
        (Some(before), Some(after)) if before == after => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            compare_objects(field, before, after, changes);
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => match identity(old, new) {
            Some(key) => compare_lists(field, key, old, new, changes),
            None => changes.push(FieldChange {
                field: field.to_owned(),
                before: before.cloned(),
                after: after.cloned(),
            }),
        },
        (None, None) => {}
        _ => changes.push(FieldChange {
            field: field.to_owned(),
            before: before.cloned(),
            after: after.cloned(),
        }),
    }
}

fn compare_objects(
    field: &str,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    changes: &mut Vec<FieldChange>,
) {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let inner = if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
        compare(&inner, before.get(key), after.get(key), changes);
    }
}

/// The field that tells all items of both lists apart, if there is one.
fn identity(before: &[Value], after: &[Value]) -> Option<&'static str> {
    let tells_apart = |key: &&&'static str, list: &[Value]| {
        let ids: Vec<_> = list.iter().filter_map(|item| own_id(item, key)).collect();
        let different: BTreeSet<_> = ids.iter().collect();
        ids.len() == list.len() && different.len() == list.len()
    };
    IDENTITIES.iter().find(|key| tells_apart(key, before) && tells_apart(key, after)).copied()
}

fn own_id(item: &Value, key: &str) -> Option<String> {
    match item.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn compare_lists(
    field: &str,
    key: &str,
    before: &[Value],
    after: &[Value],
    changes: &mut Vec<FieldChange>,
) {
    let ids =
        |list: &[Value]| -> Vec<_> { list.iter().filter_map(|item| own_id(item, key)).collect() };
    let (ids_before, ids_after) = (ids(before), ids(after));
    let gone = ids_before.iter().filter(|id| !ids_after.contains(id));
    for id in ids_after.iter().chain(gone) {
        let item = |ids: &[String], list| -> Option<&Value> {
            let list: &[Value] = list;
            list.get(ids.iter().position(|one| one == id)?)
        };
        let (old, new) = (item(&ids_before, before), item(&ids_after, after));
        compare(&format!("{field}[{id}]"), old, new, changes);
    }
    compare_order(field, ids_before, ids_after, changes);
}

/// Says when what both lists have stands in another order.
fn compare_order(
    field: &str,
    mut before: Vec<String>,
    mut after: Vec<String>,
    changes: &mut Vec<FieldChange>,
) {
    let common: BTreeSet<_> = before.iter().filter(|id| after.contains(id)).cloned().collect();
    before.retain(|id| common.contains(id));
    after.retain(|id| common.contains(id));
    if before != after {
        changes.push(FieldChange {
            field: format!("order of {field}"),
            before: Some(Value::from(before)),
            after: Some(Value::from(after)),
        });
    }
}

impl fmt::Display for CatalogDiff {
    /// One line per change, each plan under its heading.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "catalog {}: no changes", self.catalog);
        }
        writeln!(f, "catalog {}", self.catalog)?;
        for plan in &self.plans {
            let effect = match plan.effect {
                PlanEffect::Added => "added",
                PlanEffect::NewVersion => "new version; subscribers keep theirs",
                PlanEffect::Removed => "removed; subscribers keep it",
            };
            writeln!(f, "plan {}: {effect}", plan.plan)?;
            for change in &plan.changes {
                writeln!(f, "  {change}")?;
            }
        }
        if !self.rest.is_empty() {
            writeln!(f, "beside plans:")?;
        }
        for change in &self.rest {
            writeln!(f, "  {change}")?;
        }
        Ok(())
    }
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, "~ {}: {before} -> {after}", self.field),
            (None, Some(after)) => write!(f, "+ {}: {after}", self.field),
            (Some(before), None) => write!(f, "- {}: {before}", self.field),
            (None, None) => write!(f, "{}", self.field),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "\
catalog: shop
currency: USD
meters:
  - { name: calls, kind: counter, unit: call }
  - { name: seats, kind: level, unit: seat }
features: [{ name: export }]
plans:
  - { name: small, prices: { monthly: 9 }, limits: { calls: 100 }, features: { export: false } }
  - { name: large, prices: { monthly: 99 }, limits: { calls: -1, seats: 5 } }
dunning: [{ name: a, steps: [{ day: 1, notice: reminder }] }]
";

    fn parse(text: &str) -> Catalog {
        Catalog::parse("shop.yaml", text).unwrap()
    }

    fn diff(edits: &[(&str, &str)]) -> String {
        let after = edits.iter().fold(BEFORE.to_owned(), |text, (piece, other)| {
            assert!(text.contains(piece), "{piece}");
            text.replace(piece, other)
        });
        CatalogDiff::between(Some(&parse(BEFORE)), &parse(&after)).to_string()
    }

    #[test]
    fn another_way_to_write_the_same_changes_nothing() {
        let same = [
            ("calls: 100", "calls: { limit: 100, enforcement: hard }"),
            ("monthly: 99", "monthly: 99.00"),
        ];
        assert_eq!(diff(&same), "catalog shop: no changes\n");
    }

    #[test]
    fn a_changed_limit_is_a_new_version_of_its_plan_alone() {
        assert_eq!(
            diff(&[("calls: 100", "calls: 200"), ("export: false", "export: true")]),
            "catalog shop\nplan small: new version; subscribers keep theirs\n  \
             ~ features.export: false -> true\n  ~ limits.calls.limit: 100 -> 200\n"
        );
    }

    #[test]
    fn what_plans_use_is_told_at_each_of_them() {
        assert_eq!(
            diff(&[
                ("day: 1, notice", "day: 2, notice"),
                ("unit: seat", "unit: seat, title: Seats")
            ]),
            "catalog shop\n\
             plan small: new version; subscribers keep theirs\n  \
             + dunning.steps[2]: {\"day\":2,\"notice\":\"reminder\"}\n  \
             - dunning.steps[1]: {\"day\":1,\"notice\":\"reminder\"}\n\
             plan large: new version; subscribers keep theirs\n  \
             + dunning.steps[2]: {\"day\":2,\"notice\":\"reminder\"}\n  \
             - dunning.steps[1]: {\"day\":1,\"notice\":\"reminder\"}\n  \
             + meters[seats].title: \"Seats\"\n\
             beside plans:\n  \
             + dunning[a].steps[2]: {\"day\":2,\"notice\":\"reminder\"}\n  \
             - dunning[a].steps[1]: {\"day\":1,\"notice\":\"reminder\"}\n  \
             + meters[seats].title: \"Seats\"\n"
        );
    }

    #[test]
    fn plans_come_and_go_and_change_places() {
        assert_eq!(
            diff(&[("name: small", "name: tiny")]),
            "catalog shop\nplan tiny: added\nplan small: removed; subscribers keep it\n"
        );
        let mut lines: Vec<_> = BEFORE.lines().collect();
        lines.swap(7, 8);
        let after = lines.join("\n");
        let told = CatalogDiff::between(Some(&parse(BEFORE)), &parse(&after)).to_string();
        assert_eq!(
            told,
            "catalog shop\nbeside plans:\n  \
             ~ order of plans: [\"small\",\"large\"] -> [\"large\",\"small\"]\n"
        );
    }

    #[test]
    fn a_new_catalog_adds_its_plans() {
        let diff = CatalogDiff::between(None, &parse(BEFORE));
        assert_eq!(
            serde_json::to_value(&diff).unwrap(),
            serde_json::json!({
                "catalog": "shop",
                "plans": [
                    { "plan": "small", "effect": "added", "changes": [] },
                    { "plan": "large", "effect": "added", "changes": [] },
                ],
                "rest": [],
            })
        );
    }
}
