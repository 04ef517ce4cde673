//! Answers to checks, written as their messages' fields without the messages: what is sent most is
//! made once.

use std::time::Duration;

use jiff::Timestamp;
use prost::Message;

use super::{feature, fields, quota, rate, remedy::remedies};
use crate::{
    domain::{
        catalog::features::FeatureValue,
        features::{access::FeatureAccess, offered::OfferedFeature},
        ids::FeatureName,
        quota::QuotaAnswer,
        rate::{RateAnswer, RateStanding},
    },
    proto::{fields::Fields, v1},
};

/// Puts the fields of a `CheckQuotaResponse`.
pub fn put_quota(answer: &QuotaAnswer, to: &mut Fields<'_>) {
    const ALLOWED: u32 = 1;
    const REASON: u32 = 2;
    const DECIDED_BY: u32 = 3;
    const LIMIT: u32 = 4;
    const USED: u32 = 5;
    const REMAINING: u32 = 6;
    const OVERAGE: u32 = 7;
    const RESETS_AT: u32 = 8;
    to.uint(ALLOWED, answer.allowed.into());
    to.int(REASON, i32::from(quota::reason(answer.reason)).into());
    to.int(DECIDED_BY, i32::from(quota::decided_by(answer.decided_by)).into());
    to.int(LIMIT, fields::units_or_unlimited(answer.limit));
    to.int(USED, fields::units(answer.used));
    to.int(REMAINING, fields::units_or_unlimited(answer.remaining));
    to.int(OVERAGE, fields::units(answer.overage));
    if let Some(instant) = answer.resets_at {
        put_instant(RESETS_AT, instant, to);
    }
    // Few answers have these.
    if answer.reservation.is_some() || !answer.remedies.is_empty() {
        let rest = v1::CheckQuotaResponse {
            reservation: answer.reservation.map(quota::reservation),
            remedies: remedies(answer.remedies.clone()),
            ..Default::default()
        };
        rest.encode_raw(to.0);
    }
}

/// Puts the fields of a `CheckRateLimitResponse`.
pub fn put_rate(answer: &RateAnswer, to: &mut Fields<'_>) {
    const ALLOWED: u32 = 1;
    const REASON: u32 = 2;
    const DECIDED_BY: u32 = 3;
    const LIMIT: u32 = 4;
    const PERIOD: u32 = 5;
    const BURST: u32 = 6;
    const REMAINING: u32 = 7;
    const RETRY_AFTER: u32 = 8;
    const RESET_AFTER: u32 = 9;
    const WINDOWS: u32 = 10;
    let tightest = answer.windows.tightest();
    let count = |count: fn(&RateStanding) -> u32| {
        tightest.map_or(fields::UNLIMITED, |window| count(window).into())
    };
    to.uint(ALLOWED, answer.allowed.into());
    to.int(REASON, i32::from(rate::reason(answer.reason)).into());
    to.int(DECIDED_BY, i32::from(quota::decided_by(answer.decided_by)).into());
    to.int(LIMIT, count(|window| window.limit));
    if let Some(window) = tightest {
        put_length(PERIOD, window.period, to);
    }
    to.int(BURST, count(|window| window.burst));
    to.int(REMAINING, count(|window| window.remaining));
    if let Some(length) = answer.retry_after {
        put_length(RETRY_AFTER, length, to);
    }
    if let Some(window) = tightest {
        put_length(RESET_AFTER, window.reset_after, to);
    }
    for window in answer.windows.iter() {
        to.message(WINDOWS, |to| put_window(window, to));
    }
}

/// Puts the fields of a `FeatureAccess`.
pub fn put_feature(offered: &OfferedFeature<&FeatureName>, to: &mut Fields<'_>) {
    const FEATURE: u32 = 1;
    const ENABLED: u32 = 2;
    const REASON: u32 = 3;
    const TYPE: u32 = 9;
    match offered {
        // Most features say no more than this.
        OfferedFeature {
            access:
                access @ FeatureAccess {
                    feature: name,
                    value: None | Some(FeatureValue::Boolean(_)),
                    override_expires_at: None,
                    sunset_at: None,
                    sunset_notice: None,
                    ..
                },
            available_in_plan: None,
        } => {
            to.text(FEATURE, name.as_str());
            to.uint(ENABLED, access.is_enabled().into());
            to.int(REASON, i32::from(feature::reason(access.reason)).into());
            to.int(TYPE, i32::from(feature::kind(access.kind)).into());
        }
        _ => feature::feature_access(offered.clone().owned()).encode_raw(to.0),
    }
}

/// Puts the fields of a `RateLimitWindow`.
fn put_window(window: &RateStanding, to: &mut Fields<'_>) {
    const LIMIT: u32 = 1;
    const PERIOD: u32 = 2;
    const BURST: u32 = 3;
    const REMAINING: u32 = 4;
    const RESET_AFTER: u32 = 5;
    to.uint(LIMIT, window.limit.into());
    put_length(PERIOD, window.period, to);
    to.uint(BURST, window.burst.into());
    to.uint(REMAINING, window.remaining.into());
    put_length(RESET_AFTER, window.reset_after, to);
}

fn put_instant(tag: u32, instant: Timestamp, to: &mut Fields<'_>) {
    let wire = fields::wire_instant(instant);
    put_seconds(tag, (wire.seconds, wire.nanos), to);
}

fn put_length(tag: u32, length: Duration, to: &mut Fields<'_>) {
    let wire = rate::wire_duration(length);
    put_seconds(tag, (wire.seconds, wire.nanos), to);
}

