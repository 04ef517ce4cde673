//! A YAML file as a tree that remembers where everything stands.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

/// How deep lists and mappings may stand in one another: three times as deep as a catalog goes. All
/// that reads a tree calls itself once per level, on a stack that ends.
const DEPTH_MAX: usize = 24;

/// How many values (texts, numbers, lists, mappings and the names in them) a file may have: more than
/// half a million tenants have.
const VALUES_MAX: usize = 4_000_000;

/// How many values aliases may stand for, all of a file's together: it would rather be written out.
const ALIASED_VALUES_MAX: usize = 20_000;

/// A line and a column, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub line: u64,
    pub column: u64,
}

/// One value with its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub place: Place,
    pub content: Content,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Null,
    Boolean(bool),
    Integer(i128),
    /// A number with a fraction or an exponent, as it is written.
    Fraction(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One entry of a mapping.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub key_place: Place,
    pub value: Node,
}

impl Node {
    /// Reads the one document of `text`; the error is the library's, with its place.
    pub(super) fn parse(text: &str) -> Result<Self, (Place, String)> {
        // YAML 1.2's booleans: `yes`, `no`, `on` and `off` are texts.
        let options = serde_saphyr::options! {
            strict_booleans: true,
            budget: serde_saphyr::budget! {
                max_depth: DEPTH_MAX,
                max_nodes: VALUES_MAX,
                // Lists and mappings begin and end.
                max_events: 2 * VALUES_MAX,
            },
            alias_limits: serde_saphyr::alias_limits! {
                max_total_replayed_events: ALIASED_VALUES_MAX,
            },
        };
        let raw: Spanned<Raw> =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| {
                let place = error.location().map(Place::of).unwrap_or_default();
                let options = serde_saphyr::render_options! {
                    formatter: &serde_saphyr::UserMessageFormatter,
                    snippets: serde_saphyr::SnippetMode::Off,
                };
                (place, message(&error.render_with_options(options)))
            })?;
        Ok(Self::of(raw, text))
    }

    /// Stands in for a file when there is none.
    pub(super) fn nowhere() -> Self {
        Self { place: Place::default(), content: Content::Null }
    }

    fn of(raw: Spanned<Raw>, text: &str) -> Self {
        let written = || {
            let span = raw.defined.span();
            let from = usize::try_from(span.byte_offset()?).ok()?;
            let length = usize::try_from(span.byte_len()?).ok()?;
            text.get(from..from.checked_add(length)?)
        };
        let content = match raw.value {
            Raw::Null => Content::Null,
            Raw::Boolean(value) => Content::Boolean(value),
            Raw::Integer(value) => Content::Integer(value),
            // The figure as written, so that no digit passes through a float.
            Raw::Float(value) => {
                let text = written().map_or_else(|| value.to_string(), str::to_owned);
                let digits = text.strip_prefix('-').unwrap_or(&text);
                if digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    // A whole number beyond 64 bits.
                    Content::Integer(text.parse().unwrap_or(i128::MAX))
                } else {
                    Content::Fraction(text)
                }
            }
            Raw::Text(value) => Content::Text(value),
            Raw::List(items) => {
                Content::List(items.into_iter().map(|item| Self::of(item, text)).collect())
            }
            Raw::Map(entries) => Content::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| Entry {
                        key_place: Place::of(key.referenced),
                        key: key.value,
                        value: Self::of(value, text),
                    })
                    .collect(),
            ),
        };
        Self { place: Place::of(raw.referenced), content }
    }

    /// The value under `key`, if this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match &self.content {
            Content::Map(entries) => {
                entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
            }
            _ => None,
        }
    }

    /// The item at `index`, if this is a list that has it.
    pub(super) fn item(&self, index: usize) -> Option<&Node> {
        match &self.content {
            Content::List(items) => items.get(index),
            _ => None,
        }
    }

    /// The text, if this is one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value as JSON, for fields that take anything.
    pub(super) fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Boolean(value) => Value::Bool(*value),
            Content::Integer(value) => i64::try_from(*value)
                .map(Value::from)
                .or_else(|_| u64::try_from(*value).map(Value::from))
                .unwrap_or_else(|_| Value::String(value.to_string())),
            Content::Fraction(text) => text
                .parse::<f64>()
                .ok()
                .and_then(serde_json::Number::from_f64)
                .map_or_else(|| Value::String(text.clone()), Value::Number),
            Content::Text(text) => Value::String(text.clone()),
            Content::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Content::Map(entries) => Value::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect(),
            ),
        }
    }
}

impl Place {
    fn of(location: Location) -> Self {
        Self { line: location.line(), column: location.column() }
    }
}

/// The first line of the library's message: what follows repeats the place.
fn message(rendered: &str) -> String {
    let line = rendered.lines().next().unwrap_or(rendered);
    let line = line.split(" at line ").next().unwrap_or(line);
    line.trim_start_matches("error: ").to_owned()
}

/// What the library hands over, before its places are turned into ours.
enum Raw {
    Null,
    Boolean(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Integer(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_and_key_knows_its_place() {
        let tree = Node::parse("a:\n  - b: 0.10\n    c: x\n").unwrap();
        let item = tree.get("a").unwrap().item(0).unwrap();
        let fraction = item.get("b").unwrap();
        assert_eq!(fraction.place, Place { line: 2, column: 8 });
        assert!(matches!(&fraction.content, Content::Fraction(text) if text == "0.10"));
        let Content::Map(entries) = &item.content else { panic!("not a mapping") };
        assert_eq!(entries[1].key_place, Place { line: 3, column: 5 });
    }

    #[test]
    fn a_merged_mapping_is_read_as_if_it_were_written_out() {
        let tree = Node::parse("base: &base {a: 1, b: 2}\nuse:\n  <<: *base\n  b: 3\n").unwrap();
        let merged = tree.get("use").unwrap();
        assert_eq!(merged.to_json(), serde_json::json!({"b": 3, "a": 1}));
    }

    #[test]
    fn a_file_that_is_not_yaml_says_where() {
        let (place, message) = Node::parse("a: [1, 2\nb: 3\n").unwrap_err();
        assert!(place.line >= 1, "{place:?} {message}");
        assert!(!message.contains('\n') && !message.is_empty(), "{message:?}");
    }

    #[test]
    fn a_file_that_goes_too_deep_says_where() {
        let lists = |levels| format!("a: {}{}\n", "[".repeat(levels), "]".repeat(levels));
        Node::parse(&lists(DEPTH_MAX - 1)).unwrap();
        let (place, message) = Node::parse(&lists(DEPTH_MAX)).unwrap_err();
        assert_eq!(place.line, 1);
        assert!(message.contains("depth"), "{message}");
    }

    #[test]
    fn a_key_that_is_given_twice_says_where() {
        let (place, message) = Node::parse("a: 1\nb: 2\na: 3\n").unwrap_err();
        assert_eq!(place.line, 3, "{message}");
        assert!(message.contains("uplicate"), "{message}");
    }
}
