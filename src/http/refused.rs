//! A failed call as an HTTP answer: `google.rpc.Status` as JSON, under the HTTP status that belongs
//! to its code.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    api::{refusal::Refusal, status::status},
    domain::invalid::Invalid,
};

/// What the type URLs of details begin with.
const TYPE: &str = "type.googleapis.com/google.rpc.";

/// A failed call, on its way out.
#[derive(Debug)]
pub struct Refused(pub Status);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let details = self.0.get_error_details();
        let body = json!({
            "code": self.0.code() as i32,
            "message": self.0.message(),
            "details": told(&details),
        });
        let reason = details.error_info().map_or("", |info| info.reason.as_str());
        let status = http_status(self.0.code(), reason);
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(wait) = details.retry_info().and_then(|info| info.retry_delay) {
            headers.insert(header::RETRY_AFTER, whole_seconds(wait));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A body of a kind that the path does not take: its type, or how it is packed.
pub fn unsupported(reason: &'static str, invalid: Invalid) -> Status {
    status(Refusal { reason, ..invalid.into() })
}

/// `Retry-After` counts whole seconds; early is too early.
pub fn whole_seconds(wait: Duration) -> HeaderValue {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    HeaderValue::from(seconds)
}

/// The reason of a body that is longer than it may be.
pub const BODY_TOO_LARGE: &str = "BODY_TOO_LARGE";
/// The reason of a body that took too long to arrive.
pub const BODY_TOO_SLOW: &str = "BODY_TOO_SLOW";
/// The reason of a body of a kind that the path does not take.
pub const CONTENT_TYPE: &str = "CONTENT_TYPE";
/// The reason of a body that is packed.
pub const CONTENT_ENCODING: &str = "CONTENT_ENCODING";

/// The mapping that `google/rpc/code.proto` gives, except where HTTP has a word of its own.
pub fn http_status(code: Code, reason: &str) -> StatusCode {
    match reason {
        BODY_TOO_LARGE => return StatusCode::PAYLOAD_TOO_LARGE,
        BODY_TOO_SLOW => return StatusCode::REQUEST_TIMEOUT,
        CONTENT_TYPE | CONTENT_ENCODING => return StatusCode::UNSUPPORTED_MEDIA_TYPE,
        _ => {}
    }
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        // The caller has gone: nobody reads it. nginx' number for that is not in http's list.
        Code::Cancelled => StatusCode::REQUEST_TIMEOUT,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The details that this product sends, in proto's JSON.
fn told(details: &ErrorDetails) -> Vec<Value> {
    let mut told = Vec::new();
    if let Some(info) = details.error_info() {
        told.push(json!({
            "@type": format!("{TYPE}ErrorInfo"),
            "reason": info.reason,
            "domain": info.domain,
        }));
    }
    if let Some(wait) = details.retry_info().and_then(|info| info.retry_delay) {
        let wait = crate::proto::time::Duration::from(wait);
        told.push(json!({ "@type": format!("{TYPE}RetryInfo"), "retryDelay": wait }));
    }
    if let Some(bad) = details.bad_request() {
        let violations = bad.field_violations.iter().map(
            |violation| json!({ "field": violation.field, "description": violation.description }),
        );
        told.push(json!({
            "@type": format!("{TYPE}BadRequest"),
            "fieldViolations": violations.collect::<Vec<_>>(),
        }));
    }
    if let Some(failure) = details.precondition_failure() {
        let violations = failure.violations.iter().map(|violation| {
            json!({
                "type": violation.r#type,
                "subject": violation.subject,
                "description": violation.description,
            })
        });
        told.push(json!({
            "@type": format!("{TYPE}PreconditionFailure"),
            "violations": violations.collect::<Vec<_>>(),
        }));
    }
    if let Some(resource) = details.resource_info() {
        told.push(json!({
            "@type": format!("{TYPE}ResourceInfo"),
            "resourceType": resource.resource_type,
            "resourceName": resource.resource_name,
            "description": resource.description,
        }));
    }
    told
}
