//! Why a call failed, in the words of every face: a canonical code, a reason for programs, a
//! sentence for people, and the fields to mend.

use std::time::Duration;

use tonic::Code;

use crate::{
    domain::invalid::{Invalid, Problems},
    enforcement::error::{EngineError, Unknown, UnknownName, problems_of},
    proto::v1,
};

/// How long callers are asked to wait when the journal's disk is full: about one flush.
pub const JOURNAL_FULL_RETRY: Duration = Duration::from_secs(1);
/// How long callers are asked to wait on overload.
pub const OVERLOADED_RETRY: Duration = Duration::from_millis(100);

/// A failed call.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// gRPC's code; the HTTP face maps it as gRPC's own documentation does.
    pub code: Code,
    /// Stable and for programs (`UNKNOWN_METER`).
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// The fields that cannot be accepted, at most
    /// [`crate::domain::invalid::PROBLEMS_LISTED_MAX`].
    pub violations: Vec<Invalid>,
    /// What was not found.
    pub resource: Option<Resource>,
    /// How long to wait before a retry, where waiting helps.
    pub retry_after: Option<Duration>,
}

/// Something that was not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `tenant`, `meter`, `rate_limit`, `feature`, `operation` or `reservation`.
    pub kind: &'static str,
    pub name: String,
}

impl Refusal {
    /// A refusal without fields, resource or advice on retries.
    pub fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            violations: vec![],
            resource: None,
            retry_after: None,
        }
    }

    fn of_problems(code: Code, reason: &'static str, problems: &Problems) -> Self {
        Self {
            violations: problems.listed().to_vec(),
            ..Self::new(code, reason, problems.to_string())
        }
    }

    fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// The same refusal for one part of a batch or stream.
    pub fn call_error(self) -> v1::CallError {
        let violation = |invalid: Invalid| v1::FieldViolation {
            description: format!("{}; {}", invalid.problem, invalid.remedy),
            field: invalid.field,
        };
        v1::CallError {
            code: self.code as i32,
            reason: self.reason.to_owned(),
            message: self.message,
            field_violations: self.violations.into_iter().map(violation).collect(),
        }
    }
}

impl From<Problems> for Refusal {
    fn from(problems: Problems) -> Self {
        Self::of_problems(Code::InvalidArgument, "INVALID_ARGUMENT", &problems)
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        Problems::from(invalid).into()
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::InvalidRequest(problems) => problems.into(),
            EngineError::Unknown(unknown) => not_found(&unknown),
            EngineError::IdempotencyConflict(problems) => {
                Self::of_problems(Code::AlreadyExists, "IDEMPOTENCY_CONFLICT", &problems)
            }
            EngineError::NotPossible(invalid) => {
                Self::of_problems(Code::FailedPrecondition, "NOT_POSSIBLE", &invalid.into())
            }
            EngineError::JournalFull { .. } => {
                Self::new(Code::ResourceExhausted, "JOURNAL_FULL", message)
                    .retry_after(JOURNAL_FULL_RETRY)
            }
            EngineError::Overloaded { .. } => {
                Self::new(Code::ResourceExhausted, "OVERLOADED", message)
                    .retry_after(OVERLOADED_RETRY)
            }
            EngineError::JournalStopped(_) => {
                Self::new(Code::Unavailable, "JOURNAL_STOPPED", message)
            }
            EngineError::Unavailable(_) => Self::new(Code::Unavailable, "UNAVAILABLE", message),
            EngineError::ShuttingDown => Self::new(Code::Unavailable, "SHUTTING_DOWN", message),
        }
    }
}

/// The first unknown thing gives the reason and the resource; all of them are listed.
fn not_found(unknown: &[Unknown]) -> Refusal {
    let (reason, resource) = match unknown.first().map(|first| &first.name) {
        Some(UnknownName::Tenant(tenant)) => {
            ("UNKNOWN_TENANT", Some(Resource { kind: "tenant", name: tenant.to_string() }))
        }
        Some(UnknownName::Meter { meter, .. }) => {
            ("UNKNOWN_METER", Some(Resource { kind: "meter", name: meter.to_string() }))
        }
        Some(UnknownName::Rate { rate, .. }) => {
            ("UNKNOWN_RATE_LIMIT", Some(Resource { kind: "rate_limit", name: rate.to_string() }))
        }
        Some(UnknownName::Feature { feature, .. }) => {
            ("UNKNOWN_FEATURE", Some(Resource { kind: "feature", name: feature.to_string() }))
        }
        Some(UnknownName::Operation { operation, .. }) => {
            let name = operation.to_string();
            ("UNKNOWN_OPERATION", Some(Resource { kind: "operation", name }))
        }
        Some(UnknownName::Reservation(id)) => {
            ("UNKNOWN_RESERVATION", Some(Resource { kind: "reservation", name: id.to_string() }))
        }
        None => ("NOT_FOUND", None),
    };
    let refusal = Refusal::of_problems(Code::NotFound, reason, &problems_of(unknown));
    Refusal { resource, ..refusal }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{MeterName, TenantId};

    fn unknown_meter(field: &str) -> Unknown {
        Unknown {
            field: field.into(),
            name: UnknownName::Meter {
                tenant: TenantId::new("acme").unwrap(),
                meter: MeterName::new("tokens").unwrap(),
                near: None,
            },
        }
    }

    #[test]
    fn an_unknown_meter_is_not_found_and_named() {
        let refusal = Refusal::from(EngineError::from(unknown_meter("meter")));
        assert_eq!((refusal.code, refusal.reason), (Code::NotFound, "UNKNOWN_METER"));
        assert_eq!(refusal.resource, Some(Resource { kind: "meter", name: "tokens".into() }));
        assert!(refusal.message.contains("no meter tokens"), "{}", refusal.message);
    }

    #[test]
    fn a_full_journal_and_overload_ask_for_a_retry_and_a_stopped_journal_does_not() {
        let full = Refusal::from(EngineError::JournalFull { budget_bytes: 1_000 });
        assert_eq!((full.code, full.reason), (Code::ResourceExhausted, "JOURNAL_FULL"));
        assert!(full.message.contains("1000 bytes"), "{}", full.message);
        assert_eq!(full.retry_after, Some(JOURNAL_FULL_RETRY));
        let overloaded = EngineError::Overloaded { what: "checks that wait", bound: 10 };
        assert_eq!(Refusal::from(overloaded).retry_after, Some(OVERLOADED_RETRY));
        let stopped = Refusal::from(EngineError::JournalStopped("fsync: EIO".into()));
        assert_eq!((stopped.code, stopped.retry_after), (Code::Unavailable, None));
    }

    #[test]
    fn part_of_a_batch_is_told_what_a_call_would_be_told() {
        let invalid = Invalid::new("events[0].amount", "is negative (-1)", "give 0 or more");
        let error = Refusal::from(invalid).call_error();
        assert_eq!((error.code, error.reason.as_str()), (3, "INVALID_ARGUMENT"));
        assert_eq!(error.field_violations[0].field, "events[0].amount");
        assert_eq!(error.field_violations[0].description, "is negative (-1); give 0 or more");
    }
}
