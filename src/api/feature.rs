//! `CheckFeature` and `ListFeatures`.

use std::collections::BTreeMap;

use crate::{
    domain::{
        catalog::features::{FeatureType, FeatureValue},
        features::{
            access::{FeatureReason, SunsetNotice},
            offered::OfferedFeature,
            query::{FeatureAsker, FeatureQuery, check_attributes},
        },
        ids::{FeatureName, TenantId},
        invalid::Problems,
    },
    proto::v1,
};

use super::fields;

/// Checks a question about one feature; every problem is told.
pub fn feature_query(wire: v1::CheckFeatureRequest) -> Result<FeatureQuery, Problems> {
    let mut problems = Problems::default();
    let asker = asker(&mut problems, &wire.tenant, &wire.subject, wire.attributes);
    let feature = problems.keep(FeatureName::new(&wire.feature));
    let query = asker.zip(feature).map(|(asker, feature)| FeatureQuery { asker, feature });
    query.ok_or(problems)
}

/// Checks a question about all features; every problem is told.
pub fn features_query(wire: v1::ListFeaturesRequest) -> Result<FeatureAsker, Problems> {
    let mut problems = Problems::default();
    asker(&mut problems, &wire.tenant, &wire.subject, wire.attributes).ok_or(problems)
}

fn asker(
    problems: &mut Problems,
    tenant: &str,
    subject: &str,
    attributes: BTreeMap<String, String>,
) -> Option<FeatureAsker> {
    let tenant = problems.keep(TenantId::new(tenant));
    let subject = problems.keep(fields::subject(subject));
    let attributes = problems.keep(check_attributes(attributes));
    Some(FeatureAsker { tenant: tenant?, subject: subject?, attributes: attributes? })
}

/// Puts one feature into the wire's form.
pub fn feature_response(feature: OfferedFeature) -> v1::CheckFeatureResponse {
    v1::CheckFeatureResponse { feature: Some(feature_access(feature)) }
}

/// Puts all features into the wire's form.
pub fn features_response(features: Vec<OfferedFeature>) -> v1::ListFeaturesResponse {
    v1::ListFeaturesResponse { features: features.into_iter().map(feature_access).collect() }
}

/// One feature in the wire's form.
pub fn feature_access(offered: OfferedFeature) -> v1::FeatureAccess {
    let OfferedFeature { access, available_in_plan } = offered;
    v1::FeatureAccess {
        enabled: access.is_enabled(),
        feature: access.feature.into(),
        r#type: kind(access.kind).into(),
        reason: reason(access.reason).into(),
        value: access.value.and_then(value),
        override_expires_at: access.override_expires_at.map(fields::wire_instant),
        sunset_at: access.sunset_at.map(fields::wire_instant),
        available_in_plan: available_in_plan.map(String::from).unwrap_or_default(),
        sunset_notice: access.sunset_notice.map(notice),
    }
}

pub fn kind(kind: FeatureType) -> v1::FeatureType {
    match kind {
        FeatureType::Boolean => v1::FeatureType::Boolean,
        FeatureType::Number => v1::FeatureType::Number,
        FeatureType::String => v1::FeatureType::String,
        FeatureType::Enum => v1::FeatureType::Enum,
        FeatureType::Json => v1::FeatureType::Json,
    }
}

fn notice(notice: SunsetNotice) -> v1::SunsetNotice {
    v1::SunsetNotice {
        withdrawn_at: Some(fields::wire_instant(notice.withdrawn_at)),
        replacement: notice.replacement.map(String::from).unwrap_or_default(),
    }
}

fn value(value: FeatureValue) -> Option<v1::FeatureValue> {
    use v1::feature_value::Kind;
    let kind = match value {
        FeatureValue::Boolean(_) => return None,
        // The wire's numbers are doubles, as JSON's are for most readers.
        FeatureValue::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        FeatureValue::String(text) => Kind::StringValue(text),
        FeatureValue::Enum(name) => Kind::EnumValue(name),
        FeatureValue::Json(value) => Kind::JsonValue(value.to_string()),
    };
    Some(v1::FeatureValue { kind: Some(kind) })
}

pub fn reason(reason: FeatureReason) -> v1::FeatureReason {
    match reason {
        FeatureReason::InPlan => v1::FeatureReason::InPlan,
        FeatureReason::NotInPlan => v1::FeatureReason::NotInPlan,
        FeatureReason::Override => v1::FeatureReason::Override,
        FeatureReason::Targeting => v1::FeatureReason::Targeting,
        FeatureReason::InRollout => v1::FeatureReason::InRollout,
        FeatureReason::NotInRollout => v1::FeatureReason::NotInRollout,
        FeatureReason::Default => v1::FeatureReason::Default,
        FeatureReason::Sunset => v1::FeatureReason::Sunset,
        FeatureReason::SubscriptionInactive => v1::FeatureReason::SubscriptionInactive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_of_a_question_is_told() {
        let problems = feature_query(v1::CheckFeatureRequest {
            subject: "é".into(),
            attributes: [(String::new(), String::new())].into(),
            ..Default::default()
        })
        .unwrap_err();
        let fields: Vec<_> = problems.listed().iter().map(|it| it.field.as_str()).collect();
        assert_eq!(fields, ["tenant", "subject", "attributes", "feature"]);
    }

    #[test]
    fn values_keep_their_kind_on_the_wire() {
        use v1::feature_value::Kind;
        let kind = |given| value(given).and_then(|value| value.kind);
        assert_eq!(kind(FeatureValue::Boolean(true)), None);
        assert_eq!(kind(FeatureValue::Number(3.into())), Some(Kind::NumberValue(3.0)));
        assert_eq!(kind(FeatureValue::Enum("a".into())), Some(Kind::EnumValue("a".into())));
        let json = serde_json::json!({"seats": [1, 2]});
        let text = r#"{"seats":[1,2]}"#.to_owned();
        assert_eq!(kind(FeatureValue::Json(json)), Some(Kind::JsonValue(text)));
    }
}
