//! What an HTTP client is told of a limit without reading the body: `429`, `Retry-After`, and the
//! fields of draft-ietf-httpapi-ratelimit-headers-10.
//!
//! A denial of a *taking* mode (CONSUME, RESERVE) by a rate or a quota is `429 Too Many Requests`:
//! nothing was taken, and a client that only looks at the status must not go on. Where it was not a
//! limit that denied, but the tenant's subscription, or that its plan has nothing of it, it is
//! `403 Forbidden`: clients try a 429 again, and that would not help. A look (CHECK) was
//! answered, whatever the answer: `200`. A feature that is off is an answer too: `200` with
//! `allowed` or `enabled` false: it was asked about, and nothing was to be taken. Who would
//! rather have `200` always sends `Prefer: denial-status=200`.

use axum::http::{HeaderMap, HeaderName};

use crate::proto::v1;

const PREFER: HeaderName = HeaderName::from_static("prefer");
/// The preference that makes denials `200`.
const ALWAYS_OK: &str = "denial-status=200";

/// Whether the caller would rather have `200` for denials.
pub fn prefers_ok(headers: &HeaderMap) -> bool {
    let preferences = headers.get_all(PREFER).into_iter().filter_map(|value| value.to_str().ok());
    preferences.flat_map(|value| value.split(',')).any(|value| {
        let name = value.split(';').next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case(ALWAYS_OK)
    })
}

/// What a request says about limits: whether it takes, and what its limit is called.
pub trait Asked {
    /// Whether it takes something where it is allowed.
    fn takes(&self) -> bool {
        false
    }

    /// What its limit is called in the header fields.
    fn limit_name(&self) -> &str {
        ""
    }
}

fn is_taking(mode: v1::Mode) -> bool {
    matches!(mode, v1::Mode::Consume | v1::Mode::Reserve)
}

impl Asked for v1::CheckQuotaRequest {
    fn takes(&self) -> bool {
        is_taking(self.mode())
    }

    fn limit_name(&self) -> &str {
        &self.meter
    }
}

impl Asked for v1::CheckRateLimitRequest {
    fn takes(&self) -> bool {
        is_taking(self.mode())
    }

    fn limit_name(&self) -> &str {
        &self.rate_limit
    }
}

impl Asked for v1::CheckRequest {
    fn takes(&self) -> bool {
        is_taking(self.mode())
    }
}

// Neither of these is about a limit that a client could wait for.
impl Asked for v1::ReleaseReservationRequest {}
impl Asked for v1::RecordUsageRequest {}
impl Asked for v1::GetUsageRequest {}
impl Asked for v1::CheckFeatureRequest {}
impl Asked for v1::ListFeaturesRequest {}
// Each of its answers says for itself.
impl Asked for v1::CheckBatchRequest {}
impl Asked for v1::RequestEmergencyUsageRequest {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preference_is_found_among_others() {
        let mut headers = HeaderMap::new();
        assert!(!prefers_ok(&headers));
        headers.insert(PREFER, "respond-async, Denial-Status=200".parse().unwrap());
        assert!(prefers_ok(&headers));
    }
}
