//! A failed call, told with the fields to mend.

use std::error::Error;

use anyhow::anyhow;
use tonic::Status;
use tonic_types::StatusExt;

use super::address::SidecarAddress;

/// The status of a call to the sidecar at `address` as an error for people.
pub fn refused(status: &Status, address: &SidecarAddress) -> anyhow::Error {
    // A status that a server sent has no source.
    match last_cause(status) {
        None => anyhow!(told(status)),
        Some(cause) => anyhow!(
            "no answer from {address}: {cause}; is it a sidecar's gRPC address (port 7421 unless \
             set otherwise)? This command speaks gRPC; the HTTP port (7422) takes the same calls as \
             JSON, such as from curl"
        ),
    }
}

fn last_cause(status: &Status) -> Option<String> {
    let mut cause = status.source()?;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause.to_string())
}

/// The status in words: code, message, and each field's problem with its remedy.
pub fn told(status: &Status) -> String {
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
    text
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
        let address = "localhost:7421".parse().unwrap();
        let told = refused(&status, &address).to_string();
        assert_eq!(told, "InvalidArgument: 1 field is wrong\n  amount: is -1; give 0 or more");
    }

    #[test]
    fn a_port_that_speaks_something_else_is_taken_for_what_it_is() {
        let mut status = Status::new(Code::Unknown, "h2 protocol error: http2 error");
        status.set_source(std::sync::Arc::new(std::io::Error::other("frame with invalid size")));
        let told = refused(&status, &"localhost:7422".parse().unwrap()).to_string();
        assert!(
            told.starts_with("no answer from localhost:7422: frame with invalid size"),
            "{told}"
        );
    }
}
