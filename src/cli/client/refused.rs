//! A failed call, told with the fields to mend.

use anyhow::anyhow;
use tonic::Status;
use tonic_types::StatusExt;

/// The status as an error for people: code, message, and each field's problem with its remedy.
pub(super) fn refused(status: Status) -> anyhow::Error {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let details = status.get_error_details();
    // A single problem is often the message itself.
    let is_news = |told: &str| !status.message().contains(told);
    for violation in details
        .bad_request()
        .iter()
        .flat_map(|request| &request.field_violations)
        .filter(|violation| is_news(&violation.description))
    {
        text.push_str(&format!("\n  {}: {}", violation.field, violation.description));
    }
    let failures = details.precondition_failure();
    for violation in failures.iter().flat_map(|failure| &failure.violations) {
        text.push_str(&format!("\n  {}: {}", violation.subject, violation.description));
    }
    if let Some(wait) = details.retry_info().and_then(|info| info.retry_delay) {
        text.push_str(&format!("\n  try again after {wait:?}"));
    }
    anyhow!(text)
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn every_field_to_mend_is_named() {
        let details = ErrorDetails::with_bad_request_violation("amount", "is -1; give 0 or more");
        let status = Status::with_error_details(Code::InvalidArgument, "1 field is wrong", details);
        let told = refused(status).to_string();
        assert_eq!(told, "InvalidArgument: 1 field is wrong\n  amount: is -1; give 0 or more");
    }
}
