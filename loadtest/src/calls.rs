//! What is called: request bodies made ahead, and what counts as a good answer.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use clap::ValueEnum;
use prost::Message;
use serde::Serialize;
use tollgate::proto::v1;

use crate::throttlecrab::{self, ThrottleRequest, ThrottleResponse};

/// Bytes before each gRPC message: a flag, and the length.
pub const PREFIX_BYTES: usize = 5;

/// Which call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// CheckQuota that only looks.
    Check,
    /// CheckQuota that takes and records.
    Consume,
    /// RecordUsage.
    Record,
    /// CheckRateLimit that takes.
    Rate,
    /// CheckFeature.
    Feature,
    /// Check: an operation of a feature, a rate and two quotas, which takes and records.
    Operation,
    /// CheckBatch of CheckQuota that only look.
    Batch,
    /// CheckStream of CheckQuota that only look: one stream on each connection.
    Stream,
    /// throttlecrab's Throttle, which takes as CheckRateLimit does.
    Throttle,
}

/// What load tests ask of `catalog.yaml` besides a meter.
pub const RATE: &str = "api";
pub const FEATURE: &str = "chat";
const OPERATION: &str = "chat_query";

/// What an acknowledgement survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    Default,
    Memory,
    Written,
    Sync,
}

impl From<Durability> for v1::Durability {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Default => Self::Unspecified,
            Durability::Memory => Self::Memory,
            Durability::Written => Self::Written,
            Durability::Sync => Self::Sync,
        }
    }
}

/// What the requests say.
#[derive(Clone, Debug)]
pub struct Content {
    pub call: Call,
    pub meter: String,
    pub tenants: Vec<String>,
    /// Which of them the requests go to, one after the other, and then again from the first.
    pub order: Vec<usize>,
    pub amount: i64,
    /// Events in one RecordUsage, checks in one CheckBatch.
    pub batch: usize,
    pub durability: Durability,
    /// Every event gets an idempotency key of its own.
    pub keys: bool,
}

impl Content {
    /// Which tenant it is the turn of.
    fn tenant(&self, number: u64, place: usize) -> usize {
        self.order[(number as usize).wrapping_add(place) % self.order.len()]
    }
}

/// Makes the requests of a run.
pub struct Requests {
    content: Content,
    /// One per tenant, when nothing changes from one request to the next. A stream's are without
    /// prefix and id.
    ready: Vec<Bytes>,
    /// Sets the keys of this run apart from those of others.
    run: u64,
    next: AtomicU64,
}

impl Requests {
    /// Requests of `content`, with keys that start with `run`.
    pub fn new(content: Content, run: u64) -> Self {
        let mut requests = Self { content, ready: vec![], run, next: AtomicU64::new(0) };
        if !requests.content.keys {
            requests.ready = requests.by_tenant();
        }
        requests
    }

