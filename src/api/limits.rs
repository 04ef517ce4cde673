//! What a client is told of a limit beside the answer: the header fields of
//! draft-ietf-httpapi-ratelimit-headers-10, and `Retry-After`.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;

use crate::proto::v1;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// The largest integer of a header field (RFC 9651, section 3.3.1).
const INTEGER_MAX: u64 = 999_999_999_999_999;
/// When to come back after an outage policy's denial: the shared state may be in reach again.
const OUTAGE_RETRY: Duration = Duration::from_secs(1);

/// What an answer says about limits.
pub trait Limited {
    /// The limits that were decided by, each with its name, the most binding first; `asked` is the
    /// name that the request gave.
    fn limits(&self, _asked: &str, _now: Timestamp) -> Vec<Limit> {
        vec![]
    }

    /// Whether a rate or a quota denied.
    fn is_denied(&self) -> bool {
        false
    }

    /// Whether what denied is the subscription, or that the plan has nothing of what was asked:
    /// waiting does not help, another subscription does.
    fn is_for_subscribers(&self) -> bool {
        false
    }
}

/// One limit as the header fields tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub name: String,
    /// `q`: units per window.
    pub quota: u64,
    /// `w`: the window, seconds; `None` where it has no fixed length.
    pub window: Option<u64>,
    /// `r`: what is left.
    pub remaining: u64,
    /// `t`: seconds until more is there; `None` = never.
    pub reset: Option<Duration>,
    /// What to wait for; `None` when waiting does not help.
    pub retry: Option<Duration>,
}

/// The header fields that tell `limits`; `Retry-After` only on a denial.
pub fn fields(limits: &[Limit], is_denied: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let list = |line: fn(&Limit) -> String| {
        HeaderValue::from_str(&limits.iter().map(line).collect::<Vec<_>>().join(", "))
    };
    if let (false, Ok(policy), Ok(limit)) = (limits.is_empty(), list(policy), list(service_limit)) {
        headers.insert(POLICY, policy);
        headers.insert(LIMIT, limit);
    }
    if is_denied && let Some(wait) = limits.iter().filter_map(|limit| limit.retry).max() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds_up(wait)));
    }
    headers
}

fn policy(limit: &Limit) -> String {
    let window = limit.window.map(|seconds| format!(";w={seconds}")).unwrap_or_default();
    format!("{};q={}{window}", quoted(&limit.name), limit.quota.min(INTEGER_MAX))
}

fn service_limit(limit: &Limit) -> String {
    let reset = limit.reset.map(|wait| format!(";t={}", seconds_up(wait))).unwrap_or_default();
    format!("{};r={}{reset}", quoted(&limit.name), limit.remaining.min(INTEGER_MAX))
}

/// A name as a string of RFC 9651; names of catalogs have no characters that it forbids, and what a
/// caller made up is left out.
fn quoted(name: &str) -> String {
    let fine = name.chars().filter(|c| (' '..='~').contains(c) && !matches!(c, '"' | '\\'));
    format!("\"{}\"", fine.collect::<String>())
}

fn seconds_up(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).min(INTEGER_MAX)
}

fn positive(wire: Option<crate::proto::time::Duration>) -> Option<Duration> {
    wire.and_then(|wire| Duration::try_from(wire).ok())
}

/// What to tell of a quota; `remedies` are those of the whole answer.
fn quota_limit(
    name: &str,
    answer: &v1::CheckQuotaResponse,
    remedies: &[v1::Remedy],
    now: Timestamp,
) -> Option<Limit> {
    // No limit has decided these, nor need anybody have looked at one.
    if is_of_subscription(answer) || answer.reason() == v1::QuotaReason::TooManySubjects {
        return None;
    }
    let quota = u64::try_from(answer.limit).ok()?;
    // A soft limit without a cap never denies: what is left of the limit is told, and nothing once
    // it is used up, since 0 would say stop.
    let remaining = match answer.remaining {
        ..0 => answer.limit.checked_sub(answer.used).filter(|left| *left > 0)?,
        left => left,
    };
    // A tenant on a test clock may have windows that lie in the past by the real one.
    let reset = answer.resets_at.and_then(|at| {
        let wait = Timestamp::new(at.seconds, at.nanos).ok()?.duration_since(now);
        Duration::try_from(wait).ok()
    });
    // More than a whole window has will not be there in the next one either.
    let fits_later = remedies.iter().any(|remedy| remedy.kind() == v1::RemedyKind::WaitUntil);
    let retry = match answer.reason() {
        v1::QuotaReason::LimitExceeded => reset.filter(|_| fits_later),
        v1::QuotaReason::DeniedByOutagePolicy => Some(OUTAGE_RETRY),
        _ => None,
    };
    Some(Limit {
        name: name.to_owned(),
        quota,
        window: None,
        remaining: u64::try_from(remaining).unwrap_or_default(),
        reset,
        retry,
    })
}

fn is_of_subscription(answer: &v1::CheckQuotaResponse) -> bool {
    use v1::QuotaReason as Reason;
    matches!(answer.reason(), Reason::SubscriptionInactive | Reason::NotInPlan)
}

