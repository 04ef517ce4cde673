//! `CheckQuota` and `ReleaseReservation`.

use crate::{
    domain::{
        amount::check_delta,
        ids::{MeterName, TenantId},
        invalid::{Invalid, Problems},
        quota::{DecidedBy, QuotaAnswer, QuotaMode, QuotaReason, QuotaRequest},
        reservation::{Reservation, ReservationId},
    },
    proto::v1,
};

use super::{fields, remedy::remedies};

/// Checks a request; every problem is told.
pub fn quota_request(wire: v1::CheckQuotaRequest) -> Result<QuotaRequest, Problems> {
    let mut problems = Problems::default();
    let mode = problems.keep(mode(wire.mode, wire.reservation_ttl));
    let tenant = problems.keep(TenantId::new(&wire.tenant));
    let meter = problems.keep(MeterName::new(&wire.meter));
    let subject = problems.keep(fields::subject(&wire.subject));
    let amount = problems.keep(amount(wire.amount, mode));
    let idempotency_key = problems.keep(fields::idempotency_key(&wire.idempotency_key));
    let durability = problems.keep(fields::durability(wire.durability));
    let properties = problems.keep(fields::properties(wire.properties));
    match (mode, tenant, meter, subject, amount, idempotency_key, durability, properties) {
        (
            Some(mode),
            Some(tenant),
            Some(meter),
            Some(subject),
            Some(amount),
            Some(idempotency_key),
            Some(durability),
            Some(properties),
        ) => Ok(QuotaRequest {
            tenant,
            meter,
            subject,
            amount,
            mode,
            idempotency_key,
            durability,
            properties,
        }),
        _ => Err(problems),
    }
}

/// Puts an answer into the wire's form.
pub fn quota_response(answer: QuotaAnswer) -> v1::CheckQuotaResponse {
    v1::CheckQuotaResponse {
        allowed: answer.allowed,
        reason: reason(answer.reason).into(),
        decided_by: decided_by(answer.decided_by).into(),
        limit: fields::units_or_unlimited(answer.limit),
        used: fields::units(answer.used),
        remaining: fields::units_or_unlimited(answer.remaining),
        overage: fields::units(answer.overage),
        resets_at: answer.resets_at.map(fields::wire_instant),
        reservation: answer.reservation.map(reservation),
        remedies: remedies(answer.remedies),
    }
}

/// Checks who gives back which reservation.
pub fn release_request(
    wire: v1::ReleaseReservationRequest,
) -> Result<(TenantId, ReservationId), Problems> {
    let mut problems = Problems::default();
    let tenant = problems.keep(TenantId::new(&wire.tenant));
    let reservation = problems.keep(wire.reservation_id.parse());
    tenant.zip(reservation).ok_or(problems)
}

/// Puts a release into the wire's form; 0 units when the hold had already ended.
pub fn release_response(released: u64) -> v1::ReleaseReservationResponse {
    v1::ReleaseReservationResponse { released: fields::units(released) }
}

/// What a check does; a time to live goes with RESERVE alone.
pub fn mode(number: i32, ttl: Option<crate::proto::time::Duration>) -> Result<QuotaMode, Invalid> {
    let mode = match v1::Mode::try_from(number) {
        Ok(v1::Mode::Check) => QuotaMode::Check,
        Ok(v1::Mode::Consume) => QuotaMode::Consume,
        Ok(v1::Mode::Reserve) => {
            let ttl = fields::positive_duration("reservation_ttl", ttl)?;
            return Ok(QuotaMode::Reserve { ttl });
        }
        Ok(v1::Mode::Unspecified) => return Err(bad_mode("is missing".to_owned())),
        Err(_) => return Err(bad_mode(format!("{number} is not a mode"))),
    };
    if ttl.is_some() {
        return Err(Invalid::new(
            "reservation_ttl",
            "is given without MODE_RESERVE",
            "leave it out, or reserve",
        ));
    }
    Ok(mode)
}

fn bad_mode(problem: String) -> Invalid {
    Invalid::new("mode", problem, "use MODE_CHECK, MODE_CONSUME or MODE_RESERVE")
}

fn amount(amount: Option<i64>, mode: Option<QuotaMode>) -> Result<i64, Invalid> {
    let amount = check_delta("amount", fields::required_amount(amount)?)?;
    if amount < 0 && matches!(mode, Some(QuotaMode::Check | QuotaMode::Reserve { .. })) {
        return Err(Invalid::new(
            "amount",
            format!("is negative ({amount})"),
            "give 0 or more; only MODE_CONSUME on a level meter takes a negative amount",
        ));
    }
    Ok(amount)
}

pub(super) fn reason(reason: QuotaReason) -> v1::QuotaReason {
    match reason {
        QuotaReason::WithinLimit => v1::QuotaReason::WithinLimit,
        QuotaReason::Unlimited => v1::QuotaReason::Unlimited,
        QuotaReason::Overage => v1::QuotaReason::Overage,
        QuotaReason::WithinGrant => v1::QuotaReason::WithinGrant,
        QuotaReason::AllowedByOutagePolicy => v1::QuotaReason::AllowedByOutagePolicy,
        QuotaReason::LimitExceeded => v1::QuotaReason::LimitExceeded,
        QuotaReason::DeniedByOutagePolicy => v1::QuotaReason::DeniedByOutagePolicy,
        QuotaReason::NotInPlan => v1::QuotaReason::NotInPlan,
        QuotaReason::SubscriptionInactive => v1::QuotaReason::SubscriptionInactive,
        QuotaReason::TooManySubjects => v1::QuotaReason::TooManySubjects,
    }
}

