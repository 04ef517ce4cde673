//! A refusal as a gRPC status with its details.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{api::refusal::Refusal, domain::invalid::Invalid};

/// Details travel in a trailer, whose size many clients bound to 8 KB for all trailers together,
/// base64 included.
pub const VIOLATION_BYTES_MAX: usize = 3 << 10;
/// Longest message, bytes; it travels in a trailer too, and percent-encoded.
pub const MESSAGE_BYTES_MAX: usize = 512;
/// The `domain` of every `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "tollgate";

/// How tonic's failures begin that are about the bytes of a message.
const MALFORMED: [&str; 4] = [
    "failed to decode Protobuf message",
    "Missing request message",
    "protocol error: received message with",
    "Unexpected EOF decoding stream",
];

/// Whether a failure is about the bytes of a message: the sender's fault, where tonic says INTERNAL.
pub fn is_malformed(bare: &Status) -> bool {
    bare.code() == Code::Internal && MALFORMED.iter().any(|told| bare.message().starts_with(told))
}

/// A failure to read a message, as it is told: INVALID_ARGUMENT where the message is malformed.
pub fn unread(bare: Status) -> Status {
    match is_malformed(&bare) {
        true => status(Refusal::new(Code::InvalidArgument, "INVALID_ARGUMENT", bare.message())),
        false => bare,
    }
}

/// Puts a refusal into gRPC's words.
pub fn status(refusal: Refusal) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(refusal.reason, ERROR_DOMAIN, HashMap::new());
    if let Some(wait) = refusal.retry_after {
        details.set_retry_info(Some(wait));
    }
    if let Some(resource) = &refusal.resource {
        details.set_resource_info(resource.kind, &resource.name, "", &refusal.message);
    }
    for violation in fitting(&refusal.violations) {
        let told = cut(format!("{}; {}", violation.problem, violation.remedy));
        if refusal.code == Code::FailedPrecondition {
            details.add_precondition_failure_violation(refusal.reason, &violation.field, told);
        } else {
            details.add_bad_request_violation(cut(violation.field.clone()), told);
        }
    }
    Status::with_error_details(refusal.code, cut(refusal.message), details)
}

/// The first violations that fit into [`VIOLATION_BYTES_MAX`], and always the first.
fn fitting(violations: &[Invalid]) -> impl Iterator<Item = &Invalid> {
    let mut bytes = 0;
    violations
        .iter()
        .enumerate()
        .take_while(move |(number, violation)| {
            bytes += violation.field.len() + violation.problem.len() + violation.remedy.len() + 16;
            *number == 0 || bytes <= VIOLATION_BYTES_MAX
        })
        .map(|(_, violation)| violation)
}

fn cut(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES_MAX {
        let end = (0..=MESSAGE_BYTES_MAX - 3).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        status(refusal)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{domain::invalid::Problems, enforcement::error::EngineError};

    #[test]
    fn fields_that_cannot_be_accepted_are_in_the_bad_request() {
        let invalid = Invalid::new("amount", "is negative (-1)", "give 0 or more");
        let status = status(Refusal::from(invalid));
        assert_eq!(status.code(), Code::InvalidArgument);
        let bad_request = status.get_details_bad_request().unwrap();
        assert_eq!(bad_request.field_violations[0].field, "amount");
        assert_eq!(bad_request.field_violations[0].description, "is negative (-1); give 0 or more");
        assert_eq!(status.get_details_error_info().unwrap().reason, "INVALID_ARGUMENT");
    }

    #[test]
    fn a_hundred_violations_fit_into_what_clients_take_as_trailers() {
        let mut problems = Problems::default();
        for number in 0..100_000 {
            let field = format!("events[{number}].idempotency_key");
            problems.push(Invalid::new(field, "contains 'é'", "use visible ASCII characters"));
        }
        let status = status(Refusal::from(problems));
        assert!(status.message().contains("100000"), "{}", status.message());
        let listed = status.get_details_bad_request().unwrap().field_violations.len();
        assert!(listed >= 20, "{listed}");
        assert!(status.details().len() < 4 << 10, "{}", status.details().len());
    }

    #[test]
    fn one_huge_violation_is_told_and_cut() {
        let invalid = Invalid::new("f".repeat(10_000), "é".repeat(10_000), "mend it");
        let status = status(Refusal::from(invalid));
        assert_eq!(status.get_details_bad_request().unwrap().field_violations.len(), 1);
        assert!(status.details().len() < 4 << 10, "{}", status.details().len());
        assert!(status.message().len() <= MESSAGE_BYTES_MAX, "{}", status.message().len());
    }

    #[test]
    fn a_full_journal_says_when_to_come_back() {
        let status = status(EngineError::JournalFull { budget_bytes: 5 }.into());
        assert_eq!(status.code(), Code::ResourceExhausted);
        let wait = status.get_details_retry_info().unwrap().retry_delay;
        assert_eq!(wait, Some(Duration::from_secs(1)));
    }
}