    /// Path of the call.
    pub fn path(&self) -> &'static str {
        match self.content.call {
            Call::Check | Call::Consume => "/tollgate.v1.TollgateService/CheckQuota",
            Call::Record => "/tollgate.v1.TollgateService/RecordUsage",
            Call::Rate => "/tollgate.v1.TollgateService/CheckRateLimit",
            Call::Feature => "/tollgate.v1.TollgateService/CheckFeature",
            Call::Operation => "/tollgate.v1.TollgateService/Check",
            Call::Batch => "/tollgate.v1.TollgateService/CheckBatch",
            Call::Stream => "/tollgate.v1.TollgateService/CheckStream",
            Call::Throttle => throttlecrab::PATH,
        }
    }

    /// Events or checks in one request.
    pub fn events_per_request(&self) -> u64 {
        match self.content.call {
            Call::Record | Call::Batch => self.content.batch as u64,
            _ => 1,
        }
    }

    /// The next request's body, with its gRPC prefix.
    pub fn next(&self) -> Bytes {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        match self.ready.get(self.content.tenant(number, 0)) {
            Some(ready) => ready.clone(),
            None => self.encode(number),
        }
    }

    /// One message of a stream under the caller's number `id`, with its gRPC prefix.
    pub fn next_in_stream(&self, id: u64) -> Bytes {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let head = v1::CheckStreamRequest { id, check: None };
        // Messages that are written one behind the other are one message of all their fields.
        let check = &self.ready[self.content.tenant(number, 0)];
        let length = head.encoded_len() + check.len();
        let mut body = prefixed(length);
        // A BytesMut grows as needed, so that encoding into one cannot fail.
        let _ = head.encode(&mut body);
        body.extend_from_slice(check);
        body.freeze()
    }

    /// Whether calls are messages of one stream.
    pub fn are_streamed(&self) -> bool {
        self.content.call == Call::Stream
    }

    /// One request for each tenant; who never has a turn is never asked for.
    fn by_tenant(&self) -> Vec<Bytes> {
        let mut ready = vec![Bytes::new(); self.content.tenants.len()];
        for (turn, tenant) in self.content.order.iter().enumerate() {
            if ready[*tenant].is_empty() {
                ready[*tenant] = self.encode(turn as u64);
            }
        }
        ready
    }

    /// Reads an answer: whether it allows (or accepts) what was asked.
    pub fn is_allowed(&self, body: &[u8]) -> Result<bool, prost::DecodeError> {
        let message = body.get(PREFIX_BYTES..).unwrap_or_default();
        Ok(match self.content.call {
            Call::Check | Call::Consume => v1::CheckQuotaResponse::decode(message)?.allowed,
            Call::Record => {
                let answer = v1::RecordUsageResponse::decode(message)?;
                answer.accepted + answer.duplicates == self.content.batch as i64
            }
            Call::Rate => v1::CheckRateLimitResponse::decode(message)?.allowed,
            Call::Feature => {
                v1::CheckFeatureResponse::decode(message)?.feature.is_some_and(|it| it.enabled)
            }
            Call::Operation => v1::CheckResponse::decode(message)?.allowed,
            Call::Batch => {
                let answer = v1::CheckBatchResponse::decode(message)?;
                answer.results.len() == self.content.batch
                    && answer.results.iter().all(is_quota_allowed)
            }
            Call::Stream => self.answered_in_stream(message)?.1,
            Call::Throttle => ThrottleResponse::decode(message)?.allowed,
        })
    }

    /// Reads an answer of a stream, without its prefix: to which number, and whether it allows.
    pub fn answered_in_stream(&self, message: &[u8]) -> Result<(u64, bool), prost::DecodeError> {
        let answer = v1::CheckStreamResponse::decode(message)?;
        Ok((answer.id, answer.result.as_ref().is_some_and(is_quota_allowed)))
    }

    fn encode(&self, number: u64) -> Bytes {
        let content = &self.content;
        let tenant = &content.tenants[content.tenant(number, 0)];
        let durability = v1::Durability::from(content.durability).into();
        match content.call {
            Call::Check => framed(&self.quota(tenant, v1::Mode::Check, String::new())),
            Call::Consume => framed(&v1::CheckQuotaRequest {
                durability,
                ..self.quota(tenant, v1::Mode::Consume, self.key(number, 0))
            }),
            Call::Record => framed(&v1::RecordUsageRequest {
                events: (0..content.batch).map(|place| self.event(tenant, number, place)).collect(),
                durability,
            }),
            Call::Rate => framed(&v1::CheckRateLimitRequest {
                tenant: tenant.clone(),
                rate_limit: RATE.to_owned(),
                mode: v1::Mode::Consume.into(),
                ..Default::default()
            }),
            Call::Feature => framed(&v1::CheckFeatureRequest {
                tenant: tenant.clone(),
                feature: FEATURE.to_owned(),
                ..Default::default()
            }),
            Call::Operation => framed(&v1::CheckRequest {
                tenant: tenant.clone(),
                operation: OPERATION.to_owned(),
                mode: v1::Mode::Consume.into(),
                idempotency_key: self.key(number, 0),
                durability,
                ..Default::default()
            }),
            Call::Batch => framed(&v1::CheckBatchRequest {
                checks: (0..content.batch).map(|place| self.any_check(number, place)).collect(),
            }),
            Call::Stream => {
                let check = Some(self.any_check(number, 0));
                v1::CheckStreamRequest { id: 0, check }.encode_to_vec().into()
            }
            Call::Throttle => framed(&ThrottleRequest::of(tenant)),
        }
    }

    fn quota(&self, tenant: &str, mode: v1::Mode, key: String) -> v1::CheckQuotaRequest {
        v1::CheckQuotaRequest {
            tenant: tenant.to_owned(),
            meter: self.content.meter.clone(),
            amount: Some(self.content.amount),
            mode: mode.into(),
            idempotency_key: key,
            ..Default::default()
        }
    }

    /// The checks of a batch go round the tenants too.
    fn any_check(&self, number: u64, place: usize) -> v1::AnyCheck {
        let tenant = &self.content.tenants[self.content.tenant(number, place)];
        let quota = self.quota(tenant, v1::Mode::Check, String::new());
        v1::AnyCheck { check: Some(v1::any_check::Check::Quota(quota)) }
    }

    fn event(&self, tenant: &str, number: u64, place: usize) -> v1::UsageEvent {
        v1::UsageEvent {
            tenant: tenant.to_owned(),
            meter: self.content.meter.clone(),
            amount: Some(self.content.amount),
            idempotency_key: self.key(number, place),
            ..Default::default()
        }
    }

    fn key(&self, number: u64, place: usize) -> String {
        if !self.content.keys {
            return String::new();
        }
        format!("{:x}-{number:x}-{place:x}", self.run)
    }
}

