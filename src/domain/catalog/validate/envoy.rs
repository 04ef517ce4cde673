use std::collections::BTreeSet;

use super::findings::Findings;
use crate::domain::catalog::{
    definition::CatalogDefinition,
    envoy::{EnvoyRuleDef, TENANT_KEY},
    field_path::FieldPath,
    names::RateName,
};

pub(super) fn check(catalog: &CatalogDefinition, root: &FieldPath, findings: &mut Findings) {
    let list = root.key("envoy");
    for (index, rule) in catalog.envoy.iter().enumerate() {
        let path = list.item(index);
        one(catalog, rule, &path, findings);
        let same = catalog.envoy[..index].iter().position(|before| takes_all_of(before, rule));
        if let Some(same) = same {
            findings.add(
                path,
                format!("is never asked: envoy[{same}] is for the same descriptors"),
                "remove it, or put it first",
            );
        }
    }
}

fn one(
    catalog: &CatalogDefinition,
    rule: &EnvoyRuleDef,
    path: &FieldPath,
    findings: &mut Findings,
) {
    if rule.domain.is_empty() {
        findings.add(path.key("domain"), "is empty", "give the domain that Envoy's filter names");
    }
    let mut seen = BTreeSet::new();
    for (index, key) in rule.subject.iter().enumerate() {
        let path = path.key("subject").item(index);
        if key == TENANT_KEY {
            findings.add(path, "is the entry that names the tenant", "give another, or none");
        } else if rule.when.contains_key(key) {
            findings.add(path, format!("{key:?} has one value in when"), "remove it here or there");
        } else if !seen.insert(key) {
            findings.add(path, format!("{key:?} is already there"), "remove it");
        }
    }
    if rule.when.contains_key(TENANT_KEY) {
        findings.add(
            path.key("when").key(TENANT_KEY),
            "is the entry that names the tenant",
            "remove it: every descriptor needs it",
        );
    }
    if rule.target().is_none() {
        findings.add(
            path.clone(),
            "does not say what it asks",
            "give one of rate, meter and operation",
        );
    }
    if let Some(name) = &rule.rate {
        let rates = catalog.rates.iter().map(|rate| rate.name.as_str());
        findings.known(path.key("rate"), "rate", name.as_str(), rates);
        subject_of(catalog, rule, name, path, findings);
    }
    if let Some(name) = &rule.meter {
        let meters = catalog.meters.iter().map(|meter| meter.name.as_str());
        findings.known(path.key("meter"), "meter", name.as_str(), meters);
    }
    if let Some(name) = &rule.operation {
        let operations = catalog.operations.iter().map(|operation| operation.name.as_str());
        findings.known(path.key("operation"), "operation", name.as_str(), operations);
        let operation = catalog.operations.iter().find(|operation| operation.name == *name);
        for rate in operation.iter().flat_map(|operation| &operation.rates) {
            subject_of(catalog, rule, rate, path, findings);
        }
    }
}

/// A rate that holds for each subject has to be told which.
fn subject_of(
    catalog: &CatalogDefinition,
    rule: &EnvoyRuleDef,
    name: &RateName,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let rate = catalog.rates.iter().find(|rate| rate.name == *name);
    if let Some(called) = rate.and_then(|rate| rate.subject.as_ref())
        && rule.subject.is_empty()
    {
        findings.add(
            path.key("subject"),
            format!("is missing: {name} holds for each {called}"),
            format!("name the entry that has the {called}"),
        );
    }
}

/// Whether every descriptor that `rule` is for is for `before` too, which is asked first.
fn takes_all_of(before: &EnvoyRuleDef, rule: &EnvoyRuleDef) -> bool {
    let keys = |rule: &EnvoyRuleDef| -> BTreeSet<String> {
        rule.when.keys().chain(&rule.subject).cloned().collect()
    };
    let is_in_rule = |(key, value): (&String, &String)| rule.when.get(key) == Some(value);
    before.domain == rule.domain && keys(before) == keys(rule) && before.when.iter().all(is_in_rule)
}

#[cfg(test)]
mod tests {
    use crate::domain::catalog::Catalog;

    fn told(rules: &str) -> Vec<String> {
        let text = format!(
            "catalog: shop\ncurrency: USD\nmeters:\n  - {{ name: calls, kind: counter, unit: call }}\n\
             rates:\n  - {{ name: api }}\n  - {{ name: login, subject: address }}\n\
             operations:\n  - {{ name: enter, rates: [api, login] }}\n\
             plans:\n  - {{ name: small, prices: {{ monthly: 1 }}, limits: {{ calls: 9 }} }}\n\
             dunning:\n  - {{ name: a, steps: [{{ day: 1, notice: reminder }}] }}\nenvoy:{rules}"
        );
        let errors = Catalog::parse("shop.yaml", &text).map_or_else(|errors| errors, |_| vec![]);
        errors.iter().map(|error| error.to_string()[10..].to_owned()).collect()
    }

    #[test]
    fn sound_rules_are_taken() {
        let rules = "
  - { domain: edge, rate: api }
  - { domain: edge, when: { route: chat }, subject: [user], rate: login }
  - { domain: edge, when: { route: mail }, subject: [user], meter: calls }
  - { domain: other, rate: api }
  - { domain: other, subject: [user], operation: enter }
";
        assert_eq!(told(rules), [""; 0]);
    }

    #[test]
    fn a_rule_that_cannot_be_is_named_with_its_remedy() {
        let rules = "
  - { domain: '', rate: web, meter: calls }
  - { domain: edge, subject: [tenant, a, a, b], when: { b: x, tenant: y }, rate: api }
  - { domain: edge, rate: login }
  - { domain: mesh, meter: cals }
  - { domain: host, operation: chat }
  - { domain: door, operation: enter }
";
        assert_eq!(
            told(rules),
            [
                "15:5: envoy[0]: does not say what it asks; give one of rate, meter and operation",
                "15:15: envoy[0].domain: is empty; give the domain that Envoy's filter names",
                "15:25: envoy[0].rate: \"web\" is not a rate of this catalog; use one of api, login",
                "16:31: envoy[1].subject[0]: is the entry that names the tenant; give another, or none",
                "16:42: envoy[1].subject[2]: \"a\" is already there; remove it",
                "16:45: envoy[1].subject[3]: \"b\" has one value in when; remove it here or there",
                "16:71: envoy[1].when.tenant: is the entry that names the tenant; remove it: every descriptor needs it",
                "17:5: envoy[2].subject: is missing: login holds for each address; name the entry that has the address",
                "18:28: envoy[3].meter: \"cals\" is not a meter of this catalog; did you mean calls?",
                "19:32: envoy[4].operation: \"chat\" is not an operation of this catalog; use one of enter",
                "20:5: envoy[5].subject: is missing: login holds for each address; name the entry that has the address",
            ]
        );
    }

    #[test]
    fn a_rule_that_an_earlier_one_takes_everything_from_is_never_asked() {
        let rules = "
  - { domain: edge, subject: [route], rate: login }
  - { domain: edge, when: { route: chat }, rate: api }
";
        let said = "16:5: envoy[1]: is never asked: envoy[0] is for the same descriptors; remove it, or put it first";
        assert_eq!(told(rules), [said]);
    }
}
