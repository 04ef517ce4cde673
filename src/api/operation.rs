//! `Check`.

use std::{borrow::Borrow, collections::BTreeMap, mem::take};

use prost::Message;

use super::{
    answer_fields::{put_feature, put_quota, put_rate},
    feature::feature_access,
    fields,
    quota::{decided_by, mode, quota_response},
    rate::rate_response,
    remedy::remedies,
};
use crate::{
    domain::{
        amount::check_amount,
        catalog::names::{OperationName, RateName},
        features::query::check_attributes,
        ids::{MeterName, TenantId},
        invalid::{Invalid, Problems},
        operation::{DeniedBy, OperationAnswer, OperationRequest},
        quota::QuotaAnswer,
        rate::RateAnswer,
    },
    enforcement::operation_at_once::AllowedOperation,
    proto::{fields::Fields, v1},
};

/// Room for what most operations say.
pub const ANSWER_BYTES: usize = 384;
/// Most meters that one request may name.
const AMOUNTS_MAX: usize = 100;

/// Checks a request; every problem is told.
pub fn operation_request(wire: v1::CheckRequest) -> Result<OperationRequest, Problems> {
    let mut problems = Problems::default();
    let mode = problems.keep(mode(wire.mode, wire.reservation_ttl));
    let tenant = problems.keep(TenantId::new(&wire.tenant));
    let operation = problems.keep(OperationName::new(&wire.operation));
    let subject = problems.keep(fields::subject(&wire.subject));
    let amounts = amounts(&mut problems, wire.amounts);
    let idempotency_key = problems.keep(fields::idempotency_key(&wire.idempotency_key));
    let durability = problems.keep(fields::durability(wire.durability));
    let properties = problems.keep(fields::properties(wire.properties));
    let attributes = problems.keep(check_attributes(wire.attributes));
    let request = || {
        Some(OperationRequest {
            tenant: tenant?,
            operation: operation?,
            subject: subject?,
            amounts,
            mode: mode?,
            idempotency_key: idempotency_key?,
            durability: durability?,
            properties: properties?,
            attributes: attributes?,
        })
    };
    match problems.is_empty() {
        true => request().ok_or(problems),
        false => Err(problems),
    }
}

fn amounts(problems: &mut Problems, wire: BTreeMap<String, i64>) -> BTreeMap<MeterName, i64> {
    if wire.len() > AMOUNTS_MAX {
        problems.push(Invalid::new(
            "amounts",
            format!("has {} entries", wire.len()),
            format!("send at most {AMOUNTS_MAX}: the meters that the operation leaves open"),
        ));
        return BTreeMap::new();
    }
    let mut amounts = BTreeMap::new();
    for (name, amount) in wire {
        let field = format!("amounts[{}]", name.chars().take(80).collect::<String>());
        let meter = MeterName::new(&name).map_err(|it| Invalid { field: field.clone(), ..it });
        let checked = problems.keep(check_amount(&field, amount));
        if let (Some(meter), Some(_)) = (problems.keep(meter), checked) {
            amounts.insert(meter, amount);
        }
    }
    amounts
}

/// Puts an answer into the wire's form.
pub fn operation_response(answer: OperationAnswer) -> v1::CheckResponse {
    let (rates, quotas) = (answer.rates.into_iter(), answer.quotas.into_iter());
    v1::CheckResponse {
        rate_limits: rates.map(|(name, rate)| (name.into(), rate_response(rate))).collect(),
        quotas: quotas.map(|(name, quota)| (name.into(), quota_response(quota))).collect(),
        ..without_maps(OperationAnswer { rates: vec![], quotas: vec![], ..answer })
    }
}

/// An answer's message, encoded. Its maps are written as they come: nobody looks anything up in
/// them, and to make them would be work for nothing.
pub fn encoded_response(mut answer: OperationAnswer) -> Vec<u8> {
    let (rates, quotas) = (take(&mut answer.rates), take(&mut answer.quotas));
    let mut encoded = Vec::with_capacity(ANSWER_BYTES);
    without_maps(answer).encode_raw(&mut encoded);
    put_maps(&rates, &quotas, &mut Fields(&mut encoded));
    encoded
}

/// Puts the same of an operation that was allowed from memory.
pub fn put_allowed(allowed: &AllowedOperation<'_>, to: &mut Fields<'_>) {
    const ALLOWED: u32 = 1;
    const FEATURES: u32 = 3;
    const DECIDED_BY: u32 = 8;
    to.uint(ALLOWED, true.into());
    for feature in allowed.features {
        to.message(FEATURES, |to| put_feature(feature, to));
    }
    put_maps(allowed.rates, allowed.quotas, to);
    to.int(DECIDED_BY, i32::from(v1::DecidedBy::Memory).into());
}

/// Puts what the rates and the quotas of an answer say.
fn put_maps<R: Borrow<RateName>, M: Borrow<MeterName>>(
    rates: &[(R, RateAnswer)],
    quotas: &[(M, QuotaAnswer)],
    fields: &mut Fields<'_>,
) {
    const RATE_LIMITS: u32 = 4;
    const QUOTAS: u32 = 5;
    const NAME: u32 = 1;
    const ANSWER: u32 = 2;
    for (name, rate) in rates {
        fields.message(RATE_LIMITS, |entry| {
            entry.text(NAME, name.borrow().as_str());
            entry.message(ANSWER, |fields| put_rate(rate, fields));
        });
    }
    for (meter, quota) in quotas {
        fields.message(QUOTAS, |entry| {
            entry.text(NAME, meter.borrow().as_str());
            entry.message(ANSWER, |fields| put_quota(quota, fields));
        });
    }
}

