//! What Envoy's rate limit protocol asks by: descriptors, and what each asks of which tenant.

use std::{borrow::Cow, collections::BTreeMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::names::{OperationName, RateName};
use crate::domain::ids::{MeterName, Subject};

/// The key of the entry that names the tenant. It has to be known before the tenant's catalog is,
/// so that no catalog can choose it; in Envoy's configuration every key can be chosen.
pub const TENANT_KEY: &str = "tenant";
/// Between the values that make up a subject.
const JOINER: &str = "~";
/// How the subject of values begins that cannot be one as they are.
const HASHED: &str = "sha256:";

/// Maps the descriptors of one form to what they ask. It is for those that have exactly the entries
/// `tenant`, those of `when`, and those of `subject`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvoyRuleDef {
    /// The domain of the requests, as Envoy's filter names it.
    pub domain: String,
    /// Entries by key, with the values that they must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<String, String>,
    /// Keys of the entries whose values are the subject.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject: Vec<String>,
    /// The rate that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateName>,
    /// The meter that is taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meter: Option<MeterName>,
    /// The operation that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationName>,
}

/// What a descriptor asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvoyTarget {
    Rate(RateName),
    Meter(MeterName),
    Operation(OperationName),
}

/// The entries of a descriptor: keys and values. A key that is there twice fits no rule.
pub type Entries<'e> = [(&'e str, &'e str)];

impl EnvoyRuleDef {
    /// What it asks; `None` when it says nothing, or more than one thing, which no catalog that was
    /// checked does.
    pub fn target(&self) -> Option<EnvoyTarget> {
        match (&self.rate, &self.meter, &self.operation) {
            (Some(rate), None, None) => Some(EnvoyTarget::Rate(rate.clone())),
            (None, Some(meter), None) => Some(EnvoyTarget::Meter(meter.clone())),
            (None, None, Some(operation)) => Some(EnvoyTarget::Operation(operation.clone())),
            _ => None,
        }
    }

    /// Whether it is for a descriptor with these entries.
    pub fn is_for(&self, domain: &str, entries: &Entries<'_>) -> bool {
        let value = |key: &str| value(entries, key);
        self.domain == domain
            && entries.len() == 1 + self.when.len() + self.subject.len()
            && value(TENANT_KEY).is_some()
            && self.subject.iter().all(|key| value(key).is_some())
            && self.when.iter().all(|(key, wanted)| value(key) == Some(wanted))
    }

    /// The subject that the entries name. Values that cannot be one as they are (other characters,
    /// too long) are told apart by their hash.
    pub fn subject_of(&self, entries: &Entries<'_>) -> Option<Subject> {
        let values: Vec<_> = self.subject.iter().filter_map(|key| value(entries, key)).collect();
        if values.is_empty() {
            return None;
        }
        // Rules with fewer keys may ask the same rate: one value must not pass for two.
        let is_plain = |value: &&str| !value.starts_with(HASHED) && !value.contains(JOINER);
        let plain = values.iter().all(is_plain).then(|| match values.as_slice() {
            [one] => Cow::Borrowed(*one),
            several => Cow::Owned(several.join(JOINER)),
        });
        // A hash always is a subject.
        plain
            .and_then(|plain| Subject::new(plain).ok())
            .or_else(|| Subject::new(hash(&values)).ok())
    }
}

/// The value of a key that is there once.
fn value<'e>(entries: &Entries<'e>, key: &str) -> Option<&'e str> {
    let mut found = entries.iter().filter(|(of, _)| *of == key);
    match (found.next(), found.next()) {
        (Some((_, value)), None) => Some(value),
        _ => None,
    }
}

fn hash(values: &[&str]) -> String {
    let mut hash = Sha256::new();
    for value in values {
        // With their lengths, so that no two lists are one.
        hash.update((value.len() as u64).to_be_bytes());
        hash.update(value);
    }
    let digits = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{HASHED}{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(when: &[(&str, &str)], subject: &[&str]) -> EnvoyRuleDef {
        let text = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        EnvoyRuleDef {
            domain: "edge".into(),
            when: when.iter().map(text).collect(),
            subject: subject.iter().map(|key| (*key).to_owned()).collect(),
            rate: Some(RateName::new("api").unwrap()),
            meter: None,
            operation: None,
        }
    }

    #[test]
    fn a_rule_is_for_descriptors_with_exactly_its_entries() {
        let chat = rule(&[("route", "chat")], &["user"]);
        let entries = [("user", "jo"), ("tenant", "acme"), ("route", "chat")];
        assert!(chat.is_for("edge", &entries));
        assert!(!chat.is_for("other", &entries));
        assert!(!chat.is_for("edge", &entries[..2]));
        assert!(!chat.is_for("edge", &[("user", "jo"), ("tenant", "acme"), ("route", "mail")]));
        let more = [&entries[..], &[("method", "GET")]].concat();
        assert!(!chat.is_for("edge", &more));
        let twice = [("user", "jo"), ("tenant", "acme"), ("tenant", "globex")];
        assert!(!rule(&[], &["user", "tenant"]).is_for("edge", &twice));
    }

    #[test]
    fn values_that_cannot_be_a_subject_are_told_apart_by_their_hash() {
        let subject = |values: &[&'static str]| {
            let keys: Vec<_> = ["a", "b"][..values.len()].to_vec();
            let entries: Vec<_> = keys.iter().copied().zip(values.iter().copied()).collect();
            rule(&[], &keys).subject_of(&entries).unwrap().as_str().to_owned()
        };
        assert_eq!(subject(&["10.0.0.1"]), "10.0.0.1");
        assert_eq!(subject(&["10.0.0.1", "/v1/chat"]), "10.0.0.1~/v1/chat");
        let (odd, other) = (subject(&["jo ann"]), subject(&["jo  ann"]));
        assert!(odd.starts_with("sha256:") && odd.len() < 128, "{odd}");
        assert_ne!(odd, other);
        assert_ne!(subject(&["x~y", "z"]), subject(&["x", "y~z"]));
        assert_ne!(subject(&["x~y"]), subject(&["x", "y"]));
        assert_ne!(subject(&[""]), subject(&["", ""]));
        assert_eq!(rule(&[], &[]).subject_of(&[("tenant", "acme")]), None);
    }
}
