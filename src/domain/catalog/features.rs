//! Features: what is switched, or valued, by plan.

use std::collections::BTreeMap;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{canonical::is_default, decimal::Percent, names::RuleName};
use crate::domain::{
    ids::{FeatureName, PlanName},
    invalid::Invalid,
};

/// What kind of value a feature has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeatureType {
    /// On or off.
    #[default]
    Boolean,
    /// A number.
    Number,
    /// A text.
    String,
    /// One of `values`.
    Enum,
    /// Anything.
    Json,
}

/// Something that is switched or valued by plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureDef {
    pub name: FeatureName,
    /// What people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The heading it stands under in the feature matrix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What kind of value it has; boolean unless given.
    #[serde(default, rename = "type", skip_serializing_if = "is_default")]
    pub kind: FeatureType,
    /// The values of an enum, from the least to the most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// The value in plans that name none. A boolean is off unless given; others are absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Gives the feature another value where the caller's context says so; the first rule that fits
    /// decides, before the plan does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targeting: Vec<TargetingRule>,
    /// Opens the feature to a share of the tenants whose plan does not name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Ends the feature for everyone on a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sunset: Option<Sunset>,
}

/// Something about the caller that targeting may go by (`country`), sent with each check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "name"))]
pub struct AttributeDef {
    pub name: RuleName,
    /// What people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

/// A value for callers whose context fits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetingRule {
    /// Values that will do, by attribute; every attribute must have one of its values.
    pub when: BTreeMap<RuleName, Vec<String>>,
    /// The value that they get; `true` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// A percentage of tenants, always the same ones for one salt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// Share of the tenants.
    pub percent: Percent,
    /// The value that they get; `true` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// Only tenants of these plans; all plans unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plans: Vec<PlanName>,
    /// Changes who is chosen; the feature's name unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
}

/// The announced end of a feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sunset {
    /// First day without the feature, in the catalog's zone (YYYY-MM-DD).
    #[schemars(with = "String", extend("format" = "date"))]
    pub on: Date,
    /// Days before that day on which tenants are told; from the first of them on, answers say so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notice_days_before: Vec<u16>,
    /// What takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement: Option<FeatureName>,
}

/// A feature's value in a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum FeatureValue {
    Boolean(bool),
    Number(serde_json::Number),
    String(String),
    Enum(String),
    Json(Value),
}

impl FeatureValue {
    /// The value as JSON.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Boolean(on) => Value::Bool(*on),
            Self::Number(number) => Value::Number(number.clone()),
            Self::String(text) | Self::Enum(text) => Value::String(text.clone()),
            Self::Json(value) => value.clone(),
        }
    }

    /// Whether the feature is there at all: everything but `false`.
    pub fn is_on(&self) -> bool {
        *self != Self::Boolean(false)
    }
}

impl FeatureDef {
    /// Reads `value` as this feature's type.
    pub fn value(&self, value: &Value) -> Result<FeatureValue, Invalid> {
        match (self.kind, value) {
            (FeatureType::Boolean, Value::Bool(on)) => Ok(FeatureValue::Boolean(*on)),
            (FeatureType::Number, Value::Number(number)) => {
                Ok(FeatureValue::Number(number.clone()))
            }
            (FeatureType::String, Value::String(text)) => Ok(FeatureValue::String(text.clone())),
            (FeatureType::Enum, Value::String(text)) if self.values.contains(text) => {
                Ok(FeatureValue::Enum(text.clone()))
            }
            (FeatureType::Json, value) => Ok(FeatureValue::Json(value.clone())),
            (kind, value) => Err(Invalid::new(
                self.name.as_str(),
                format!("{value} is not {}", kind.article_and_name()),
                match kind {
                    FeatureType::Boolean => "use true or false".to_owned(),
                    FeatureType::Number => "use a number".to_owned(),
                    FeatureType::Enum => format!("use one of {}", self.values.join(", ")),
                    FeatureType::String | FeatureType::Json => "put it in quotes".to_owned(),
                },
            )),
        }
    }

    /// The value in a plan that names none.
    pub fn value_by_default(&self) -> Option<FeatureValue> {
        match &self.default {
            Some(value) => self.value(value).ok(),
            None if self.kind == FeatureType::Boolean => Some(FeatureValue::Boolean(false)),
            None => None,
        }
    }
}

impl FeatureType {
    fn article_and_name(self) -> &'static str {
        match self {
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Enum => "one of the feature's values",
            Self::Json => "a value",
        }
    }
}
