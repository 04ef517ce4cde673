//! `RequestEmergencyUsage`.

use crate::{
    domain::{
        amount::check_amount,
        catalog::names::OperationName,
        emergency::{EmergencyAnswer, EmergencyReason, EmergencyRequest},
        ids::{ID_BYTES_MAX, MeterName, TenantId},
        invalid::{Invalid, Problems},
    },
    proto::v1,
};

use super::fields;

/// Longest reason, in characters.
const REASON_CHARS_MAX: usize = 1_000;

/// Checks a request; every problem is told.
pub fn emergency_request(
    wire: v1::RequestEmergencyUsageRequest,
) -> Result<EmergencyRequest, Problems> {
    let mut problems = Problems::default();
    let tenant = problems.keep(TenantId::new(&wire.tenant));
    let meter = problems.keep(MeterName::new(&wire.meter));
    let subject = problems.keep(fields::subject(&wire.subject));
    let amount = problems.keep(amount(wire.amount));
    let operation = problems.keep(OperationName::new(&wire.operation));
    let reason = problems.keep(reason(wire.reason));
    let requested_by = problems.keep(requested_by(wire.requested_by));
    let key = problems.keep(key(&wire.idempotency_key));
    match (tenant, meter, subject, amount, operation, reason, requested_by, key) {
        (
            Some(tenant),
            Some(meter),
            Some(subject),
            Some(amount),
            Some(operation),
            Some(reason),
            Some(requested_by),
            Some(idempotency_key),
        ) => Ok(EmergencyRequest {
            tenant,
            meter,
            subject,
            amount,
            operation,
            reason,
            requested_by,
            idempotency_key,
        }),
        _ => Err(problems),
    }
}

fn amount(amount: i64) -> Result<u64, Invalid> {
    match check_amount("amount", amount)? {
        0 => Err(Invalid::new("amount", "is 0", "give the base units that are needed, at least 1")),
        amount => Ok(amount),
    }
}

fn reason(text: String) -> Result<String, Invalid> {
    match text.chars().count() {
        0 => Err(Invalid::new("reason", "is empty", "say why, for the audit log")),
        chars if chars > REASON_CHARS_MAX => Err(Invalid::new(
            "reason",
            format!("is {chars} characters long"),
            format!("use at most {REASON_CHARS_MAX}"),
        )),
        _ if text.contains('\0') => {
            Err(Invalid::new("reason", "contains a null character", "remove it"))
        }
        _ => Ok(text),
    }
}

fn requested_by(text: String) -> Result<String, Invalid> {
    if text.len() > ID_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(Invalid::new(
            "requested_by",
            "is too long, or contains a control character",
            format!("use at most {ID_BYTES_MAX} bytes of printable text"),
        ));
    }
    Ok(text)
}

fn key(text: &str) -> Result<crate::domain::ids::IdempotencyKey, Invalid> {
    fields::idempotency_key(text)?.ok_or_else(|| {
        Invalid::new(
            "idempotency_key",
            "is empty",
            "give one, for example a UUID: emergency usage may cost money",
        )
    })
}

/// Puts an answer into the wire's form.
pub fn emergency_response(answer: EmergencyAnswer) -> v1::RequestEmergencyUsageResponse {
    let reason = match answer.reason {
        EmergencyReason::Granted => v1::EmergencyReason::Granted,
        EmergencyReason::NotExhausted => v1::EmergencyReason::NotExhausted,
        EmergencyReason::AlreadyUsed => v1::EmergencyReason::AlreadyUsed,
        EmergencyReason::PoolExhausted => v1::EmergencyReason::PoolExhausted,
        EmergencyReason::NotInPlan => v1::EmergencyReason::NotInPlan,
        EmergencyReason::SubscriptionInactive => v1::EmergencyReason::SubscriptionInactive,
    };
    let grant = answer.grant;
    v1::RequestEmergencyUsageResponse {
        granted: grant.is_some(),
        reason: reason.into(),
        grant_id: grant.map_or_else(String::new, |grant| grant.id.to_string()),
        amount: grant.map_or(0, |grant| fields::units(grant.amount)),
        expires_at: grant.and_then(|grant| grant.expires_at).map(fields::wire_instant),
        pool_remaining: fields::units(answer.pool_remaining),
        unit_price: answer.unit_price,
        currency: answer.currency,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_field_is_told() {
        let problems = emergency_request(v1::RequestEmergencyUsageRequest::default()).unwrap_err();
        let fields: Vec<_> =
            problems.listed().iter().map(|problem| problem.field.clone()).collect();
        assert_eq!(fields, ["tenant", "meter", "amount", "operation", "reason", "idempotency_key"]);
    }
}
