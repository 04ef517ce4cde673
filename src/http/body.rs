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
    refused::{BODY_TOO_LARGE, BODY_TOO_SLOW, CONTENT_ENCODING, CONTENT_TYPE, unsupported},
    told::cut,
    unreadable::unreadable,
};
use crate::{
    api::{
        refusal::{OVERLOADED_RETRY, Refusal},
        status::status,
    },
    domain::invalid::Invalid,
};

/// Longest body that needs no room in the budget, bytes, as on gRPC; connections bound those.
const LIGHT_BYTES: usize = 64 << 10;
/// The budget for larger bodies is counted in this many bytes. They take their part as they arrive:
/// who says that much will come, and sends nothing, keeps nobody out.
const BUDGET_UNIT_BYTES: usize = 64 << 10;
/// How long a body waits for room. Those that have their part wait for more of it too, so that
/// waiting has to end.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(1);

/// What bounds the bodies of all requests together.
#[derive(Clone, Debug)]
pub struct Bodies {
    body_bytes_max: usize,
    /// How long a body may take to arrive.
    wait_max: Duration,
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
        let wait_max = Duration::from_secs(config.body_wait_s);
        Self { body_bytes_max: config.body_bytes_max, wait_max, budget }
    }

    /// Reads all of a body, which may not be packed.
    pub async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Read, Status> {
        require_plain(headers)?;
        let told = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let told = told.and_then(|length| length.parse::<usize>().ok());
        if told.is_some_and(|bytes| bytes > self.body_bytes_max) {
            return Err(self.too_large());
        }
        tokio::time::timeout(self.wait_max, self.collect(body)).await.unwrap_or_else(|_| {
            let told = format!("the body was not received within {} s", self.wait_max.as_secs());
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
    let invalid = Invalid::new("content-type", problem, "send JSON as application/json");
    Err(unsupported(CONTENT_TYPE, invalid))
}

/// Bodies are bounded by what arrives; one that unpacks to more would not be.
fn require_plain(headers: &HeaderMap) -> Result<(), Status> {
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    for encoding in encodings.map(|value| value.to_str().unwrap_or("?")) {
        if !encoding.trim().eq_ignore_ascii_case("identity") {
            let problem = format!("is {}", cut(encoding));
            let remedy = "send the body as it is, without content-encoding";
            return Err(unsupported(
                CONTENT_ENCODING,
                Invalid::new("content-encoding", problem, remedy),
            ));
        }
    }
    Ok(())
}

/// Reads JSON; the error names the field as the proto does, however the caller wrote it.
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
    fn what_cannot_be_read_is_named_by_its_field_in_plain_words() {
        for (text, field, problem) in [
            (r#"{"amount":"ten"}"#, "amount", r#"is "ten", not a whole number of 64 bits"#),
            (r#"{"amount":1.5}"#, "amount", "is 1.5, not a whole number of 64 bits"),
            (r#"{"reservationTtl":"5"}"#, "reservation_ttl", r#"is "5", not a length of time"#),
            (r#"{"tenent":"a"}"#, "tenent", "is no field of this message"),
            (r#"{"tenant":1}"#, "tenant", "is a number (1)"),
            (r#"{"properties":["a"]}"#, "properties", "is a list"),
            (r#"{"mode":"CONSUME"}"#, "mode", r#"is "CONSUME", which it cannot be"#),
            (r#"{"mode":9}"#, "mode", "is a number (9)"),
            (r#"{"tenant":"a","tenant":"b"}"#, "tenant", "is given twice"),
            (r#"[]"#, "body", "is a list"),
        ] {
            let told = told::<CheckQuotaRequest>(text);
            assert_eq!(told, (field.to_owned(), problem.to_owned()), "{text}");
        }
        let (field, problem) =
            told::<RecordUsageRequest>(r#"{"events":[{},{"time":"yesterday"}]}"#);
        assert_eq!(field, "events[1].time");
        assert_eq!(problem, r#"is "yesterday", not an RFC 3339 time"#);
        let (field, _) = told::<RecordUsageRequest>(r#"{"events":[{"amonut":1}]}"#);
        assert_eq!(field, "events[0].amonut");
        assert_eq!(told::<CheckQuotaRequest>("{\"tenant\":").0, "tenant");
        let (field, problem) = told::<CheckQuotaRequest>("{} {}");
        assert_eq!(field, "body");
        assert!(problem.starts_with("is no JSON"), "{problem}");
    }

    #[test]
    fn the_remedy_says_what_to_give() {
        let remedy = |text: &str| parse::<CheckQuotaRequest>(text.as_bytes()).unwrap_err().remedy;
        assert_eq!(remedy(r#"{"amount":"ten"}"#), "give a whole number, such as 10");
        assert_eq!(remedy(r#"{"tenent":"a"}"#), "give tenant");
        assert_eq!(remedy(r#"{"tenant":1}"#), "give text");
        assert!(remedy(r#"{"xyz":1}"#).starts_with("give one of tenant, meter, subject, amount"));
        assert!(!remedy(r#"{"xyz":1}"#).contains("idempotencyKey"), "a field has one name");
        assert!(remedy(r#"{"mode":"x"}"#).starts_with("give one of MODE_UNSPECIFIED, MODE_CHECK"));
        assert!(remedy(r#"{"mode":9}"#).starts_with("give one of MODE_UNSPECIFIED, MODE_CHECK"));
        assert_eq!(remedy(r#"[]"#), "give an object");
    }

    #[test]
    fn null_is_a_field_that_is_not_given() {
        let text = r#"{"tenant":"a","meter":null,"amount":null,"mode":null,"properties":null,
            "durability":null,"reservationTtl":null}"#;
        let read: CheckQuotaRequest = parse(text.as_bytes()).unwrap();
        assert_eq!(read, CheckQuotaRequest { tenant: "a".into(), ..Default::default() });
    }

    #[tokio::test]
    async fn a_packed_body_is_refused_by_its_encoding() {
        let bodies = bodies(1 << 20);
        let packed = HeaderMap::from_iter([(header::CONTENT_ENCODING, "gzip".parse().unwrap())]);
        let refused = bodies.read(&packed, whole(10)).await.map(drop).unwrap_err();
        assert_eq!(refused.get_details_error_info().unwrap().reason, CONTENT_ENCODING);
        assert!(refused.message().contains("gzip"), "{refused}");
        let plain = HeaderMap::from_iter([(header::CONTENT_ENCODING, "identity".parse().unwrap())]);
        assert!(bodies.read(&plain, whole(10)).await.is_ok());
    }
}