/// The message without what its rates and quotas say.
fn without_maps(answer: OperationAnswer) -> v1::CheckResponse {
    let (denied_by, denied_name) = match &answer.denied_by {
        None => (v1::DeniedBy::Unspecified, String::new()),
        Some(DeniedBy::Subscription) => (v1::DeniedBy::Subscription, String::new()),
        Some(DeniedBy::Feature(name)) => (v1::DeniedBy::Feature, name.to_string()),
        Some(DeniedBy::Rate(name)) => (v1::DeniedBy::RateLimit, name.to_string()),
        Some(DeniedBy::Quota(name)) => (v1::DeniedBy::Quota, name.to_string()),
    };
    v1::CheckResponse {
        allowed: answer.denied_by.is_none(),
        denied_by: denied_by.into(),
        denied_name,
        features: answer.features.into_iter().map(feature_access).collect(),
        remedies: remedies(answer.remedies),
        decided_by: decided_by(answer.decided_by).into(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{
        catalog::features::{FeatureType, FeatureValue},
        features::{
            access::{FeatureAccess, FeatureReason},
            offered::OfferedFeature,
        },
        ids::FeatureName,
        quota::{DecidedBy, QuotaReason},
        rate::{RateReason, RateStanding},
        remedy::Remedy,
    };

    fn quota(used: u64) -> QuotaAnswer {
        QuotaAnswer {
            allowed: true,
            reason: QuotaReason::WithinLimit,
            decided_by: DecidedBy::Redis,
            limit: Some(1 << 40),
            used,
            remaining: Some((1 << 40) - used),
            overage: 0,
            resets_at: Some(jiff::Timestamp::from_second(1_791_000_000).unwrap()),
            reservation: None,
            remedies: vec![],
        }
    }

    #[test]
    fn an_encoded_answer_is_that_of_its_message() {
        let second = Duration::from_secs(1);
        let (limit, burst) = (600, 600);
        let standing =
            RateStanding { limit, period: 60 * second, burst, remaining: 3, reset_after: second };
        let rate = RateAnswer {
            allowed: false,
            reason: RateReason::RateExceeded,
            decided_by: DecidedBy::Memory,
            windows: [standing].into_iter().collect(),
            retry_after: Some(Duration::from_millis(1_500)),
        };
        let meter = |name: &str| MeterName::new(name).unwrap();
        let quotas = [(meter("tokens"), quota(7)), (meter(&"a_long_name".repeat(5)), quota(0))];
        let allowed = OperationAnswer {
            quotas: quotas.to_vec(),
            rates: vec![(RateName::new("api").unwrap(), rate)],
            ..OperationAnswer::empty()
        };
        let denied_by = Some(DeniedBy::Feature(FeatureName::new("chat").unwrap()));
        let remedies = vec![Remedy::ReactivateSubscription];
        let denied = OperationAnswer { denied_by, remedies, ..allowed.clone() };
        for answer in [OperationAnswer::empty(), allowed, denied] {
            let read = v1::CheckResponse::decode(encoded_response(answer.clone()).as_slice());
            assert_eq!(read, Ok(operation_response(answer)));
        }
    }

    #[test]
    fn what_is_put_of_an_operation_allowed_from_memory_is_its_message() {
        let (tokens, queries) = (MeterName::new("tokens").unwrap(), MeterName::new("q").unwrap());
        let from_memory = |used| QuotaAnswer { decided_by: DecidedBy::Memory, ..quota(used) };
        let rate = RateAnswer {
            allowed: true,
            reason: RateReason::WithinLimit,
            decided_by: DecidedBy::Memory,
            windows: [].into_iter().collect(),
            retry_after: None,
        };
        let feature = |name| OfferedFeature {
            access: FeatureAccess {
                feature: name,
                kind: FeatureType::Boolean,
                value: Some(FeatureValue::Boolean(true)),
                reason: FeatureReason::InPlan,
                override_expires_at: None,
                sunset_at: None,
                sunset_notice: None,
            },
            available_in_plan: None,
        };
        let names = ["chat", "search"].map(|name| FeatureName::new(name).unwrap());
        let api = RateName::new("api").unwrap();
        let allowed = AllowedOperation {
            features: &[feature(&names[0]), feature(&names[1])],
            rates: &[(&api, rate)],
            quotas: &[(&queries, from_memory(1)), (&tokens, from_memory(20))],
        };
        let mut put = vec![];
        put_allowed(&allowed, &mut Fields(&mut put));
        let read = v1::CheckResponse::decode(put.as_slice());
        assert_eq!(read, Ok(operation_response(allowed.answer())));
    }

    #[test]
    fn every_bad_field_is_named() {
        let problems = operation_request(v1::CheckRequest {
            operation: "Chat".into(),
            amounts: [("tokens".into(), -1), ("No!".into(), 1)].into(),
            attributes: [("a".into(), "v".repeat(257))].into(),
            ..Default::default()
        })
        .unwrap_err();
        let fields: Vec<_> = problems.listed().iter().map(|it| it.field.as_str()).collect();
        let expected =
            ["mode", "tenant", "operation", "amounts[No!]", "amounts[tokens]", "attributes[\"a\"]"];
        assert_eq!(fields, expected);
    }
}
