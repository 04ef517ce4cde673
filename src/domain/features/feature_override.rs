//! What one tenant has otherwise than its plan says.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::{ids::FeatureName, invalid::Invalid};

/// Most overrides of one tenant.
pub const OVERRIDES_MAX: usize = 200;
/// Longest value of an override, in bytes of JSON.
pub const OVERRIDE_VALUE_BYTES_MAX: usize = 4 << 10;

/// A feature's value for one tenant, whatever its plan says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureOverride {
    pub feature: FeatureName,
    /// The value that the tenant gets. Where the feature has changed its type since, the override
    /// does not apply any more.
    pub value: Value,
    /// When it stops holding, by the tenant's clock (RFC 3339); never unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub expires_at: Option<Timestamp>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl FeatureOverride {
    /// Refuses a value that is too long to be carried to every sidecar.
    pub fn check_size(&self) -> Result<(), Invalid> {
        let bytes = self.value.to_string().len();
        if bytes > OVERRIDE_VALUE_BYTES_MAX {
            return Err(Invalid::new(
                "value",
                format!("has {bytes} bytes"),
                format!("give at most {OVERRIDE_VALUE_BYTES_MAX}"),
            ));
        }
        Ok(())
    }

    /// Whether it holds at `now`.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}
