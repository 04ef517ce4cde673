//! The questions *does this tenant have this feature?* and *which does it have?*

use super::compiled::Attributes;
use crate::domain::{
    ids::{FeatureName, Subject, TenantId},
    invalid::Invalid,
};

/// Most attributes that one question may carry.
pub const ATTRIBUTES_MAX: usize = 32;
/// Longest name of an attribute, in bytes.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 64;
/// Longest value of an attribute, in bytes.
pub const ATTRIBUTE_VALUE_BYTES_MAX: usize = 256;

/// Whom features are asked for.
#[derive(Clone, Debug)]
pub struct FeatureAsker {
    pub tenant: TenantId,
    /// Whom rollouts are decided by within the tenant; absent = the tenant itself.
    pub subject: Option<Subject>,
    pub attributes: Attributes,
}

/// A question about one feature.
#[derive(Clone, Debug)]
pub struct FeatureQuery {
    pub asker: FeatureAsker,
    pub feature: FeatureName,
}

/// Checks the number and the lengths of attributes.
pub fn check_attributes(attributes: Attributes) -> Result<Attributes, Invalid> {
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(Invalid::new(
            "attributes",
            format!("has {} entries", attributes.len()),
            format!("send at most {ATTRIBUTES_MAX}: those that the catalog declares"),
        ));
    }
    for (name, value) in &attributes {
        if name.is_empty() || name.len() > ATTRIBUTE_NAME_BYTES_MAX {
            return Err(Invalid::new(
                "attributes",
                format!("has a name of {} bytes", name.len()),
                format!("use names of 1 to {ATTRIBUTE_NAME_BYTES_MAX} bytes"),
            ));
        }
        if value.len() > ATTRIBUTE_VALUE_BYTES_MAX {
            return Err(Invalid::new(
                format!("attributes[{name:?}]"),
                format!("has {} bytes", value.len()),
                format!("use values of at most {ATTRIBUTE_VALUE_BYTES_MAX} bytes"),
            ));
        }
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_few_and_short() {
        let one = |name: String, value: String| check_attributes([(name, value)].into());
        assert!(one("n".repeat(64), "v".repeat(256)).is_ok());
        assert_eq!(one("n".repeat(65), "v".into()).unwrap_err().field, "attributes");
        assert_eq!(one("n".into(), "v".repeat(257)).unwrap_err().field, "attributes[\"n\"]");
        assert!(one(String::new(), "v".into()).is_err());
        let many = (0..33).map(|number| (number.to_string(), String::new())).collect();
        assert!(check_attributes(many).is_err());
    }
}
