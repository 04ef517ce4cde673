//! `Check`.

use std::collections::BTreeMap;

use super::{
    feature::feature_access,
    fields,
    quota::{decided_by, mode, quota_response},
    rate::rate_response,
    remedy::remedies,
};
use crate::{
    domain::{
        amount::check_amount,
        catalog::names::OperationName,
        features::query::check_attributes,
        ids::{MeterName, TenantId},
        invalid::{Invalid, Problems},
        operation::{DeniedBy, OperationAnswer, OperationRequest},
    },
    proto::v1,
};

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
    let (denied_by, denied_name) = match &answer.denied_by {
        None => (v1::DeniedBy::Unspecified, String::new()),
        Some(DeniedBy::Subscription) => (v1::DeniedBy::Subscription, String::new()),
        Some(DeniedBy::Feature(name)) => (v1::DeniedBy::Feature, name.to_string()),
        Some(DeniedBy::Rate(name)) => (v1::DeniedBy::RateLimit, name.to_string()),
        Some(DeniedBy::Quota(name)) => (v1::DeniedBy::Quota, name.to_string()),
    };
    let rates = answer.rates.into_iter();
    let quotas = answer.quotas.into_iter();
    v1::CheckResponse {
        allowed: answer.denied_by.is_none(),
        denied_by: denied_by.into(),
        denied_name,
        features: answer.features.into_iter().map(feature_access).collect(),
        rate_limits: rates.map(|(name, rate)| (name.into(), rate_response(rate))).collect(),
        quotas: quotas.map(|(name, quota)| (name.into(), quota_response(quota))).collect(),
        remedies: remedies(answer.remedies),
        decided_by: decided_by(answer.decided_by).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