fn is_rate_of_subscription(answer: &v1::CheckRateLimitResponse) -> bool {
    use v1::RateLimitReason as Reason;
    matches!(answer.reason(), Reason::SubscriptionInactive | Reason::NotInPlan)
}

/// One limit per window of the rate; where there are several, each is named with its period.
fn rate_limits(name: &str, answer: &v1::CheckRateLimitResponse) -> Vec<Limit> {
    let is_alone = answer.windows.len() == 1;
    let is_outage = answer.reason() == v1::RateLimitReason::DeniedByOutagePolicy;
    let retry = positive(answer.retry_after).or(is_outage.then_some(OUTAGE_RETRY));
    let limit = |of: &v1::RateLimitWindow| {
        let seconds = positive(of.period).map(seconds_up);
        let period = seconds.filter(|_| !is_alone).map(|seconds| format!("-{seconds}s"));
        Some(Limit {
            name: format!("{name}{}", period.unwrap_or_default()),
            quota: u64::try_from(of.limit).ok()?,
            window: seconds,
            remaining: u64::try_from(of.remaining).unwrap_or_default(),
            reset: positive(of.reset_after),
            retry,
        })
    };
    answer.windows.iter().filter_map(limit).collect()
}

impl Limited for v1::CheckQuotaResponse {
    fn limits(&self, asked: &str, now: Timestamp) -> Vec<Limit> {
        quota_limit(asked, self, &self.remedies, now).into_iter().collect()
    }

    fn is_denied(&self) -> bool {
        !self.allowed
    }

    fn is_for_subscribers(&self) -> bool {
        is_of_subscription(self)
    }
}

impl Limited for v1::CheckRateLimitResponse {
    fn limits(&self, asked: &str, _: Timestamp) -> Vec<Limit> {
        rate_limits(asked, self)
    }

    fn is_denied(&self) -> bool {
        !self.allowed
    }

    fn is_for_subscribers(&self) -> bool {
        is_rate_of_subscription(self)
    }
}

impl Limited for v1::CheckResponse {
    fn limits(&self, _: &str, now: Timestamp) -> Vec<Limit> {
        let rates = self.rate_limits.iter().flat_map(|(name, rate)| rate_limits(name, rate));
        let quota_limit = |(meter, quota): (&String, &v1::CheckQuotaResponse)| {
            quota_limit(meter, quota, &self.remedies, now)
        };
        let quotas = self.quotas.iter().filter_map(quota_limit);
        rates.chain(quotas).collect()
    }

    fn is_denied(&self) -> bool {
        !self.allowed && self.denied_by() != v1::DeniedBy::Feature
    }

    fn is_for_subscribers(&self) -> bool {
        let name = &self.denied_name;
        match self.denied_by() {
            v1::DeniedBy::Subscription => true,
            v1::DeniedBy::Quota => self.quotas.get(name).is_some_and(is_of_subscription),
            v1::DeniedBy::RateLimit => {
                self.rate_limits.get(name).is_some_and(is_rate_of_subscription)
            }
            v1::DeniedBy::Feature | v1::DeniedBy::Unspecified => false,
        }
    }
}

