//! What the proxy is told: a status for each descriptor, and the header fields.

use std::time::Duration;

use envoy_types::pb::{
    envoy::{
        config::core::v3::HeaderValue,
        service::ratelimit::v3::{
            RateLimitResponse,
            rate_limit_response::{Code, DescriptorStatus, RateLimit, rate_limit::Unit},
        },
    },
    google::protobuf::Duration as WireDuration,
};

use crate::api::limits::{Limit, fields};

/// What became of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// No rule is for it.
    Unmapped,
    Decided {
        allowed: bool,
        /// What decided; empty where nothing limits.
        limits: Vec<Limit>,
    },
}

impl Told {
    /// Denied by no limit: there is no such tenant, or its plan does not have what is asked.
    pub const DENIED: Self = Self::Decided { allowed: false, limits: vec![] };

    fn is_denied(&self) -> bool {
        matches!(self, Self::Decided { allowed: false, .. })
    }

    fn limits(&self) -> &[Limit] {
        match self {
            Self::Unmapped => &[],
            Self::Decided { limits, .. } => limits,
        }
    }
}

/// The answer to a request, in the order of its descriptors.
pub fn response(told: &[Told]) -> RateLimitResponse {
    let is_denied = told.iter().any(Told::is_denied);
    let headers = fields(&all_limits(told), is_denied);
    let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        let value = value.to_str().ok()?.to_owned();
        Some(HeaderValue { key: name.as_str().to_owned(), value, raw_value: vec![] })
    };
    RateLimitResponse {
        overall_code: code(is_denied).into(),
        statuses: told.iter().map(status).collect(),
        response_headers_to_add: headers.iter().filter_map(header).collect(),
        ..Default::default()
    }
}

fn status(told: &Told) -> DescriptorStatus {
    let code = code(told.is_denied()).into();
    let Some(limit) = tightest(told.limits()) else {
        return DescriptorStatus { code, ..Default::default() };
    };
    DescriptorStatus {
        code,
        current_limit: Some(RateLimit {
            name: limit.name.clone(),
            requests_per_unit: clipped(limit.quota),
            unit: unit(limit.window).into(),
        }),
        limit_remaining: clipped(limit.remaining),
        duration_until_reset: limit.reset.map(wire_duration),
        quota: None,
    }
}

/// The limits of all descriptors, each name once: where several subjects are asked about, the one
/// with least left.
fn all_limits(told: &[Told]) -> Vec<Limit> {
    let mut all: Vec<Limit> = vec![];
    for limit in told.iter().flat_map(Told::limits) {
        match all.iter_mut().find(|known| known.name == limit.name) {
            Some(known) if limit.remaining < known.remaining => *known = limit.clone(),
            Some(_) => {}
            None => all.push(limit.clone()),
        }
    }
    all
}

fn tightest(limits: &[Limit]) -> Option<&Limit> {
    limits.iter().min_by_key(|limit| (limit.remaining, std::cmp::Reverse(limit.reset)))
}

fn code(is_denied: bool) -> Code {
    if is_denied { Code::OverLimit } else { Code::Ok }
}

/// Envoy counts in 32 bits.
fn clipped(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Windows without a fixed length (a month) have no unit that Envoy could reckon with.
fn unit(window_s: Option<u64>) -> Unit {
    match window_s {
        Some(1) => Unit::Second,
        Some(60) => Unit::Minute,
        Some(3_600) => Unit::Hour,
        Some(86_400) => Unit::Day,
        _ => Unit::Unknown,
    }
}

fn wire_duration(length: Duration) -> WireDuration {
    // Nanoseconds of a second always fit.
    WireDuration {
        seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(length.subsec_nanos()).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(name: &str, remaining: u64) -> Limit {
        Limit {
            name: name.into(),
            quota: 10,
            window: Some(60),
            remaining,
            reset: Some(Duration::from_millis(1_500)),
            retry: Some(Duration::from_secs(2)),
        }
    }

    #[test]
    fn one_denied_descriptor_is_the_whole_answer_and_the_others_keep_their_own() {
        let told = [
            Told::Unmapped,
            Told::Decided { allowed: true, limits: vec![limit("api", 7)] },
            Told::Decided { allowed: false, limits: vec![limit("api", 0), limit("day", 3)] },
        ];
        let response = response(&told);
        assert_eq!(response.overall_code(), Code::OverLimit);
        let codes: Vec<_> = response.statuses.iter().map(DescriptorStatus::code).collect();
        assert_eq!(codes, [Code::Ok, Code::Ok, Code::OverLimit]);
        assert_eq!(response.statuses[0].current_limit, None);
        let denied = response.statuses[2].current_limit.as_ref().unwrap();
        assert_eq!((denied.name.as_str(), denied.requests_per_unit), ("api", 10));
        assert_eq!(denied.unit(), Unit::Minute);
        let reset = response.statuses[2].duration_until_reset.unwrap();
        assert_eq!((reset.seconds, reset.nanos), (1, 500_000_000));
        let header = |name: &str| {
            let mut all = response.response_headers_to_add.iter();
            all.find(|header| header.key == name).map(|header| header.value.as_str())
        };
        assert_eq!(header("ratelimit"), Some("\"api\";r=0;t=2, \"day\";r=3;t=2"));
        assert_eq!(header("retry-after"), Some("2"));
    }
}
