//! Which tenants a request names, found by the fields' names: `tenant`, wherever it stands. A field
//! that is added later cannot be forgotten.

use std::{collections::BTreeMap, fmt::Write};

use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

use crate::calls::words;

const FIELD: &str = "tenant";

/// `NamesTenants` for every message that a call takes, and for those within them that name any.
pub fn generate(files: &FileDescriptorSet) -> String {
    let files = files.file.iter().filter(|file| format!(".{}", file.package()) == super::PACKAGE);
    let files: Vec<_> = files.collect();
    let messages: BTreeMap<String, &DescriptorProto> = files
        .iter()
        .flat_map(|file| &file.message_type)
        .map(|message| (format!("{}.{}", super::PACKAGE, message.name()), message))
        .collect();
    let methods = files.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
    let requests: Vec<&str> = methods.map(|method| method.input_type()).collect();
    let mut code = String::new();
    for (path, message) in &messages {
        if requests.contains(&path.as_str()) || names_any(&messages, message) {
            // Writing to a string cannot fail.
            let _ = write!(code, "{}", implementation(&messages, message));
        }
    }
    code
}

fn names_any(messages: &BTreeMap<String, &DescriptorProto>, message: &DescriptorProto) -> bool {
    message.field.iter().any(|field| {
        is_tenant(field)
            || messages.get(field.type_name()).is_some_and(|inner| names_any(messages, inner))
            || map_value(message, field)
                .and_then(|value| messages.get(value.type_name()))
                .is_some_and(|inner| names_any(messages, inner))
    })
}

fn is_tenant(field: &FieldDescriptorProto) -> bool {
    field.name() == FIELD && field.r#type() == Type::String
}

/// The value's field, if `field` is a map.
fn map_value<'a>(
    message: &'a DescriptorProto,
    field: &FieldDescriptorProto,
) -> Option<&'a FieldDescriptorProto> {
    let entry = field.type_name().rsplit('.').next()?;
    let nested = message.nested_type.iter().find(|nested| nested.name() == entry)?;
    nested.field.iter().find(|field| field.name() == "value")
}

fn implementation(
    messages: &BTreeMap<String, &DescriptorProto>,
    message: &DescriptorProto,
) -> String {
    let name = message.name();
    let mut body = String::new();
    for field in &message.field {
        let _ = body.write_str(&look(messages, message, field));
    }
    let tenant = if body.is_empty() { "_" } else { "tenant" };
    format!(
        "impl crate::proto::NamesTenants for {name} {{\n    fn other_than(&self, {tenant}: &str) -> \
         Option<&str> {{\n{body}        None\n    }}\n}}\n"
    )
}

/// The code that looks at one field.
fn look(
    messages: &BTreeMap<String, &DescriptorProto>,
    message: &DescriptorProto,
    field: &FieldDescriptorProto,
) -> String {
    let name = field.name();
    if is_tenant(field) {
        assert!(field.label() != Label::Repeated, "a list of tenants is not looked into");
        assert!(field.oneof_index.is_none(), "a tenant that is one of several is not looked into");
        return format!(
            "        if self.{name} != tenant {{\n            return Some(&self.{name});\n        }}\n"
        );
    }
    let is_map = map_value(message, field)
        .and_then(|value| messages.get(value.type_name()))
        .is_some_and(|inner| names_any(messages, inner));
    assert!(!is_map, "a map of messages that name tenants is not looked into");
    if !messages.get(field.type_name()).is_some_and(|inner| names_any(messages, inner)) {
        return String::new();
    }
    let choice = field.oneof_index.filter(|_| !field.proto3_optional());
    if let Some(index) = choice {
        let oneof = message.oneof_decl[index as usize].name();
        let (module, kind, variant) = (words(message.name(), '_'), camel(oneof), camel(name));
        return format!(
            "        if let Some({module}::{kind}::{variant}(part)) = &self.{oneof}\n            \
             && let Some(other) = part.other_than(tenant)\n        {{\n            return \
             Some(other);\n        }}\n"
        );
    }
    // A list and an optional message are walked alike.
    format!(
        "        for part in self.{name}.iter() {{\n            if let Some(other) = part.other_than(tenant) \
         {{\n                return Some(other);\n            }}\n        }}\n"
    )
}

fn camel(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    name.split('_').map(word).collect()
}