// None of these is about a limit that a client could wait for; of a batch each answer says for itself.
impl Limited for v1::ReleaseReservationResponse {}
impl Limited for v1::RecordUsageResponse {}
impl Limited for v1::GetUsageResponse {}
impl Limited for v1::CheckFeatureResponse {}
impl Limited for v1::ListFeaturesResponse {}
impl Limited for v1::CheckBatchResponse {}
impl Limited for v1::RequestEmergencyUsageResponse {}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied() -> v1::CheckQuotaResponse {
        v1::CheckQuotaResponse {
            allowed: false,
            reason: v1::QuotaReason::LimitExceeded.into(),
            limit: 100,
            remaining: 3,
            resets_at: Some(crate::proto::time::Timestamp { seconds: 90, nanos: 1 }),
            remedies: vec![v1::Remedy {
                kind: v1::RemedyKind::WaitUntil.into(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn a_denial_that_waiting_does_not_help_says_no_time_and_an_outage_soon() {
        let now = Timestamp::from_second(60).unwrap();
        let more_than_there_ever_is = v1::CheckQuotaResponse { remedies: vec![], ..denied() };
        let headers = fields(&more_than_there_ever_is.limits("queries", now), true);
        assert_eq!(headers[LIMIT], "\"queries\";r=3;t=31");
        assert!(!headers.contains_key(header::RETRY_AFTER));
        let reason = v1::QuotaReason::DeniedByOutagePolicy.into();
        let outage = v1::CheckQuotaResponse { reason, remedies: vec![], ..denied() };
        assert_eq!(fields(&outage.limits("queries", now), true)[header::RETRY_AFTER], "1");
        let part = v1::CheckResponse {
            quotas: [(
                "queries".to_owned(),
                v1::CheckQuotaResponse { remedies: vec![], ..denied() },
            )]
            .into(),
            remedies: denied().remedies,
            ..Default::default()
        };
        assert_eq!(fields(&part.limits("", now), true)[header::RETRY_AFTER], "31");
    }

    #[test]
    fn who_has_no_subscription_to_it_is_told_no_limit_and_not_to_come_back() {
        let of =
            |reason: v1::QuotaReason| v1::CheckQuotaResponse { reason: reason.into(), ..denied() };
        for (reason, is_for_subscribers, tells_limit) in [
            (v1::QuotaReason::LimitExceeded, false, true),
            (v1::QuotaReason::DeniedByOutagePolicy, false, true),
            (v1::QuotaReason::TooManySubjects, false, false),
            (v1::QuotaReason::SubscriptionInactive, true, false),
            (v1::QuotaReason::NotInPlan, true, false),
        ] {
            let answer = of(reason);
            assert_eq!(answer.is_for_subscribers(), is_for_subscribers, "{reason:?}");
            let headers = fields(&answer.limits("queries", Timestamp::UNIX_EPOCH), true);
            assert_eq!(headers.contains_key(LIMIT), tells_limit, "{reason:?}");
            let operation = v1::CheckResponse {
                denied_by: v1::DeniedBy::Quota.into(),
                denied_name: "queries".into(),
                quotas: [("queries".to_owned(), answer)].into(),
                ..Default::default()
            };
            assert_eq!(operation.is_for_subscribers(), is_for_subscribers, "{reason:?}");
        }
        let denied_by = v1::DeniedBy::Subscription.into();
        assert!(v1::CheckResponse { denied_by, ..Default::default() }.is_for_subscribers());
        let reason = v1::RateLimitReason::SubscriptionInactive.into();
        assert!(v1::CheckRateLimitResponse { reason, ..Default::default() }.is_for_subscribers());
    }

    #[test]
    fn a_soft_limit_that_never_denies_never_says_that_nothing_is_left() {
        let told = |used| {
            let soft = v1::CheckQuotaResponse { allowed: true, used, remaining: -1, ..denied() };
            let headers = fields(&soft.limits("queries", Timestamp::UNIX_EPOCH), false);
            headers.get(LIMIT).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(told(40).as_deref(), Some("\"queries\";r=60;t=91"));
        assert_eq!(told(100), None);
        assert_eq!(told(101), None);
    }

    #[test]
    fn integers_are_no_larger_than_a_header_field_may_have() {
        let large = v1::CheckQuotaResponse { limit: i64::MAX, remaining: i64::MAX, ..denied() };
        let headers = fields(&large.limits("queries", Timestamp::from_second(60).unwrap()), false);
        assert_eq!(headers[POLICY], "\"queries\";q=999999999999999");
        assert_eq!(headers[LIMIT], "\"queries\";r=999999999999999;t=31");
    }

    #[test]
    fn a_denied_quota_tells_limit_rest_and_when_to_come_back() {
        let now = Timestamp::from_second(60).unwrap();
        let headers = fields(&denied().limits("queries", now), true);
        assert_eq!(headers[POLICY], "\"queries\";q=100");
        assert_eq!(headers[LIMIT], "\"queries\";r=3;t=31");
        assert_eq!(headers[header::RETRY_AFTER], "31");
        assert!(!fields(&denied().limits("queries", now), false).contains_key("retry-after"));
    }

    #[test]
    fn what_is_unlimited_has_no_fields() {
        let unlimited = v1::CheckQuotaResponse { limit: -1, allowed: true, ..Default::default() };
        assert!(fields(&unlimited.limits("queries", Timestamp::UNIX_EPOCH), false).is_empty());
    }

    #[test]
    fn a_feature_that_is_off_is_an_answer_and_no_status() {
        let by = |denied_by: v1::DeniedBy| v1::CheckResponse {
            denied_by: denied_by.into(),
            ..Default::default()
        };
        assert!(by(v1::DeniedBy::Quota).is_denied());
        assert!(!by(v1::DeniedBy::Feature).is_denied());
    }

    #[test]
    fn every_window_of_a_denied_rate_is_told_by_its_period() {
        let seconds = |seconds| Some(crate::proto::time::Duration { seconds, nanos: 0 });
        let window = |limit, period, remaining, reset| v1::RateLimitWindow {
            limit,
            period: seconds(period),
            burst: limit,
            remaining,
            reset_after: seconds(reset),
        };
        let denied = v1::CheckRateLimitResponse {
            retry_after: seconds(173),
            windows: vec![window(10, 1, 10, 0), window(500, 86_400, 0, 86_400)],
            ..Default::default()
        };
        let headers = fields(&denied.limits("api", Timestamp::UNIX_EPOCH), true);
        assert_eq!(headers[POLICY], "\"api-1s\";q=10;w=1, \"api-86400s\";q=500;w=86400");
        assert_eq!(headers[LIMIT], "\"api-1s\";r=10;t=0, \"api-86400s\";r=0;t=86400");
        assert_eq!(headers[header::RETRY_AFTER], "173");
    }
}
