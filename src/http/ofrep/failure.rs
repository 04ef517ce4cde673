//! What cannot be evaluated, in OFREP's words.

use std::time::Duration;

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    domain::invalid::Invalid,
    http::refused::{http_status, whole_seconds},
};

/// OpenFeature's error codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    ParseError,
    TargetingKeyMissing,
    InvalidContext,
    FlagNotFound,
    General,
}

impl ErrorCode {
    fn as_str(self) -> &'static str {
        match self {
            Self::ParseError => "PARSE_ERROR",
            Self::TargetingKeyMissing => "TARGETING_KEY_MISSING",
            Self::InvalidContext => "INVALID_CONTEXT",
            Self::FlagNotFound => "FLAG_NOT_FOUND",
            Self::General => "GENERAL",
        }
    }
}

/// Why there is no evaluation.
#[derive(Debug)]
pub struct Failure {
    pub code: ErrorCode,
    status: StatusCode,
    details: String,
    retry_after: Option<Duration>,
    /// The flag that was asked for; none in bulk.
    key: Option<String>,
}

impl Failure {
    fn new(code: ErrorCode, status: StatusCode, details: impl Into<String>) -> Self {
        Self { code, status, details: details.into(), retry_after: None, key: None }
    }

    /// The body is no request.
    pub fn parse(invalid: &Invalid) -> Self {
        Self::new(ErrorCode::ParseError, StatusCode::BAD_REQUEST, invalid.to_string())
    }

    /// The body did not arrive as a request should.
    pub fn unreadable(status: Status) -> Self {
        Self { code: ErrorCode::ParseError, ..status.into() }
    }

    /// The context is no context.
    pub fn context(details: &str) -> Self {
        Self::new(ErrorCode::InvalidContext, StatusCode::BAD_REQUEST, details)
    }

    /// Nobody says which tenant it is about.
    pub fn no_targeting_key() -> Self {
        let details =
            "give the tenant as the context's targetingKey, or use a token for one tenant";
        Self::new(ErrorCode::TargetingKeyMissing, StatusCode::BAD_REQUEST, details)
    }

    /// There is no such flag.
    pub fn not_found(details: &str) -> Self {
        Self::new(ErrorCode::FlagNotFound, StatusCode::NOT_FOUND, details)
    }

    /// The same about one flag.
    pub fn of(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
    }
}

impl From<Status> for Failure {
    fn from(failed: Status) -> Self {
        let told = failed.get_error_details();
        let reason = told.error_info().map_or("", |info| info.reason.as_str());
        let (code, status) = match (failed.code(), reason) {
            (_, "UNKNOWN_FEATURE") => (ErrorCode::FlagNotFound, StatusCode::NOT_FOUND),
            // A 404 would say that there is no such flag.
            (_, "UNKNOWN_TENANT") => (ErrorCode::InvalidContext, StatusCode::BAD_REQUEST),
            (Code::InvalidArgument, reason) => {
                (ErrorCode::InvalidContext, http_status(failed.code(), reason))
            }
            (code, reason) => (ErrorCode::General, http_status(code, reason)),
        };
        let retry_after = told.retry_info().and_then(|info| info.retry_delay);
        Self { retry_after, ..Self::new(code, status, failed.message()) }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut body = json!({ "errorCode": self.code.as_str(), "errorDetails": self.details });
        if let Some(key) = self.key {
            body["key"] = key.into();
        }
        let mut response = (self.status, Json(body)).into_response();
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, whole_seconds(wait));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{refusal::Refusal, status::status};

    fn told(code: Code, reason: &'static str) -> (ErrorCode, u16) {
        let failure = Failure::from(status(Refusal::new(code, reason, "why")));
        (failure.code, failure.status.as_u16())
    }

    #[test]
    fn a_missing_flag_is_404_and_a_missing_tenant_is_not() {
        assert_eq!(told(Code::NotFound, "UNKNOWN_FEATURE"), (ErrorCode::FlagNotFound, 404));
        assert_eq!(told(Code::NotFound, "UNKNOWN_TENANT"), (ErrorCode::InvalidContext, 400));
        assert_eq!(told(Code::InvalidArgument, ""), (ErrorCode::InvalidContext, 400));
        assert_eq!(told(Code::PermissionDenied, "OTHER_TENANT"), (ErrorCode::General, 403));
        assert_eq!(told(Code::Unavailable, "UNAVAILABLE"), (ErrorCode::General, 503));
    }

    #[test]
    fn who_is_to_come_back_is_told_when() {
        let refusal = Refusal {
            retry_after: Some(Duration::from_millis(1_200)),
            ..Refusal::new(Code::ResourceExhausted, "OVERLOADED", "too much")
        };
        let response = Failure::from(status(refusal)).of("editor").into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    }
}
