//! What settings there are, read off the config structs and their comments.

use std::sync::LazyLock;

use schemars::schema_for;
use serde_json::Value;

use super::settings::Settings;

/// What every environment variable of ours starts with.
pub const VARIABLE_PREFIX: &str = "TOLLGATE_";

/// The form of a setting's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    WholeNumber,
    Number,
    YesNo,
}

/// One setting.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Section and name, as files have them: `grpc.listen`.
    pub path: String,
    pub kind: Kind,
    /// Whether it may be empty.
    pub is_optional: bool,
    pub default: Value,
    /// The field's comment, with its unit.
    pub description: String,
}

/// One section, with its settings in order.
#[derive(Clone, Debug)]
pub struct Section {
    pub name: String,
    pub description: String,
    pub settings: Vec<Setting>,
}

impl Setting {
    /// The environment variable that sets it: `TOLLGATE_GRPC_LISTEN`.
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.path.replace('.', "_").to_uppercase())
    }

    /// The flag that sets it, without dashes in front: `grpc-listen`.
    pub fn flag(&self) -> String {
        self.path.replace(['.', '_'], "-")
    }
}

impl Kind {
    /// The kind in words, for errors and help.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::WholeNumber => "a whole number",
            Self::Number => "a number",
            Self::YesNo => "true or false",
        }
    }
}

/// All sections in order.
pub fn sections() -> &'static [Section] {
    static SECTIONS: LazyLock<Vec<Section>> = LazyLock::new(read_sections);
    &SECTIONS
}

/// All settings in order.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    sections().iter().flat_map(|section| &section.settings)
}

/// The setting at `path`.
pub fn find(path: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.path == path)
}

fn read_sections() -> Vec<Section> {
    let schema = schema_for!(Settings).to_value();
    let defaults = serde_json::to_value(Settings::default()).unwrap_or_default();
    let sections = properties(&schema, &schema).map(|(name, section)| Section {
        name: name.clone(),
        description: description(section),
        settings: properties(&schema, section)
            .map(|(field, leaf)| Setting {
                path: format!("{name}.{field}"),
                kind: kind(&schema, leaf),
                is_optional: types(&schema, leaf).any(|name| name == "null"),
                default: defaults[name][field].clone(),
                description: description(leaf),
            })
            .collect(),
    });
    sections.collect()
}

/// The fields of an object's schema, which may stand elsewhere in the document.
fn properties<'a>(
    document: &'a Value,
    schema: &'a Value,
) -> impl Iterator<Item = (&'a String, &'a Value)> {
    resolve(document, schema)["properties"].as_object().into_iter().flatten()
}

fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let reference = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.and_then(|pointer| document.pointer(pointer)).unwrap_or(schema)
}

fn types<'a>(document: &'a Value, leaf: &'a Value) -> impl Iterator<Item = &'a str> {
    let own = |schema: &'a Value| match &schema["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>(),
        name => name.as_str().into_iter().collect(),
    };
    let leaf = resolve(document, leaf);
    let choices = leaf["anyOf"].as_array().into_iter().flatten();
    own(leaf).into_iter().chain(choices.flat_map(move |choice| own(resolve(document, choice))))
}

fn kind(document: &Value, leaf: &Value) -> Kind {
    let name = types(document, leaf).find(|name| *name != "null");
    match name {
        Some("integer") => Kind::WholeNumber,
        Some("number") => Kind::Number,
        Some("boolean") => Kind::YesNo,
        _ => Kind::Text,
    }
}

/// The comment as one paragraph.
fn description(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_setting_is_described_and_has_names_of_its_own() {
        let (mut variables, mut flags) = (BTreeSet::new(), BTreeSet::new());
        for setting in settings() {
            assert!(setting.description.len() > 10, "{} has no comment", setting.path);
            assert!(variables.insert(setting.variable()), "{} is not alone", setting.variable());
            assert!(flags.insert(setting.flag()), "{} is not alone", setting.flag());
        }
        assert!(variables.len() > 30);
    }

    #[test]
    fn a_setting_with_a_unit_in_its_name_says_it_in_its_description() {
        for setting in settings() {
            let units: [(&str, &[&str]); 4] = [
                ("_ms", &["millisecond"]),
                ("_s", &["second"]),
                ("_bytes", &["byte", "MiB"]),
                ("_days", &["day"]),
            ];
            for (suffix, words) in units {
                let name = setting.path.trim_end_matches("_max");
                if name.ends_with(suffix) {
                    let said = words.iter().any(|word| setting.description.contains(word));
                    assert!(said, "{}: {}", setting.path, setting.description);
                }
            }
        }
    }

    #[test]
    fn kinds_and_defaults_are_those_of_the_structs() {
        let listen = find("grpc.listen").unwrap();
        assert_eq!((listen.kind, listen.is_optional), (Kind::Text, true));
        assert_eq!(listen.default, "127.0.0.1:7421");
        assert_eq!(listen.variable(), "TOLLGATE_GRPC_LISTEN");
        assert_eq!(find("grpc.connections_max").unwrap().flag(), "grpc-connections-max");
        assert_eq!(find("grpc.connections_max").unwrap().kind, Kind::WholeNumber);
    }
}