fn is_quota_allowed(result: &v1::AnyCheckResult) -> bool {
    match &result.result {
        Some(v1::any_check_result::Result::Quota(quota)) => quota.allowed,
        _ => false,
    }
}

/// A gRPC message's prefix, with room for the `length` bytes that follow.
fn prefixed(length: usize) -> BytesMut {
    let mut body = BytesMut::with_capacity(PREFIX_BYTES + length);
    body.put_u8(0);
    body.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    body
}

fn framed(message: &impl Message) -> Bytes {
    let mut body = prefixed(message.encoded_len());
    // A BytesMut grows as needed, so that encoding into one cannot fail.
    let _ = message.encode(&mut body);
    body.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(keys: bool) -> Content {
        Content {
            call: Call::Record,
            meter: "tokens".into(),
            tenants: vec!["a".into(), "b".into()],
            order: vec![0, 1],
            amount: 3,
            batch: 2,
            durability: Durability::Sync,
            keys,
        }
    }

    #[test]
    fn requests_go_round_the_tenants_and_no_key_is_used_twice() {
        let requests = Requests::new(content(true), 7);
        let mut keys = vec![];
        for tenant in ["a", "b", "a"] {
            let body = requests.next();
            assert_eq!(body[0], 0);
            assert_eq!(body.len() - 5, u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize);
            let request = v1::RecordUsageRequest::decode(&body[5..]).unwrap();
            assert!(request.events.iter().all(|event| event.tenant == tenant));
            assert_eq!(request.durability(), v1::Durability::Sync);
            keys.extend(request.events.into_iter().map(|event| event.idempotency_key));
        }
        let given = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!((given, keys.len()), (6, 6));
    }

    #[test]
    fn a_batch_of_checks_goes_round_the_tenants_and_has_to_be_allowed_whole() {
        let requests = Requests::new(Content { call: Call::Batch, batch: 3, ..content(false) }, 7);
        let body = requests.next();
        let request = v1::CheckBatchRequest::decode(&body[5..]).unwrap();
        let tenants = request.checks.into_iter().map(|one| match one.check {
            Some(v1::any_check::Check::Quota(quota)) => quota.tenant,
            other => panic!("{other:?}"),
        });
        assert_eq!(tenants.collect::<Vec<_>>(), ["a", "b", "a"]);
        let answer = |allowed: [bool; 3]| {
            let result = |allowed| v1::AnyCheckResult {
                result: Some(v1::any_check_result::Result::Quota(v1::CheckQuotaResponse {
                    allowed,
                    ..Default::default()
                })),
            };
            framed(&v1::CheckBatchResponse { results: allowed.map(result).to_vec() }).to_vec()
        };
        assert!(requests.is_allowed(&answer([true; 3])).unwrap());
        assert!(!requests.is_allowed(&answer([true, false, true])).unwrap());
    }

    #[test]
    fn a_message_of_a_stream_carries_its_number_and_the_next_tenants_check() {
        let streamed = Content { call: Call::Stream, ..content(false) };
        let requests = Requests::new(streamed, 7);
        for (id, tenant) in [(0, "a"), (300, "b")] {
            let body = requests.next_in_stream(id);
            assert_eq!(body.len() - 5, u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize);
            let request = v1::CheckStreamRequest::decode(&body[5..]).unwrap();
            assert_eq!(request.id, id);
            match request.check.unwrap().check {
                Some(v1::any_check::Check::Quota(quota)) => assert_eq!(quota.tenant, tenant),
                other => panic!("{other:?}"),
            }
        }
        let answer = v1::CheckStreamResponse { id: 300, result: None }.encode_to_vec();
        assert_eq!(requests.answered_in_stream(&answer).unwrap(), (300, false));
    }

    #[test]
    fn a_batch_that_was_taken_in_part_is_not_accepted() {
        let requests = Requests::new(content(false), 7);
        let answer = |accepted, duplicates| {
            framed(&v1::RecordUsageResponse { accepted, duplicates, late: 0 }).to_vec()
        };
        assert!(requests.is_allowed(&answer(1, 1)).unwrap());
        assert!(!requests.is_allowed(&answer(1, 0)).unwrap());
    }
}
