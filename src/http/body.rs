//! A request's body: read within bounds, and as JSON of its message.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, header},
};
use bytes::BytesMut;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status};

use super::{
    config::HttpConfig,
    entries::check_entries,
    refused::{BODY_TOO_LARGE, BODY_TOO_SLOW, unsupported},
};
use crate::{
    api::{
        refusal::{OVERLOADED_RETRY, Refusal},
        status::status,
    },
    domain::invalid::Invalid,
};

/// How long a body may take to arrive.
const BODY_WAIT_MAX: Duration = Duration::from_secs(60);
/// Longest body that needs no room in the budget, bytes, as on gRPC; connections bound those.
const LIGHT_BYTES: usize = 64 << 10;
/// The budget for larger bodies is counted in this many bytes. They take their part as they arrive:
/// who says that much will come, and sends nothing, keeps nobody out.
const BUDGET_UNIT_BYTES: usize = 64 << 10;
/// How long a body waits for room. Those that have their part wait for more of it too, so that
/// waiting has to end.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(1);
/// How much of a value that cannot be read is told back, bytes.
const TOLD_BYTES_MAX: usize = 300;

/// What bounds the bodies of all requests together.
#[derive(Clone, Debug)]
pub struct Bodies {
    body_bytes_max: usize,
    /// Memory for bodies in flight, in units of [`BUDGET_UNIT_BYTES`].
    budget: Arc<Semaphore>,
}

/// A body, and its part of the memory for bodies until it is dropped.
#[derive(Default)]
pub struct Read {
    pub bytes: BytesMut,
    room: Option<OwnedSemaphorePermit>,
}

impl Read {
    /// Bytes that there is room for.
    fn room_bytes(&self) -> usize {
        let units = self.room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        LIGHT_BYTES + units * BUDGET_UNIT_BYTES
    }
}

impl Bodies {
    /// The bounds of `config`, shared by all clones.
    pub fn new(config: &HttpConfig) -> Self {
        let units = config.bodies_bytes_max.div_ceil(BUDGET_UNIT_BYTES).max(1);
        let budget = Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS)));
        Self { body_bytes_max: config.body_bytes_max, budget }
    }

    /// Reads all of a body.
    pub async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Read, Status> {
        let told = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let told = told.and_then(|length| length.parse::<usize>().ok());
        if told.is_some_and(|bytes| bytes > self.body_bytes_max) {
            return Err(self.too_large());
        }
        tokio::time::timeout(BODY_WAIT_MAX, self.collect(body)).await.unwrap_or_else(|_| {
            let told = format!("the body was not received within {} s", BODY_WAIT_MAX.as_secs());
            Err(status(Refusal::new(Code::DeadlineExceeded, BODY_TOO_SLOW, told)))
        })
    }

    async fn collect(&self, mut body: Body) -> Result<Read, Status> {
        let mut read = Read::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Status::cancelled("the body broke off"))?;
            let Some(data) = frame.data_ref() else { continue };
            let bytes = read.bytes.len() + data.len();
            if bytes > self.body_bytes_max {
                return Err(self.too_large());
            }
            self.make_room(&mut read, bytes).await?;
            read.bytes.extend_from_slice(data);
        }
        Ok(read)
    }

    /// Takes a larger part of the budget where `bytes` need it.
    async fn make_room(&self, read: &mut Read, bytes: usize) -> Result<(), Status> {
        let units = bytes.saturating_sub(read.room_bytes()).div_ceil(BUDGET_UNIT_BYTES);
        if units == 0 {
            return Ok(());
        }
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let more = self.budget.clone().acquire_many_owned(units);
        // The semaphore is never closed.
        let Ok(Ok(more)) = tokio::time::timeout(ROOM_WAIT_MAX, more).await else {
            let told = "the memory for request bodies (http.bodies_bytes_max) is taken";
            return Err(status(Refusal {
                retry_after: Some(OVERLOADED_RETRY),
                ..Refusal::new(Code::ResourceExhausted, "OVERLOADED", told)
            }));
        };
        match &mut read.room {
            Some(room) => room.merge(more),
            None => read.room = Some(more),
        }
        Ok(())
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
    check_entries(bytes)?;
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

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};
    use tonic_types::StatusExt;

    use super::*;
    use crate::proto::v1::{CheckQuotaRequest, Mode, RecordUsageRequest};

    fn bodies(bodies_bytes_max: usize) -> Bodies {
        let config = HttpConfig::at(([127, 0, 0, 1], 0).into());
        Bodies::new(&HttpConfig { body_bytes_max: 1 << 20, bodies_bytes_max, ..config })
    }

    fn whole(bytes: usize) -> Body {
        Body::from(vec![b' '; bytes])
    }

    /// A body that begins, and never goes on.
    fn begun() -> Body {
        let first = stream::iter([Ok::<_, std::io::Error>("{")]);
        Body::from_stream(first.chain(stream::pending()))
    }

    #[tokio::test]
    async fn bodies_that_only_begin_keep_nobody_out() {
        let bodies = bodies(1 << 20);
        let idle = (0..8).map(|_| {
            let bodies = bodies.clone();
            tokio::spawn(async move { bodies.read(&HeaderMap::new(), begun()).await.map(drop) })
        });
        let idle: Vec<_> = idle.collect();
        tokio::task::yield_now().await;
        let read = bodies.read(&HeaderMap::new(), whole(1 << 20)).await.unwrap();
        assert_eq!(read.bytes.len(), 1 << 20);
        assert!(idle.iter().all(|idle| !idle.is_finished()));
        idle.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn a_large_body_without_room_is_told_to_come_again_and_small_ones_need_none() {
        let (bodies, none) = (bodies(1 << 20), HeaderMap::new());
        let held = [
            bodies.read(&none, whole(1 << 20)).await.unwrap(),
            bodies.read(&none, whole(LIGHT_BYTES * 2)).await.unwrap(),
        ];
        let refused = bodies.read(&none, whole(LIGHT_BYTES * 2)).await.map(drop).unwrap_err();
        assert_eq!(refused.get_details_error_info().unwrap().reason, "OVERLOADED");
        assert!(refused.get_details_retry_info().is_some());
        assert!(bodies.read(&none, whole(LIGHT_BYTES)).await.is_ok());
        drop(held);
        assert!(bodies.read(&none, whole(LIGHT_BYTES * 2)).await.is_ok(), "there is room again");
    }

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
