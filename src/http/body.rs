//! A request's body: read within bounds, and as JSON of its message.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, header},
};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status};

use super::{
    config::HttpConfig,
    refused::{BODY_TOO_LARGE, BODY_TOO_SLOW, unsupported},
};
use crate::{
    api::{refusal::Refusal, status::status},
    domain::invalid::Invalid,
};

/// How long a body may take to arrive.
const BODY_WAIT_MAX: Duration = Duration::from_secs(60);
/// The budget for bodies is counted in this many bytes, since permits are counted in 32 bits.
const BUDGET_UNIT_BYTES: usize = 1 << 10;
/// How much of a value that cannot be read is told back, bytes.
const TOLD_BYTES_MAX: usize = 300;

/// What bounds the bodies of all requests together.
#[derive(Clone, Debug)]
pub struct Bodies {
    body_bytes_max: usize,
    /// Memory for bodies in flight, in units of [`BUDGET_UNIT_BYTES`].
    budget: Arc<Semaphore>,
    budget_units: u32,
}

/// A body, and its part of the memory for bodies until it is dropped.
pub struct Read {
    pub bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    /// The bounds of `config`, shared by all clones.
    pub fn new(config: &HttpConfig) -> Self {
        let units = config.bodies_bytes_max.div_ceil(BUDGET_UNIT_BYTES).max(1);
        let units = u32::try_from(units.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self {
            body_bytes_max: config.body_bytes_max,
            budget: Arc::new(Semaphore::new(units as usize)),
            budget_units: units,
        }
    }

    /// Reads all of a body.
    pub async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Read, Status> {
        let told = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        // Nobody says how long a chunked body is: it counts as the longest.
        let bytes = told.and_then(|length| length.parse().ok()).unwrap_or(self.body_bytes_max);
        if bytes > self.body_bytes_max {
            return Err(self.too_large());
        }
        let units = u32::try_from(bytes.div_ceil(BUDGET_UNIT_BYTES)).unwrap_or(u32::MAX);
        let reading = async {
            // The semaphore is never closed.
            let room =
                self.budget.clone().acquire_many_owned(units.min(self.budget_units)).await.ok();
            let bytes = to_bytes(body, self.body_bytes_max).await.map_err(|error| {
                if is_length_limit(&error) {
                    self.too_large()
                } else {
                    Status::cancelled("the body broke off")
                }
            })?;
            Ok(Read { bytes, _room: room })
        };
        tokio::time::timeout(BODY_WAIT_MAX, reading).await.unwrap_or_else(|_| {
            let told = format!("the body was not received within {} s", BODY_WAIT_MAX.as_secs());
            Err(status(Refusal::new(Code::DeadlineExceeded, BODY_TOO_SLOW, told)))
        })
    }

    /// Reads the JSON of a message.
    pub async fn message<M: DeserializeOwned>(&self, request: Request) -> Result<M, Status> {
        let (head, body) = request.into_parts();
        require_json(&head.headers)?;
        let read = self.read(&head.headers, body).await?;
        parse(&read.bytes).map_err(|invalid| status(invalid.into()))
    }

    fn too_large(&self) -> Status {
        status(Refusal::new(
            Code::OutOfRange,
            BODY_TOO_LARGE,
            format!(
                "the body is larger than the {} bytes of http.body_bytes_max; send smaller batches",
                self.body_bytes_max
            ),
        ))
    }
}

/// A page in a browser can send every other type to a port on loopback without asking first.
pub fn require_json(headers: &HeaderMap) -> Result<(), Status> {
    let told = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    let essence = told.map(|told| told.split(';').next().unwrap_or_default().trim());
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    let problem = match told {
        Some(told) => format!("is {}", cut(told)),
        None => "is missing".to_owned(),
    };
    Err(unsupported(Invalid::new("content-type", problem, "send JSON as application/json")))
}

/// Reads JSON; the error names the field as the caller wrote it.
pub fn parse<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, Invalid> {
    // No body is the message with nothing in it, whose required fields are then told.
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let message = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        unreadable(&path, error.inner())
    })?;
    reader.end().map_err(|error| unreadable(".", &error))?;
    Ok(message)
}

fn unreadable(path: &str, error: &serde_json::Error) -> Invalid {
    let told = cut(&error.to_string());
    // The whole message is called `.`, and a field that it does not have `?`.
    let field = match path.trim_end_matches('?').trim_end_matches('.') {
        "" => "body",
        path => path,
    };
    let remedy = if error.is_data() {
        "give what /openapi.json says of this message"
    } else {
        "send one JSON object"
    };
    Invalid::new(field, format!("cannot be read ({told})"), remedy)
}

/// What of a caller's text is told back.
pub fn cut(text: &str) -> String {
    let end = (0..=text.len().min(TOLD_BYTES_MAX)).rev().find(|at| text.is_char_boundary(*at));
    text[..end.unwrap_or(0)].to_owned()
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{CheckQuotaRequest, Mode, RecordUsageRequest};

    fn told<M: DeserializeOwned + std::fmt::Debug>(text: &str) -> (String, String) {
        let invalid = parse::<M>(text.as_bytes()).unwrap_err();
        (invalid.field, invalid.problem)
    }

    #[test]
    fn numbers_may_be_written_as_numbers_and_as_text_and_names_in_both_manners() {
        for text in [
            r#"{"tenant":"a","amount":"5","mode":"MODE_CONSUME","idempotencyKey":"k"}"#,
            r#"{"tenant":"a","amount":5,"mode":2,"idempotency_key":"k"}"#,
        ] {
            let read: CheckQuotaRequest = parse(text.as_bytes()).unwrap();
            assert_eq!((read.amount, read.mode()), (Some(5), Mode::Consume));
            assert_eq!(read.idempotency_key, "k");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_by_its_field() {
        let (field, problem) = told::<CheckQuotaRequest>(r#"{"amount":"many"}"#);
        assert_eq!(field, "amount", "{problem}");
        let (field, problem) =
            told::<RecordUsageRequest>(r#"{"events":[{},{"time":"yesterday"}]}"#);
        assert_eq!(field, "events[1].time", "{problem}");
        let (_, problem) = told::<CheckQuotaRequest>(r#"{"tenent":"a"}"#);
        assert!(problem.contains("unknown field `tenent`"), "{problem}");
        assert_eq!(told::<CheckQuotaRequest>("{\"tenant\":").0, "tenant");
        assert_eq!(told::<CheckQuotaRequest>("{} {}").0, "body");
    }
}
