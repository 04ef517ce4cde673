//! What a new version of a catalog may not change: the meaning of what was counted before.

use super::{
    definition::CatalogDefinition, field_path::FieldPath, finding::Finding, meters::MeterDef,
};

/// Meters of `after` whose name meant something else in `before`: usage and subscribers of older
/// plan versions go on under the name, so that one name keeps one meaning for good.
pub(super) fn redefined_meters<'a>(
    before: impl IntoIterator<Item = &'a MeterDef>,
    after: &CatalogDefinition,
) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for old in before {
        let Some(index) = after.meters.iter().position(|new| new.name == old.name) else {
            continue;
        };
        let new = &after.meters[index];
        let path = FieldPath::default().key("meters").item(index);
        let word = |value: serde_json::Result<serde_json::Value>| {
            value
                .map_or_else(|_| String::new(), |value| value.as_str().unwrap_or("none").to_owned())
        };
        let fields = [
            ("kind", serde_json::to_value(old.kind), serde_json::to_value(new.kind)),
            (
                "aggregation",
                serde_json::to_value(old.aggregation),
                serde_json::to_value(new.aggregation),
            ),
            ("unit", serde_json::to_value(&old.unit), serde_json::to_value(&new.unit)),
            (
                "distinct_property",
                serde_json::to_value(&old.distinct_property),
                serde_json::to_value(&new.distinct_property),
            ),
        ];
        for (field, old, new) in fields {
            let (old, new) = (word(old), word(new));
            let path = path.key(field);
            if old != new && !findings.iter().any(|finding| finding.path == path) {
                findings.push(Finding {
                    path,
                    key_place: None,
                    problem: format!(
                        "changes from {old} to {new}, though usage was counted as {old}"
                    ),
                    remedy: format!("put it back to {old}, and add a meter of another name"),
                });
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use crate::domain::catalog::Catalog;

    const BEFORE: &str = "\
catalog: shop
currency: USD
meters:
  - { name: calls, kind: counter, unit: call }
plans:
  - { name: small, prices: { monthly: 9 }, limits: { calls: 100 } }
";

    #[test]
    fn a_meter_keeps_its_meaning_under_its_name() {
        let before = Catalog::parse("shop.yaml", BEFORE).unwrap();
        let changed = BEFORE.replace("kind: counter, unit: call", "kind: level, unit: minute");
        let after = Catalog::parse("shop.yaml", &changed).unwrap();
        let errors =
            after.check_meters_keep_their_meaning(&before.definition().meters).unwrap_err();
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "shop.yaml:4:26: meters[calls].kind: changes from counter to level, though usage \
                 was counted as counter; put it back to counter, and add a meter of another name",
                "shop.yaml:4:39: meters[calls].unit: changes from call to minute, though usage was \
                 counted as call; put it back to call, and add a meter of another name",
            ]
        );
    }

    #[test]
    fn what_a_meter_is_shown_and_priced_by_may_change() {
        let before = Catalog::parse("shop.yaml", BEFORE).unwrap();
        let other = "unit: call, units: { k: 1000 }, display_unit: k, period: day, title: Calls";
        let after = Catalog::parse("shop.yaml", &BEFORE.replace("unit: call", other)).unwrap();
        after.check_meters_keep_their_meaning(&before.definition().meters).unwrap();
    }
}