/// Where it was decided.
pub(super) fn decided_by(decided_by: DecidedBy) -> v1::DecidedBy {
    match decided_by {
        DecidedBy::Memory => v1::DecidedBy::Memory,
        DecidedBy::Redis => v1::DecidedBy::Redis,
        DecidedBy::Fallback => v1::DecidedBy::Fallback,
        DecidedBy::Replay => v1::DecidedBy::Replay,
    }
}

pub(super) fn reservation(reservation: Reservation) -> v1::Reservation {
    v1::Reservation {
        id: reservation.id.to_string(),
        amount: fields::units(reservation.amount),
        expires_at: Some(fields::wire_instant(reservation.expires_at)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn consume(amount: i64) -> v1::CheckQuotaRequest {
        v1::CheckQuotaRequest {
            tenant: "acme".into(),
            meter: "tokens".into(),
            amount: Some(amount),
            mode: v1::Mode::Consume.into(),
            ..Default::default()
        }
    }

    fn fields_of(problems: &Problems) -> Vec<&str> {
        problems.listed().iter().map(|problem| problem.field.as_str()).collect()
    }

    #[test]
    fn a_plain_consume_asks_for_the_sidecars_defaults() {
        let request = quota_request(consume(5)).unwrap();
        assert_eq!(request.mode, QuotaMode::Consume);
        assert_eq!(request.amount, 5);
        assert_eq!(request.subject, None);
        assert_eq!(request.idempotency_key, None);
        assert_eq!(request.durability, None);
    }

    #[test]
    fn an_empty_request_is_told_every_field_that_is_missing() {
        let problems = quota_request(v1::CheckQuotaRequest::default()).unwrap_err();
        assert_eq!(fields_of(&problems), ["mode", "tenant", "meter", "amount"]);
    }

    #[test]
    fn every_bad_field_is_named() {
        let problems = quota_request(v1::CheckQuotaRequest {
            tenant: "ac me".into(),
            meter: "Tokens".into(),
            subject: "é".into(),
            amount: Some(1 << 53),
            mode: 7,
            idempotency_key: "k".repeat(257),
            durability: -1,
            properties: [("p".into(), "v".repeat(257))].into(),
            ..Default::default()
        })
        .unwrap_err();
        let expected = [
            "mode",
            "tenant",
            "meter",
            "subject",
            "amount",
            "idempotency_key",
            "durability",
            "properties[\"p\"]",
        ];
        assert_eq!(fields_of(&problems), expected);
    }

    #[test]
    fn only_consume_takes_a_negative_amount() {
        for (mode, fine) in
            [(v1::Mode::Check, false), (v1::Mode::Reserve, false), (v1::Mode::Consume, true)]
        {
            let wire = v1::CheckQuotaRequest { mode: mode.into(), ..consume(-1) };
            assert_eq!(quota_request(wire).is_ok(), fine, "{mode:?}");
        }
    }

    #[test]
    fn a_time_to_live_goes_with_reserve_alone() {
        let ttl = Some(crate::proto::time::Duration { seconds: 30, nanos: 0 });
        let problems = quota_request(v1::CheckQuotaRequest { reservation_ttl: ttl, ..consume(1) })
            .unwrap_err();
        assert_eq!(fields_of(&problems), ["reservation_ttl"]);
        let reserve = v1::CheckQuotaRequest {
            mode: v1::Mode::Reserve.into(),
            reservation_ttl: ttl,
            ..consume(1)
        };
        let request = quota_request(reserve).unwrap();
        assert_eq!(request.mode, QuotaMode::Reserve { ttl: Some(Duration::from_secs(30)) });
    }

    #[test]
    fn unlimited_is_minus_one_on_the_wire() {
        let answer = QuotaAnswer {
            allowed: true,
            reason: QuotaReason::Unlimited,
            decided_by: DecidedBy::Memory,
            limit: None,
            used: 3,
            remaining: None,
            overage: 0,
            resets_at: None,
            reservation: None,
            remedies: vec![],
        };
        let wire = quota_response(answer);
        assert_eq!((wire.limit, wire.used, wire.remaining), (-1, 3, -1));
        assert_eq!(wire.resets_at, None);
    }

    #[test]
    fn a_reservation_id_goes_out_and_comes_back() {
        let id = ReservationId { run: crate::domain::ids::RunId(uuid::Uuid::nil()), number: 42 };
        let held =
            reservation(Reservation { id, amount: 9, expires_at: jiff::Timestamp::UNIX_EPOCH });
        let wire = v1::ReleaseReservationRequest { tenant: "acme".into(), reservation_id: held.id };
        assert_eq!(release_request(wire).unwrap().1, id);
        let bad = v1::ReleaseReservationRequest {
            tenant: String::new(),
            reservation_id: "nonsense".into(),
        };
        assert_eq!(fields_of(&release_request(bad).unwrap_err()), ["tenant", "reservation_id"]);
    }
}