/// Puts a `Timestamp` or `Duration`, whose fields are the same.
fn put_seconds(tag: u32, (seconds, nanos): (i64, i32), to: &mut Fields<'_>) {
    const SECONDS: u32 = 1;
    const NANOS: u32 = 2;
    to.message(tag, |to| {
        to.int(SECONDS, seconds);
        to.int(NANOS, nanos.into());
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::{
        api::{quota::quota_response, rate::rate_response},
        domain::{
            catalog::features::FeatureType,
            features::access::{FeatureReason, SunsetNotice},
            ids::{FeatureName, PlanName, RunId},
            quota::{DecidedBy, QuotaReason},
            rate::RateReason,
            remedy::Remedy,
            reservation::{Reservation, ReservationId},
        },
    };

    fn instants() -> impl Strategy<Value = Timestamp> {
        (-100_000_000_000..100_000_000_000_i64, 0..1_000_000_000)
            .prop_map(|(seconds, nanos)| Timestamp::new(seconds, nanos).unwrap())
    }

    fn quotas() -> impl Strategy<Value = QuotaAnswer> {
        let figures = (any::<Option<u64>>(), any::<u64>(), any::<Option<u64>>(), 0..3_u64);
        let reasons = prop::sample::select(vec![
            QuotaReason::WithinLimit,
            QuotaReason::Unlimited,
            QuotaReason::Overage,
            QuotaReason::WithinGrant,
            QuotaReason::AllowedByOutagePolicy,
            QuotaReason::LimitExceeded,
            QuotaReason::DeniedByOutagePolicy,
            QuotaReason::NotInPlan,
            QuotaReason::SubscriptionInactive,
            QuotaReason::TooManySubjects,
        ]);
        let places = prop::sample::select(vec![
            DecidedBy::Memory,
            DecidedBy::Redis,
            DecidedBy::Fallback,
            DecidedBy::Replay,
        ]);
        let reservation =
            (any::<u128>(), any::<u64>(), instants()).prop_map(|(run, number, at)| {
                let id = ReservationId { run: RunId(Uuid::from_u128(run)), number };
                Reservation { id, amount: number >> 1, expires_at: at }
            });
        let rare = (prop::option::of(instants()), prop::option::of(reservation), 0..3_usize);
        (any::<bool>(), reasons, places, figures, rare).prop_map(
            |(allowed, reason, decided_by, (limit, used, remaining, overage), rare)| {
                let (resets_at, reservation, remedies) = rare;
                QuotaAnswer {
                    allowed,
                    reason,
                    decided_by,
                    limit,
                    used,
                    remaining,
                    overage,
                    resets_at,
                    reservation,
                    remedies: vec![Remedy::ReactivateSubscription; remedies],
                }
            },
        )
    }

    fn features() -> impl Strategy<Value = OfferedFeature> {
        let kinds = prop::sample::select(vec![FeatureType::Boolean, FeatureType::Number]);
        let values = prop::option::of(prop::sample::select(vec![
            FeatureValue::Boolean(true),
            FeatureValue::Boolean(false),
            FeatureValue::Number(3.into()),
        ]));
        let reasons = prop::sample::select(vec![
            FeatureReason::InPlan,
            FeatureReason::NotInPlan,
            FeatureReason::Override,
        ]);
        let rare = || prop::option::weighted(0.1, instants());
        (kinds, values, reasons, rare(), rare(), rare(), prop::option::weighted(0.1, Just("pro")))
            .prop_map(|(kind, value, reason, expires, sunset_at, withdrawn, plan)| {
                let notice = |withdrawn_at| SunsetNotice { withdrawn_at, replacement: None };
                let access = FeatureAccess {
                    feature: FeatureName::new("chat").unwrap(),
                    kind,
                    value,
                    reason,
                    override_expires_at: expires,
                    sunset_at,
                    sunset_notice: withdrawn.map(notice),
                };
                let available_in_plan = plan.map(|name| PlanName::new(name).unwrap());
                OfferedFeature { access, available_in_plan }
            })
    }

    /// The same, by a name that lies elsewhere.
    fn borrowed(offered: &OfferedFeature) -> OfferedFeature<&FeatureName> {
        let OfferedFeature { access, available_in_plan } = offered.clone();
        let FeatureAccess { kind, value, reason, override_expires_at, .. } = access;
        let access = FeatureAccess {
            feature: &offered.access.feature,
            kind,
            value,
            reason,
            override_expires_at,
            sunset_at: access.sunset_at,
            sunset_notice: access.sunset_notice,
        };
        OfferedFeature { access, available_in_plan }
    }

    fn standings() -> impl Strategy<Value = RateStanding> {
        (any::<u32>(), 0..3_u32, any::<u32>(), any::<Duration>(), any::<Duration>()).prop_map(
            |(limit, burst, remaining, period, reset_after)| RateStanding {
                limit,
                period,
                burst,
                remaining,
                reset_after,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_put_of_a_quota_is_its_message(answer in quotas()) {
            let mut put = vec![];
            put_quota(&answer, &mut Fields(&mut put));
            prop_assert_eq!(put, quota_response(answer).encode_to_vec());
        }

        #[test]
        fn what_is_put_of_a_feature_is_its_message(offered in features()) {
            let mut put = vec![];
            put_feature(&borrowed(&offered), &mut Fields(&mut put));
            prop_assert_eq!(put, feature::feature_access(offered).encode_to_vec());
        }

        #[test]
        fn what_is_put_of_a_rate_is_its_message(
            allowed: bool,
            windows in prop::collection::vec(standings(), 0..4),
            retry_after: Option<Duration>,
        ) {
            let answer = RateAnswer {
                allowed,
                reason: RateReason::RateExceeded,
                decided_by: DecidedBy::Memory,
                windows: windows.into_iter().collect(),
                retry_after,
            };
            let mut put = vec![];
            put_rate(&answer, &mut Fields(&mut put));
            prop_assert_eq!(put, rate_response(answer).encode_to_vec());
        }
    }
}
