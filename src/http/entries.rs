//! A bound on what a text of JSON becomes: an entry of a list takes two bytes in the text, and a
//! hundred times that once it is part of a message.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::{domain::invalid::Invalid, proto::codec::ENTRIES_MAX};

/// The least that an entry of a list takes in JSON: a digit and a comma.
const ENTRY_BYTES_MIN: usize = 2;
const TOO_MANY: &str = "too many entries";

/// Checks that no list and no object in `bytes` has more than [`ENTRIES_MAX`] entries. What is no
/// JSON is told by who reads it.
pub fn check_entries(bytes: &[u8]) -> Result<(), Invalid> {
    if bytes.len() <= ENTRIES_MAX * ENTRY_BYTES_MIN {
        return Ok(());
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    match Counted::deserialize(&mut reader) {
        Err(error) if error.to_string().starts_with(TOO_MANY) => {
            let problem = format!("has a list of more than {ENTRIES_MAX} entries");
            Err(Invalid::new("body", problem, "send smaller batches"))
        }
        _ => Ok(()),
    }
}

/// Counts the entries of every list and object, and keeps nothing.
struct Counted;

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Counted {
    type Value = Self;

    fn expecting(&self, told: &mut fmt::Formatter<'_>) -> fmt::Result {
        told.write_str("any JSON")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        let mut entries = 0;
        while list.next_element::<Self>()?.is_some() {
            entries = one_more(entries)?;
        }
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self, A::Error> {
        let mut entries = 0;
        while object.next_entry::<IgnoredAny, Self>()?.is_some() {
            entries = one_more(entries)?;
        }
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
}

fn one_more<E: Error>(entries: usize) -> Result<usize, E> {
    if entries == ENTRIES_MAX { Err(E::custom(TOO_MANY)) } else { Ok(entries + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: usize) -> String {
        format!("[{}{{}}]", "{},".repeat(entries - 1))
    }

    #[test]
    fn a_list_without_end_is_refused_wherever_it_stands() {
        let refused = |text: &str| check_entries(text.as_bytes()).is_err();
        assert!(refused(&list(ENTRIES_MAX + 1)));
        assert!(refused(&format!(r#"{{"events":{}}}"#, list(ENTRIES_MAX + 1))));
        let object = (0..=ENTRIES_MAX).map(|key| format!(r#""{key}":null"#)).collect::<Vec<_>>();
        assert!(refused(&format!("[{{{}}}]", object.join(","))));
    }

    #[test]
    fn what_is_long_for_its_texts_or_no_json_is_left_to_who_reads_it() {
        let fine = |text: &str| check_entries(text.as_bytes()).is_ok();
        assert!(fine(&list(ENTRIES_MAX)));
        assert!(fine(&format!(r#"["{}",-1,1.5,true,1]"#, ",".repeat(ENTRIES_MAX * 3))));
        assert!(fine(&"[".repeat(ENTRIES_MAX * 3)));
    }
}
