//! Checks the shape of a file against the schema: all that is wrong with it, not just the first.
//!
//! The outcome is JSON that the types take as it is: short forms written out, figures as exact
//! text, quantities in base units.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    error::did_you_mean,
    field_path::FieldPath,
    finding::Finding,
    formats::{self, Units},
    node::{Content, Entry, Node},
};
use crate::domain::invalid::Invalid;

/// Checks `root` against `schema`.
pub(super) fn check(root: &Node, schema: &Value) -> Result<Value, Vec<Finding>> {
    let mut checker = Checker { root: schema, units: units_of_meters(root), problems: Vec::new() };
    let value = checker.value(root, schema, &FieldPath::default(), None);
    match value {
        Some(value) if checker.problems.is_empty() => Ok(value),
        _ => Err(checker.problems),
    }
}

/// The units of each meter that the file describes, as far as they can be read.
fn units_of_meters(root: &Node) -> BTreeMap<String, Units> {
    let Some(Node { content: Content::List(meters), .. }) = root.get("meters") else {
        return BTreeMap::new();
    };
    let units = |meter: &Node| {
        let name = meter.get("name")?.text()?.to_owned();
        let mut units = Units::new();
        if let Some(base) = meter.get("unit").and_then(Node::text) {
            units.insert(base.to_owned(), 1);
        }
        if let Some(Node { content: Content::Map(entries), .. }) = meter.get("units") {
            for Entry { key, value, .. } in entries {
                if let Content::Integer(size) = value.content
                    && let Ok(size) = u64::try_from(size)
                {
                    units.insert(key.clone(), size);
                }
            }
        }
        Some((name, units))
    };
    meters.iter().filter_map(units).collect()
}

struct Checker<'a> {
    root: &'a Value,
    units: BTreeMap<String, Units>,
    problems: Vec<Finding>,
}

impl<'a> Checker<'a> {
    /// Checks one value; `None` when it is unusable, which has been recorded. `meter` is the one
    /// that quantities inside are about.
    fn value(
        &mut self,
        node: &Node,
        schema: &'a Value,
        path: &FieldPath,
        meter: Option<&str>,
    ) -> Option<Value> {
        let schema = self.resolve(schema);
        if let Some(short) = schema.get("x-short").and_then(Value::as_str)
            && !matches!(node.content, Content::Map(_))
        {
            let value = self.value(node, &schema["properties"][short], path, meter)?;
            return Some(Map::from_iter([(short.to_owned(), value)]).into());
        }
        if let Some(options) = options(schema) {
            return self.option(node, &options, path);
        }
        if schema.get("type").is_none() {
            return Some(node.to_json());
        }
        match &node.content {
            Content::Map(entries) if has_type(schema, "object") => {
                self.mapping(entries, schema, path, meter)
            }
            Content::List(items) if has_type(schema, "array") => {
                let checked: Vec<_> = items
                    .iter()
                    .enumerate()
                    .map(|(i, item)| self.value(item, &schema["items"], &path.item(i), meter))
                    .collect();
                checked.into_iter().collect::<Option<Vec<_>>>().map(Value::Array)
            }
            _ => {
                let units = meter.and_then(|meter| self.units.get(meter));
                match scalar(node, schema, units) {
                    Ok(value) => Some(value),
                    Err(invalid) => self.refuse(path, invalid),
                }
            }
        }
    }

    fn mapping(
        &mut self,
        entries: &[Entry],
        schema: &'a Value,
        path: &FieldPath,
        meter: Option<&str>,
    ) -> Option<Value> {
        let properties = schema["properties"].as_object();
        let property = |name: &str| properties.and_then(|known| known.get(name));
        let by_name = schema["patternProperties"].as_object().and_then(|all| all.values().next());
        // A mapping with a default for all other keys (units by name).
        let open = schema.get("additionalProperties").filter(|other| other.is_object());
        let keyed_by_meter = schema.get("x-keyed-by").is_some();
        let named_meter = property("meter").is_some().then(|| {
            entries.iter().find(|entry| entry.key == "meter").and_then(|entry| entry.value.text())
        });
        let meter = named_meter.flatten().or(meter);

        let mut sound = true;
        let mut object = Map::new();
        for entry in entries {
            let field = path.key(&entry.key);
            let field_schema = if let Some(known) = property(&entry.key) {
                known
            } else if let Some(named) = by_name {
                if let Err(invalid) = formats::check_text("name", &entry.key) {
                    self.refuse_key(&field, entry, invalid.problem, invalid.remedy);
                    sound = false;
                    continue;
                }
                named
            } else if let Some(open) = open {
                open
            } else {
                let known = properties.into_iter().flatten().map(|(name, _)| name.as_str());
                self.refuse_key(
                    &field,
                    entry,
                    "is not a field here".to_owned(),
                    did_you_mean(&entry.key, known),
                );
                sound = false;
                continue;
            };
            let inner_meter = if keyed_by_meter { Some(entry.key.as_str()) } else { meter };
            match self.value(&entry.value, field_schema, &field, inner_meter) {
                Some(value) => drop(object.insert(entry.key.clone(), value)),
                None => sound = false,
            }
        }
        for required in schema["required"].as_array().into_iter().flatten() {
            let Some(required) = required.as_str() else { continue };
            if !entries.iter().any(|entry| entry.key == required) {
                let about = property(required).and_then(|field| {
                    let own = field["description"].as_str();
                    own.or_else(|| self.resolve(field)["description"].as_str())
                });
                let remedy = match about {
                    Some(about) => {
                        format!("add it: {}", about.trim_end_matches('.').replace('\n', " "))
                    }
                    None => "add it".to_owned(),
                };
                self.refuse(&path.key(required), Invalid::new("", "is missing", remedy));
                sound = false;
            }
        }
        sound.then_some(Value::Object(object))
    }

