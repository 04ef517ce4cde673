//! The messages as JSON schemas, as proto's JSON mapping has them.

use std::collections::BTreeSet;

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use serde_json::{Map, Value, json};

use super::comments::{Comments, ENUM, FIELD, MESSAGE, VALUE};

/// What a comment says of a field that a request must give.
const REQUIRED: [&str; 2] = ["Required.", "Required,"];

/// The last part of a full name, which is unique in the document.
pub fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Where a message's or an enum's schema stands.
pub fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{}", short(name)) })
}

/// The schema of every message and enum of the API.
pub fn all(files: &FileDescriptorSet, package: &str) -> Map<String, Value> {
    let asked = asked(files);
    let mut schemas = Map::new();
    for file in files.file.iter().filter(|file| file.package() == package) {
        let comments = Comments::of(file);
        for (number, message) in file.message_type.iter().enumerate() {
            let is_asked = asked.contains(message.name());
            let described = Described { file, comments: &comments, number, is_asked };
            schemas.insert(message.name().to_owned(), described.message(message));
        }
        for (number, kind) in file.enum_type.iter().enumerate() {
            schemas.insert(kind.name().to_owned(), enumeration(&comments, number, kind));
        }
    }
    schemas
}

/// The messages that callers send, or that stand in such a one.
fn asked(files: &FileDescriptorSet) -> BTreeSet<String> {
    let services = files.file.iter().flat_map(|file| &file.service);
    let methods = services.flat_map(|service| &service.method);
    let mut open: Vec<String> =
        methods.map(|method| short(method.input_type()).to_owned()).collect();
    let mut found = BTreeSet::new();
    while let Some(name) = open.pop() {
        let messages = files.file.iter().flat_map(|file| &file.message_type);
        for message in messages.filter(|message| message.name() == name) {
            open.extend(message.field.iter().map(|field| short(field.type_name()).to_owned()));
        }
        if !found.insert(name) {
            continue;
        }
    }
    found
}

struct Described<'a> {
    file: &'a FileDescriptorProto,
    comments: &'a Comments,
    /// Of the message in its file.
    number: usize,
    /// Whether callers send it: then its comments say what is required. Otherwise it is an answer,
    /// which says everything.
    is_asked: bool,
}

impl Described<'_> {
    fn message(&self, message: &DescriptorProto) -> Value {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for (number, field) in message.field.iter().enumerate() {
            let words = self.comments.at(&[MESSAGE as usize, self.number, FIELD as usize, number]);
            let mut schema = self.field(message, field);
            if let (Value::Object(schema), false) = (&mut schema, words.is_empty()) {
                schema.insert("description".to_owned(), words.into());
            }
            let is_required = match self.is_asked {
                true => REQUIRED.iter().any(|said| words.contains(said)),
                false => is_always_said(field),
            };
            if is_required {
                required.push(field.json_name().to_owned());
            }
            properties.insert(field.json_name().to_owned(), schema);
        }
        let mut schema = json!({
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        });
        let words = self.comments.at(&[MESSAGE as usize, self.number]);
        if !words.is_empty() {
            schema["description"] = words.into();
        }
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        schema
    }

    fn field(&self, message: &DescriptorProto, field: &FieldDescriptorProto) -> Value {
        if let Some(value) = map_value(message, field) {
            return json!({ "type": "object", "additionalProperties": self.single(value) });
        }
        match field.label() {
            Label::Repeated => json!({ "type": "array", "items": self.single(field) }),
            Label::Optional | Label::Required => self.single(field),
        }
    }

    fn single(&self, field: &FieldDescriptorProto) -> Value {
        match field.r#type() {
            Type::String => json!({ "type": "string" }),
            Type::Bool => json!({ "type": "boolean" }),
            Type::Double | Type::Float => json!({ "type": "number" }),
            Type::Int32 | Type::Sint32 | Type::Sfixed32 => {
                json!({ "type": "integer", "format": "int32" })
            }
            Type::Uint32 | Type::Fixed32 => {
                json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })
            }
            // JSON's numbers are doubles to many readers: proto writes these as text.
            Type::Int64 | Type::Sint64 | Type::Sfixed64 => self.whole("^-?[0-9]{1,19}$"),
            Type::Uint64 | Type::Fixed64 => self.whole("^[0-9]{1,20}$"),
            Type::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Type::Message if field.type_name() == ".google.protobuf.Timestamp" => {
                json!({ "type": "string", "format": "date-time" })
            }
            Type::Message if field.type_name() == ".google.protobuf.Duration" => {
                json!({ "type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$" })
            }
            Type::Enum | Type::Message | Type::Group => {
                let is_known = field.type_name().starts_with(&format!(".{}", self.file.package()));
                assert!(is_known, "no schema for {}", field.type_name());
                reference(field.type_name())
            }
        }
    }

    /// Text in answers; requests may also give a number.
    fn whole(&self, pattern: &str) -> Value {
        match self.is_asked {
            true => json!({ "type": ["integer", "string"], "pattern": pattern }),
            false => json!({ "type": "string", "pattern": pattern }),
        }
    }
}

/// Whether an answer always has this field: all but those that may be absent.
fn is_always_said(field: &FieldDescriptorProto) -> bool {
    let may_be_absent = field.oneof_index.is_some()
        || (field.r#type() == Type::Message && field.label() != Label::Repeated);
    !may_be_absent
}

/// The value's field, if `field` is a map.
fn map_value<'a>(
    message: &'a DescriptorProto,
    field: &FieldDescriptorProto,
) -> Option<&'a FieldDescriptorProto> {
    let entry = short(field.type_name());
    let nested = message.nested_type.iter().find(|nested| nested.name() == entry)?;
    nested.field.iter().find(|field| field.name() == "value")
}

fn enumeration(comments: &Comments, number: usize, kind: &EnumDescriptorProto) -> Value {
    let names: Vec<&str> = kind.value.iter().map(|value| value.name()).collect();
    let mut words = comments.at(&[ENUM as usize, number]).to_owned();
    for (at, name) in names.iter().enumerate() {
        let said = comments.at(&[ENUM as usize, number, VALUE as usize, at]);
        words.push_str(&format!("\n- `{name}`: {said}"));
    }
    json!({ "type": "string", "enum": names, "description": words.trim() })
}
