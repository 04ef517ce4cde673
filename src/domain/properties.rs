//! What an event says about itself, to group and to count distinct values by.

use std::collections::BTreeMap;

use super::invalid::Invalid;

/// Most properties that one event may carry.
pub const PROPERTIES_MAX: usize = 32;
/// Longest name of a property, in bytes.
pub const PROPERTY_NAME_BYTES_MAX: usize = 64;
/// Longest value of a property, in bytes.
pub const PROPERTY_VALUE_BYTES_MAX: usize = 256;

/// The checked properties of one event, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// Checks count, names and values; the error names the property.
    pub fn new(properties: BTreeMap<String, String>) -> Result<Self, Invalid> {
        if properties.len() > PROPERTIES_MAX {
            return Err(Invalid::new(
                "properties",
                format!("has {} entries", properties.len()),
                format!("send at most {PROPERTIES_MAX}"),
            ));
        }
        for (name, value) in &properties {
            check(name, value)?;
        }
        Ok(Self(properties))
    }

    /// The value of the property called `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The same properties and `value` under `name`, unless they have one of that name already.
    pub fn with(mut self, name: &str, value: &str) -> Result<Self, Invalid> {
        self.0.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        Self::new(self.0)
    }

    /// All properties, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn check(name: &str, value: &str) -> Result<(), Invalid> {
    let field = || format!("properties[{:?}]", name.chars().take(80).collect::<String>());
    if name.is_empty() || name.len() > PROPERTY_NAME_BYTES_MAX {
        return Err(Invalid::new(
            field(),
            format!("has a name of {} bytes", name.len()),
            format!("use names of 1 to {PROPERTY_NAME_BYTES_MAX} bytes"),
        ));
    }
    if value.len() > PROPERTY_VALUE_BYTES_MAX {
        return Err(Invalid::new(
            field(),
            format!("has a value of {} bytes", value.len()),
            format!("use values of at most {PROPERTY_VALUE_BYTES_MAX} bytes"),
        ));
    }
    // Postgres cannot store NUL in text, and other control characters hide in consoles and logs.
    if name.chars().chain(value.chars()).any(char::is_control) {
        return Err(Invalid::new(
            field(),
            "contains a control character",
            "remove control characters from names and values",
        ));
    }
    Ok(())
}
