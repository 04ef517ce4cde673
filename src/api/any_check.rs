//! `CheckBatch`, and what one check of a batch or a stream is.

use super::{
    feature::{feature_query, feature_response},
    operation::{operation_request, operation_response},
    quota::{quota_request, quota_response},
    rate::{rate_request, rate_response},
    refusal::Refusal,
};
use crate::{
    domain::{
        any_check::{AnyAnswer, AnyCheck},
        invalid::{Invalid, Problems},
    },
    enforcement::error::EngineError,
    proto::v1::{self, any_check::Check, any_check_result::Result as Answer},
};

/// Most checks of one batch.
pub const CHECKS_MAX: usize = 10_000;

/// Checks the number of checks, and each by itself when it is its turn.
pub fn check_batch(
    wire: v1::CheckBatchRequest,
) -> Result<impl ExactSizeIterator<Item = Result<AnyCheck, Problems>>, Problems> {
    let count = wire.checks.len();
    if !(1..=CHECKS_MAX).contains(&count) {
        return Err(bad_count(count).into());
    }
    Ok(wire.checks.into_iter().map(any_check))
}

/// How is told that a batch has no checks, or too many.
pub fn bad_count(count: usize) -> Invalid {
    let problem = format!("has {count} entries");
    let remedy = format!("send 1 to {CHECKS_MAX} checks at a time");
    Invalid::new("checks", problem, remedy)
}

/// Checks one check; its fields are named as in a call of its own.
pub fn any_check(wire: v1::AnyCheck) -> Result<AnyCheck, Problems> {
    match wire.check {
        Some(Check::Quota(request)) => quota_request(request).map(AnyCheck::Quota),
        Some(Check::RateLimit(request)) => rate_request(request).map(AnyCheck::Rate),
        Some(Check::Feature(request)) => feature_query(request).map(AnyCheck::Feature),
        Some(Check::Operation(request)) => operation_request(request).map(AnyCheck::Operation),
        None => {
            let remedy = "give a quota, a rate_limit, a feature or an operation";
            Err(Invalid::new("check", "is missing", remedy).into())
        }
    }
}

/// Puts an answer, or why there is none, into the wire's form.
pub fn any_result(result: Result<AnyAnswer, EngineError>) -> v1::AnyCheckResult {
    let result = match result {
        Ok(AnyAnswer::Quota(answer)) => Answer::Quota(quota_response(answer)),
        Ok(AnyAnswer::Rate(answer)) => Answer::RateLimit(rate_response(answer)),
        Ok(AnyAnswer::Feature(feature)) => Answer::Feature(feature_response(feature)),
        Ok(AnyAnswer::Operation(answer)) => Answer::Operation(operation_response(answer)),
        Err(error) => Answer::Error(Refusal::from(error).call_error()),
    };
    v1::AnyCheckResult { result: Some(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_checks_and_not_too_many() {
        let of = |count| {
            let checks = vec![v1::AnyCheck::default(); count];
            check_batch(v1::CheckBatchRequest { checks }).map(|checks| checks.len())
        };
        assert_eq!(of(0).unwrap_err().listed()[0].field, "checks");
        assert_eq!(of(CHECKS_MAX), Ok(CHECKS_MAX));
        assert!(of(CHECKS_MAX + 1).is_err());
    }

    #[test]
    fn a_check_of_nothing_is_its_own_problem() {
        let problems = any_check(v1::AnyCheck::default()).map(drop).unwrap_err();
        assert_eq!(problems.listed()[0].field, "check");
    }
}
