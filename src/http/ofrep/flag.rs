//! A feature as a flag.
//!
//! | ours | `reason` |
//! | --- | --- |
//! | off, or withdrawn, and nothing but the plan, the subscription or a sunset says so | DISABLED |
//! | IN_PLAN, DEFAULT | STATIC |
//! | OVERRIDE, TARGETING | TARGETING_MATCH |
//! | IN_ROLLOUT, NOT_IN_ROLLOUT | SPLIT |
//!
//! OpenFeature's DEFAULT is not in OFREP's list; `metadata.reason` has ours word for word.

use serde_json::{Map, Number, Value, json};

use crate::proto::v1::{self, FeatureReason, FeatureType, feature_value::Kind};

/// Whole numbers up to here are the same as doubles.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// The evaluation of one feature. It has no value where the tenant has none: then the
/// application's own default holds.
pub fn flag(access: v1::FeatureAccess) -> Value {
    let (reason, kind) = (access.reason(), access.r#type());
    let mut flag = Map::new();
    flag.insert("reason".into(), openfeature(reason).into());
    flag.insert("variant".into(), variant(&access).into());
    let mut metadata = Map::new();
    let ours = reason.as_str_name();
    let ours = ours.strip_prefix("FEATURE_REASON_").unwrap_or(ours);
    metadata.insert("reason".into(), ours.into());
    if !access.available_in_plan.is_empty() {
        metadata.insert("availableInPlan".into(), access.available_in_plan.into());
    }
    let times = [
        ("overrideExpiresAt", access.override_expires_at),
        ("sunsetAt", access.sunset_at),
        ("withdrawnAt", access.sunset_notice.as_ref().and_then(|notice| notice.withdrawn_at)),
    ];
    for (name, time) in times {
        if let Some(time) = time {
            metadata.insert(name.into(), json!(time));
        }
    }
    if let Some(notice) = access.sunset_notice.filter(|notice| !notice.replacement.is_empty()) {
        metadata.insert("replacement".into(), notice.replacement.into());
    }
    flag.insert("metadata".into(), metadata.into());
    let value = match kind {
        FeatureType::Boolean => Some(access.enabled.into()),
        _ => access.value.and_then(|value| value.kind).and_then(json_value),
    };
    flag.extend(value.map(|value| ("value".to_owned(), value)));
    flag.insert("key".into(), access.feature.into());
    flag.into()
}

fn openfeature(reason: FeatureReason) -> &'static str {
    match reason {
        FeatureReason::InPlan | FeatureReason::Default => "STATIC",
        FeatureReason::Override | FeatureReason::Targeting => "TARGETING_MATCH",
        FeatureReason::InRollout | FeatureReason::NotInRollout => "SPLIT",
        FeatureReason::NotInPlan | FeatureReason::Sunset | FeatureReason::SubscriptionInactive => {
            "DISABLED"
        }
        FeatureReason::Unspecified => "UNKNOWN",
    }
}

/// A name of the value. Some providers fail without one.
fn variant(access: &v1::FeatureAccess) -> &str {
    match access.value.as_ref().and_then(|value| value.kind.as_ref()) {
        Some(Kind::EnumValue(name)) => name,
        _ if access.enabled => "on",
        _ => "off",
    }
}

fn json_value(kind: Kind) -> Option<Value> {
    match kind {
        // Integers are a type of their own to providers.
        Kind::NumberValue(number) if number.fract() == 0.0 && number.abs() < WHOLE_MAX => {
            Some(Value::from(number as i64))
        }
        Kind::NumberValue(number) => Number::from_f64(number).map(Value::Number),
        Kind::StringValue(text) | Kind::EnumValue(text) => Some(text.into()),
        // The catalog had it as JSON.
        Kind::JsonValue(text) => serde_json::from_str(&text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(kind: FeatureType, value: Option<Kind>) -> v1::FeatureAccess {
        v1::FeatureAccess {
            feature: "editor".into(),
            enabled: value.is_some(),
            reason: FeatureReason::InPlan.into(),
            r#type: kind.into(),
            value: value.map(|kind| v1::FeatureValue { kind: Some(kind) }),
            ..Default::default()
        }
    }

    #[test]
    fn values_are_of_the_type_that_providers_expect() {
        let value = |kind, value| flag(access(kind, value)).get("value").cloned();
        let number = |number| value(FeatureType::Number, Some(Kind::NumberValue(number)));
        assert_eq!(number(3.0), Some(json!(3)));
        assert_eq!(number(-2.5), Some(json!(-2.5)));
        assert_eq!(number(1e300), Some(json!(1e300)));
        let text = Kind::JsonValue(r#"{"seats":[1,2]}"#.into());
        assert_eq!(value(FeatureType::Json, Some(text)), Some(json!({ "seats": [1, 2] })));
        assert_eq!(value(FeatureType::Boolean, None), Some(json!(false)));
        // The application's own default holds.
        assert_eq!(value(FeatureType::String, None), None);
        let named = flag(access(FeatureType::Enum, Some(Kind::EnumValue("weekly".into()))));
        assert_eq!((&named["value"], &named["variant"]), (&json!("weekly"), &json!("weekly")));
    }

    #[test]
    fn what_is_told_beside_the_value_is_flat() {
        let at = |seconds| Some(crate::proto::time::Timestamp { seconds, nanos: 0 });
        let told = flag(v1::FeatureAccess {
            reason: FeatureReason::Sunset.into(),
            sunset_at: at(0),
            sunset_notice: Some(v1::SunsetNotice {
                withdrawn_at: at(0),
                replacement: "newer".into(),
            }),
            available_in_plan: "pro".into(),
            ..access(FeatureType::Boolean, None)
        });
        let expected = json!({
            "key": "editor",
            "value": false,
            "reason": "DISABLED",
            "variant": "off",
            "metadata": {
                "reason": "SUNSET",
                "availableInPlan": "pro",
                "sunsetAt": "1970-01-01T00:00:00Z",
                "withdrawnAt": "1970-01-01T00:00:00Z",
                "replacement": "newer",
            },
        });
        assert_eq!(told, expected);
    }
}