    /// One of a fixed set of texts.
    fn option(&mut self, node: &Node, options: &[&str], path: &FieldPath) -> Option<Value> {
        match node.text() {
            Some(text) if options.contains(&text) => Some(Value::String(text.to_owned())),
            Some(text) => {
                let remedy = did_you_mean(text, options.iter().copied());
                let problem = format!("is {text:?}, not one of {}", options.join(", "));
                self.refuse(path, Invalid::new("", problem, remedy))
            }
            None => {
                let remedy = format!("use one of {}", options.join(", "));
                self.refuse(path, Invalid::new("", format!("is {}", kind_of(node)), remedy))
            }
        }
    }

    /// `schema`, or what it refers to.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let target = schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|reference| self.root.pointer(reference.strip_prefix('#')?));
        target.unwrap_or(schema)
    }

    fn refuse(&mut self, path: &FieldPath, invalid: Invalid) -> Option<Value> {
        let Invalid { problem, remedy, .. } = invalid;
        self.problems.push(Finding { path: path.clone(), key_place: None, problem, remedy });
        None
    }

    fn refuse_key(&mut self, path: &FieldPath, entry: &Entry, problem: String, remedy: String) {
        let key_place = Some(entry.key_place);
        self.problems.push(Finding { path: path.clone(), key_place, problem, remedy });
    }
}

fn has_type(schema: &Value, name: &str) -> bool {
    match &schema["type"] {
        Value::String(only) => only == name,
        Value::Array(types) => types.iter().any(|one| one == name),
        _ => false,
    }
}

/// The texts of an enumeration.
fn options(schema: &Value) -> Option<Vec<&str>> {
    // Variants with documentation of their own stand alone, those without share an `enum`.
    let mut all = Vec::new();
    if let Some(plain) = schema["enum"].as_array() {
        all.extend(plain.iter().filter_map(Value::as_str));
    }
    for one in schema["oneOf"].as_array().into_iter().flatten() {
        all.extend(one["const"].as_str());
        all.extend(one["enum"].as_array().into_iter().flatten().filter_map(Value::as_str));
    }
    (!all.is_empty()).then_some(all)
}

fn scalar(node: &Node, schema: &Value, units: Option<&Units>) -> Result<Value, Invalid> {
    let format = schema["format"].as_str().unwrap_or_default();
    let counts = formats::is_quantity(format);
    match &node.content {
        Content::Integer(value) if counts => formats::quantity(format, *value),
        Content::Text(text) if counts => formats::quantity_in_unit(text, units),
        Content::Integer(value) if formats::is_decimal(format) => {
            formats::decimal(format, &value.to_string())
        }
        Content::Fraction(text) | Content::Text(text) if formats::is_decimal(format) => {
            formats::decimal(format, text)
        }
        Content::Integer(value) if has_type(schema, "integer") => in_range(*value, schema),
        Content::Boolean(value) if has_type(schema, "boolean") => Ok(Value::Bool(*value)),
        Content::Text(text) if has_type(schema, "string") => {
            formats::check_text(format, text)?;
            Ok(Value::String(text.clone()))
        }
        Content::Null => Err(Invalid::new("", "is empty", "give a value or remove the line")),
        Content::Integer(_) | Content::Fraction(_) | Content::Boolean(_)
            if has_type(schema, "string") && !has_type(schema, "number") && !counts =>
        {
            let text = node.to_json().to_string();
            let remedy = match formats::check_text(format, &text) {
                Ok(()) => "put it in quotes".to_owned(),
                Err(invalid) => invalid.remedy,
            };
            Err(Invalid::new("", format!("is {}", kind_of(node)), remedy))
        }
        _ => Err(Invalid::new(
            "",
            format!("is {}", kind_of(node)),
            format!("give {}", wanted(schema)),
        )),
    }
}

fn in_range(value: i128, schema: &Value) -> Result<Value, Invalid> {
    let least = schema["minimum"].as_i64().unwrap_or(i64::MIN);
    let most = schema["maximum"].as_i64().unwrap_or_else(|| match schema["format"].as_str() {
        Some("uint32") => u32::MAX.into(),
        _ => i64::MAX,
    });
    match i64::try_from(value) {
        Ok(value) if (least..=most).contains(&value) => Ok(Value::from(value)),
        _ if value < 0 && least == 0 => {
            Err(Invalid::new("", format!("is negative ({value})"), "give a number of 0 or more"))
        }
        _ => Err(Invalid::new(
            "",
            format!("is out of range ({value})"),
            format!("give a number from {least} to {most}"),
        )),
    }
}

fn kind_of(node: &Node) -> String {
    match &node.content {
        Content::Null => "empty".to_owned(),
        Content::Boolean(value) => format!("the boolean {value}"),
        Content::Integer(value) => format!("the number {value}"),
        Content::Fraction(text) => format!("the number {text}"),
        Content::Text(text) => format!("the text {text:?}"),
        Content::List(_) => "a list".to_owned(),
        Content::Map(_) => "a mapping".to_owned(),
    }
}

fn wanted(schema: &Value) -> &'static str {
    match schema["format"].as_str() {
        Some("quantity") => "a whole number of the meter's base unit, or a figure with a unit",
        Some("limit") => "a whole number, a figure with a unit, or -1 for unlimited",
        Some("price" | "rate" | "percent") => "a decimal number such as 19.99",
        _ if has_type(schema, "object") => "a mapping of fields",
        _ if has_type(schema, "array") => "a list",
        _ if has_type(schema, "boolean") => "true or false",
        _ if has_type(schema, "integer") => "a whole number",
        _ => "a text",
    }
}
