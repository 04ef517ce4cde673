//! The canonical form of what is stored: JSON without defaults, keys in order, and its hash.
//!
//! Postgres' `jsonb` keeps no order of keys, so that the hash is taken over sorted ones: it says
//! whether two definitions mean the same, wherever they were read from.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// SHA-256 of a canonical form, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentHash(String);

impl ContentHash {
    /// The hash of `value`, whatever the order of its keys.
    pub fn of(value: &Value) -> Self {
        let digest = Sha256::digest(sorted(value).to_string());
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `value` with the keys of every object in order.
pub fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        scalar => scalar.clone(),
    }
}

/// Whether a field can be left out: then a later version of the format with more optional fields
/// still gives the same hash.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_hash_is_of_the_meaning_and_not_of_the_order_of_keys() {
        let one = json!({"a": {"x": 1, "y": [1, 2]}, "b": null});
        let same: Value = serde_json::from_str(r#"{"b":null,"a":{"y":[1,2],"x":1}}"#).unwrap();
        assert_eq!(ContentHash::of(&one), ContentHash::of(&same));
        assert_ne!(ContentHash::of(&one), ContentHash::of(&json!({"a": {"x": 1, "y": [2, 1]}})));
    }
}
