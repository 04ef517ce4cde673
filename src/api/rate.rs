//! `CheckRateLimit`.

use std::time::Duration;

use crate::proto::time::Duration as WireDuration;

use super::{fields, quota::decided_by};
use crate::{
    domain::{
        catalog::names::RateName,
        ids::TenantId,
        invalid::{Invalid, Problems},
        rate::{RateAnswer, RateMode, RateReason, RateRequest, RateStanding},
    },
    proto::v1,
};

/// Checks a request; every problem is told.
pub fn rate_request(wire: v1::CheckRateLimitRequest) -> Result<RateRequest, Problems> {
    let mut problems = Problems::default();
    let mode = problems.keep(mode(wire.mode));
    let tenant = problems.keep(TenantId::new(&wire.tenant));
    let rate = problems.keep(rate_name(&wire.rate_limit));
    let subject = problems.keep(fields::subject(&wire.subject));
    let permits = problems.keep(permits(wire.permits));
    match (mode, tenant, rate, subject, permits) {
        (Some(mode), Some(tenant), Some(rate), Some(subject), Some(permits)) => {
            Ok(RateRequest { tenant, rate, subject, permits, mode })
        }
        _ => Err(problems),
    }
}

/// Puts an answer into the wire's form.
pub fn rate_response(answer: RateAnswer) -> v1::CheckRateLimitResponse {
    let tightest = answer.windows.tightest();
    v1::CheckRateLimitResponse {
        allowed: answer.allowed,
        reason: reason(answer.reason).into(),
        decided_by: decided_by(answer.decided_by).into(),
        limit: tightest.map_or(fields::UNLIMITED, |window| window.limit.into()),
        period: tightest.map(|window| wire_duration(window.period)),
        burst: tightest.map_or(fields::UNLIMITED, |window| window.burst.into()),
        remaining: tightest.map_or(fields::UNLIMITED, |window| window.remaining.into()),
        retry_after: answer.retry_after.map(wire_duration),
        reset_after: tightest.map(|window| wire_duration(window.reset_after)),
        windows: answer.windows.iter().map(window).collect(),
    }
}

fn window(standing: &RateStanding) -> v1::RateLimitWindow {
    v1::RateLimitWindow {
        limit: standing.limit.into(),
        period: Some(wire_duration(standing.period)),
        burst: standing.burst.into(),
        remaining: standing.remaining.into(),
        reset_after: Some(wire_duration(standing.reset_after)),
    }
}

pub(super) fn wire_duration(length: Duration) -> WireDuration {
    // Nanoseconds of a second always fit, and no rate takes 292 billion years.
    WireDuration {
        seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(length.subsec_nanos()).unwrap_or(0),
    }
}

fn mode(number: i32) -> Result<RateMode, Invalid> {
    let bad = |problem| Err(Invalid::new("mode", problem, "use MODE_CHECK or MODE_CONSUME"));
    match v1::Mode::try_from(number) {
        Ok(v1::Mode::Check) => Ok(RateMode::Check),
        Ok(v1::Mode::Consume) => Ok(RateMode::Consume),
        Ok(v1::Mode::Reserve) => bad("is MODE_RESERVE: a rate cannot be held".to_owned()),
        Ok(v1::Mode::Unspecified) => bad("is missing".to_owned()),
        Err(_) => bad(format!("{number} is not a mode")),
    }
}

fn rate_name(name: &str) -> Result<RateName, Invalid> {
    RateName::new(name).map_err(|invalid| Invalid { field: "rate_limit".into(), ..invalid })
}

fn permits(permits: Option<u32>) -> Result<u32, Invalid> {
    match permits {
        None => Ok(1),
        Some(0) => Err(Invalid::new("permits", "is 0", "give 1 or more; MODE_CHECK only looks")),
        Some(permits) => Ok(permits),
    }
}

pub(super) fn reason(reason: RateReason) -> v1::RateLimitReason {
    match reason {
        RateReason::WithinLimit => v1::RateLimitReason::WithinLimit,
        RateReason::Unlimited => v1::RateLimitReason::Unlimited,
        RateReason::AllowedByOutagePolicy => v1::RateLimitReason::AllowedByOutagePolicy,
        RateReason::RateExceeded => v1::RateLimitReason::RateExceeded,
        RateReason::BurstExceeded => v1::RateLimitReason::BurstExceeded,
        RateReason::DeniedByOutagePolicy => v1::RateLimitReason::DeniedByOutagePolicy,
        RateReason::SubscriptionInactive => v1::RateLimitReason::SubscriptionInactive,
        RateReason::TooManySubjects => v1::RateLimitReason::TooManySubjects,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        quota::DecidedBy,
        rate::{RateStandings, RateWindow},
    };

    #[test]
    fn every_bad_field_is_named() {
        let problems = rate_request(v1::CheckRateLimitRequest {
            tenant: "ac me".into(),
            rate_limit: "Api".into(),
            subject: "é".into(),
            permits: Some(0),
            mode: v1::Mode::Reserve.into(),
        })
        .unwrap_err();
        let fields: Vec<_> = problems.listed().iter().map(|one| one.field.as_str()).collect();
        assert_eq!(fields, ["mode", "tenant", "rate_limit", "subject", "permits"]);
    }

    #[test]
    fn absent_permits_are_one() {
        let request = rate_request(v1::CheckRateLimitRequest {
            tenant: "acme".into(),
            rate_limit: "api".into(),
            mode: v1::Mode::Consume.into(),
            ..Default::default()
        })
        .unwrap();
        assert_eq!((request.permits, request.subject), (1, None));
    }

    #[test]
    fn the_window_with_least_left_is_the_answers_own() {
        let second = RateWindow::new(10, Duration::from_secs(1), 20);
        let day = RateWindow::new(500, Duration::from_secs(86_400), 500);
        let standings = [second.standing(0), day.standing(day.capacity_ns())];
        let wire = rate_response(RateAnswer {
            allowed: false,
            reason: RateReason::RateExceeded,
            decided_by: DecidedBy::Memory,
            windows: standings.into_iter().collect(),
            retry_after: Some(Duration::from_millis(172_800)),
        });
        assert_eq!((wire.limit, wire.burst, wire.remaining), (500, 500, 0));
        assert_eq!(wire.retry_after.unwrap(), WireDuration { seconds: 172, nanos: 800_000_000 });
        assert_eq!(wire.windows[0].remaining, 20);
    }

    #[test]
    fn a_rate_without_a_limit_is_minus_one() {
        let wire = rate_response(RateAnswer {
            allowed: true,
            reason: RateReason::Unlimited,
            decided_by: DecidedBy::Memory,
            windows: RateStandings::NONE,
            retry_after: None,
        });
        assert_eq!((wire.limit, wire.remaining, wire.period), (-1, -1, None));
    }
}
