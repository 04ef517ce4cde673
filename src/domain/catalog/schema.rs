//! The JSON schema of catalog files: for editors, and what [`super::structure`] checks files by.
//!
//! Besides the usual keywords it has `x-short` (a mapping that may be written as the value of that
//! one field) and `x-keyed-by: meter` (a mapping whose keys are meters).

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{definition::CatalogDefinition, tenants::TenantsFile};

/// The schema that a file is checked by.
pub(super) fn of<T: JsonSchema>() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    let mut value = std::mem::take(&mut schema).to_value();
    drop_null(&mut value);
    value
}

/// The published schema of a catalog file, `deploy/catalogs/catalog.schema.json`.
pub fn catalog_schema() -> Value {
    published(of::<CatalogDefinition>())
}

/// The published schema of a file of tenants, `deploy/catalogs/tenants.schema.json`.
pub fn tenants_schema() -> Value {
    published(of::<TenantsFile>())
}

/// `schema` in the words of JSON Schema alone: short forms spelled out.
fn published(mut schema: Value) -> Value {
    if let Some(Value::Object(definitions)) = schema.get_mut("$defs") {
        for definition in definitions.values_mut() {
            spell_out_short_form(definition);
        }
    }
    schema
}

fn spell_out_short_form(definition: &mut Value) {
    let Some(field) = definition.get("x-short").and_then(Value::as_str) else { return };
    let Some(short) = definition["properties"].get(field).cloned() else { return };
    let mut whole = definition.take();
    let description = whole.get("description").cloned().unwrap_or(Value::Null);
    if let Value::Object(whole) = &mut whole {
        whole.remove("x-short");
        whole.remove("description");
    }
    *definition = json!({ "description": description, "anyOf": [whole, short] });
}

/// A field that may be left out may not be written as null: an empty line is a mistake.
fn drop_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            drop_null_type(object);
            flatten_optional(object);
            object.values_mut().for_each(drop_null);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_null),
        _ => {}
    }
}

fn drop_null_type(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
}

/// Turns `anyOf: [X, null]` into X.
fn flatten_optional(object: &mut Map<String, Value>) {
    let Some(Value::Array(options)) = object.get("anyOf") else { return };
    let [Value::Object(inner), other] = options.as_slice() else { return };
    if other["type"] == "null" {
        let inner = inner.clone();
        object.remove("anyOf");
        object.extend(inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with the file, or writes it when `TOLLGATE_BLESS` is set.
    fn assert_shipped(name: &str, schema: &Value) {
        let path = format!("{}/deploy/catalogs/{name}", env!("CARGO_MANIFEST_DIR"));
        let text = serde_json::to_string_pretty(schema).unwrap() + "\n";
        if std::env::var_os("TOLLGATE_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let shipped = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            shipped == text,
            "{name} is not what the types say: run TOLLGATE_BLESS=1 cargo test schema"
        );
    }

    #[test]
    fn the_shipped_schemas_are_what_the_types_say() {
        assert_shipped("catalog.schema.json", &catalog_schema());
        assert_shipped("tenants.schema.json", &tenants_schema());
    }

    #[test]
    fn nothing_in_a_file_may_be_null() {
        assert!(!of::<CatalogDefinition>().to_string().contains("\"null\""));
    }
}
