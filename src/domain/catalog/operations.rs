//! Operations: what an application does, and what one of it needs and takes. Rate limits too.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    canonical::is_default,
    features::FeatureValue,
    names::{OperationName, RateName},
    quantity::Quantity,
};
use crate::domain::{
    ids::{FeatureName, MeterName},
    limit::OutagePolicy,
};

/// A rate limit by name; each plan says how much it allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateDef {
    pub name: RateName,
    /// What people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Whether it holds for all sidecars together or for each by itself; `global` unless given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scope: RateScope,
    /// What a subject of it is called (`user`), when it holds for each subject by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What happens while shared state is out of reach; `allow` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_outage: Option<OutagePolicy>,
}

/// Where a rate limit is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateScope {
    /// One limit for all sidecars together.
    #[default]
    Global,
    /// Each sidecar by itself.
    Sidecar,
}

/// What a plan allows of a rate: all of a rate's windows must have room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimitDef {
    /// Requests that may pass per unit of time, on average.
    pub requests: u32,
    /// The unit of time.
    pub per: RateUnit,
    /// Requests that may pass at once after a pause; as many as `requests` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

/// The unit of time of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateUnit {
    Second,
    Minute,
    Hour,
    Day,
}

impl RateUnit {
    /// Length in seconds.
    pub fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }
}

/// What an application does, by name: one check answers for all it needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperationDef {
    pub name: OperationName,
    /// What people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Features that the plan must have on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<OperationFeature>,
    /// Rate limits that one of it counts against.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<RateName>,
    /// Meters that it takes from; at most one that counts distinct values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub meters: Vec<OperationMeter>,
    /// Whether emergency usage may be asked for it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub critical: bool,
}

/// A feature that an operation needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "feature"))]
pub struct OperationFeature {
    pub feature: FeatureName,
    /// Values that will do; for a boolean `true` unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub any_of: Vec<Value>,
}

impl OperationFeature {
    /// Whether a tenant that has this value of the feature may do the operation.
    pub fn will_do(&self, value: Option<&FeatureValue>) -> bool {
        match value {
            Some(value) if self.any_of.is_empty() => value.is_on(),
            Some(value) => self.any_of.contains(&value.to_json()),
            None => false,
        }
    }
}

/// A meter that an operation takes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "meter"))]
pub struct OperationMeter {
    pub meter: MeterName,
    /// Units that one operation takes; absent = the caller says with each check. A meter that is named
    /// twice is added up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Quantity>,
}
