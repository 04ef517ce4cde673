//! The paths that are counted: from a request's bytes to its answer's.

use std::hint::black_box;

use bytes::{BufMut, Bytes, BytesMut};
use futures::executor::block_on;
use jiff::Timestamp;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tollgate::{
    api::{access::guarded::Guarded, service::EngineService},
    clock::Clock,
    grpc::{Answer, Answering, GrpcService, dispatch::Dispatch},
    proto::v1::{self, tollgate_service_server::TollgateService},
};
use tonic::{Request, Response, Status, service::Routes};

use super::{
    counted::{CALLS, counted_call},
    lone_engine::engine,
};

/// What is committed, in this order.
pub const NAMES: [&str; 14] = [
    QUOTA_CHECK,
    QUOTA_CHECK_BY_GRPC,
    QUOTA_SOFT,
    QUOTA_SOFT_BY_GRPC,
    QUOTA_HARD,
    QUOTA_HARD_BY_GRPC,
    FEATURE,
    RATE,
    OPERATION_CHECK,
    OPERATION_CONSUME,
    OPERATION_CONSUME_BY_GRPC,
    BATCH,
    BATCH_BY_GRPC,
    RECORD,
];

const QUOTA_CHECK: &str = "CheckQuota CHECK, hard";
const QUOTA_CHECK_BY_GRPC: &str = "CheckQuota CHECK, hard, through the gRPC service";
const QUOTA_SOFT: &str = "CheckQuota CONSUME, soft, memory";
const QUOTA_SOFT_BY_GRPC: &str = "CheckQuota CONSUME, soft, memory, through the gRPC service";
const QUOTA_HARD: &str = "CheckQuota CONSUME, hard, written";
const QUOTA_HARD_BY_GRPC: &str = "CheckQuota CONSUME, hard, written, through the gRPC service";
const FEATURE: &str = "CheckFeature";
const RATE: &str = "CheckRateLimit CONSUME";
const OPERATION_CHECK: &str = "Check CHECK of an operation";
const OPERATION_CONSUME: &str = "Check CONSUME of an operation, written";
const OPERATION_CONSUME_BY_GRPC: &str =
    "Check CONSUME of an operation, written, through the gRPC service";
const BATCH: &str = "CheckBatch of 10 CHECKs";
const BATCH_BY_GRPC: &str = "CheckBatch of 10 CHECKs, through the gRPC service";
const RECORD: &str = "RecordUsage of 10, memory";

/// Calls before those that are counted: the tenant is loaded, a lease is in hand, and what grows
/// with use has grown.
const WARM_CALLS: u64 = 500;
/// A clock that stands still: the machine's is read off a page of the kernel's that callgrind does not
/// have, and windows cost a little more on some days than on others.
const NOW: Timestamp = Timestamp::constant(1_795_341_600, 0); // 2026-11-22
/// Checks or events of one call that has many.
const MANY: usize = 10;

/// Makes a path's calls.
pub fn call(name: &str) {
    // For the engine's tasks; the calls are made by this thread.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let _inside = runtime.enter();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let engine = engine(dir.path(), Clock::manual(NOW), &[]);
    let service = EngineService::new(engine, CancellationToken::new());
    let (memory, written) = (v1::Durability::Memory, v1::Durability::Written);
    match name {
        QUOTA_CHECK => {
            repeat_unary(&quota("calls", v1::Mode::Check), |it| service.check_quota(it));
        }
        QUOTA_CHECK_BY_GRPC => {
            let look = quota("calls", v1::Mode::Check);
            repeat_grpc::<v1::CheckQuotaResponse>(service, "CheckQuota", &look);
        }
        QUOTA_SOFT => repeat_unary(&consume("soft", memory), |it| service.check_quota(it)),
        QUOTA_SOFT_BY_GRPC => {
            let consume = consume("soft", memory);
            repeat_grpc::<v1::CheckQuotaResponse>(service, "CheckQuota", &consume);
        }
        QUOTA_HARD => repeat_unary(&consume("calls", written), |it| service.check_quota(it)),
        QUOTA_HARD_BY_GRPC => {
            let consume = consume("calls", written);
            repeat_grpc::<v1::CheckQuotaResponse>(service, "CheckQuota", &consume);
        }
        FEATURE => repeat_unary(&feature(), |it| service.check_feature(it)),
        RATE => repeat_unary(&rate(), |it| service.check_rate_limit(it)),
        OPERATION_CHECK => {
            repeat_unary(&operation(v1::Mode::Check), |it| service.check(it));
        }
        OPERATION_CONSUME => {
            repeat_unary(&operation(v1::Mode::Consume), |it| service.check(it));
        }
        OPERATION_CONSUME_BY_GRPC => {
            let consume = operation(v1::Mode::Consume);
            repeat_grpc::<v1::CheckResponse>(service, "Check", &consume);
        }
        BATCH => repeat_unary(&batch(), |it| service.check_batch(it)),
        BATCH_BY_GRPC => {
            repeat_grpc::<v1::CheckBatchResponse>(service, "CheckBatch", &batch());
        }
        RECORD => {
            let events = vec![event(); MANY];
            let usage = v1::RecordUsageRequest { events, durability: memory.into() };
            repeat_unary(&usage, |it| service.record_usage(it));
        }
        _ => panic!("{name:?} is none of {NAMES:?}"),
    }
}

/// Makes a call again and again; only `call` is counted, not `prepare`.
fn repeat<P>(mut prepare: impl FnMut() -> P, mut call: impl FnMut(P)) {
    (0..WARM_CALLS).for_each(|_| call(prepare()));
    for _ in 0..CALLS {
        let mut prepared = Some(prepare());
        counted_call(&mut || prepared.take().into_iter().for_each(&mut call));
    }
}

/// A call as the faces make it of a message that they have read, and the message's bytes before and
/// after.
fn repeat_unary<Q, A, F>(request: &Q, answer: impl Fn(Request<Q>) -> F)
where
    Q: Message + Default,
    A: Message + IsAllowed + std::fmt::Debug,
    F: Future<Output = Result<Response<A>, Status>>,
{
    let bytes = request.encode_to_vec();
    let call = |bytes: &[u8]| {
        let request = Q::decode(bytes).expect("what was encoded");
        let answer = block_on(answer(Request::new(request))).expect("an answer").into_inner();
        assert!(answer.is_allowed(), "{answer:?}");
        black_box(answer.encode_to_vec());
    };
    repeat(|| bytes.as_slice(), call);
}

/// A call as a connection makes it once its HTTP/2 has been read.
fn repeat_grpc<A>(service: EngineService, call: &str, request: &impl Message)
where
    A: Message + Default + IsAllowed + std::fmt::Debug,
{
    let dispatch = Dispatch::new(Guarded::open(service), request.encoded_len(), Routes::default());
    let uri = format!("http://here/tollgate.v1.TollgateService/{call}");
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(request.encoded_len()).expect("a short message"));
    framed.extend_from_slice(&request.encode_to_vec());
    let framed: Bytes = framed.freeze();
    let prepare = || {
        http::Request::post(&uri)
            .header(http::header::CONTENT_TYPE, "application/grpc")
            .body(framed.clone())
            .expect("a request")
    };
    // Reading it back costs more than some answers do: the first stands for all.
    let mut is_unread = true;
    let call = |mut request| {
        let answering = dispatch.answer_whole(&mut request);
        let answer = match answering.expect("a call whose message has come whole") {
            Answering::Done(answer) => answer,
            Answering::Decided(answer) | Answering::Waiting(answer) => block_on(answer),
        };
        let Answer::Message { message, .. } = black_box(answer) else { panic!("a failure") };
        if std::mem::take(&mut is_unread) {
            let answer = A::decode(&message[5..]).expect("a message behind its prefix");
            assert!(answer.is_allowed(), "{answer:?}");
        }
    };
    repeat(prepare, call);
}

/// A path that is counted while it refuses would be another path.
trait IsAllowed {
    fn is_allowed(&self) -> bool;
}

impl IsAllowed for v1::CheckQuotaResponse {
    fn is_allowed(&self) -> bool {
        self.allowed
    }
}

impl IsAllowed for v1::CheckFeatureResponse {
    fn is_allowed(&self) -> bool {
        self.feature.as_ref().is_some_and(|feature| feature.enabled)
    }
}

impl IsAllowed for v1::CheckRateLimitResponse {
    fn is_allowed(&self) -> bool {
        self.allowed
    }
}

impl IsAllowed for v1::CheckResponse {
    fn is_allowed(&self) -> bool {
        self.allowed
    }
}

impl IsAllowed for v1::CheckBatchResponse {
    fn is_allowed(&self) -> bool {
        use v1::any_check_result::Result::Quota;
        let is_allowed = |one: &v1::AnyCheckResult| match &one.result {
            Some(Quota(quota)) => quota.allowed,
            _ => false,
        };
        self.results.len() == MANY && self.results.iter().all(is_allowed)
    }
}

impl IsAllowed for v1::RecordUsageResponse {
    fn is_allowed(&self) -> bool {
        usize::try_from(self.accepted).is_ok_and(|accepted| accepted == MANY)
    }
}

fn quota(meter: &str, mode: v1::Mode) -> v1::CheckQuotaRequest {
    v1::CheckQuotaRequest {
        tenant: "acme".into(),
        meter: meter.into(),
        amount: Some(1),
        mode: mode.into(),
        ..Default::default()
    }
}

fn consume(meter: &str, durability: v1::Durability) -> v1::CheckQuotaRequest {
    let durability = durability.into();
    v1::CheckQuotaRequest { durability, ..quota(meter, v1::Mode::Consume) }
}

fn batch() -> v1::CheckBatchRequest {
    let check = v1::any_check::Check::Quota(quota("calls", v1::Mode::Check));
    v1::CheckBatchRequest { checks: vec![v1::AnyCheck { check: Some(check) }; MANY] }
}

fn feature() -> v1::CheckFeatureRequest {
    v1::CheckFeatureRequest { tenant: "acme".into(), feature: "chat".into(), ..Default::default() }
}

fn rate() -> v1::CheckRateLimitRequest {
    v1::CheckRateLimitRequest {
        tenant: "acme".into(),
        rate_limit: "api".into(),
        mode: v1::Mode::Consume.into(),
        ..Default::default()
    }
}

fn operation(mode: v1::Mode) -> v1::CheckRequest {
    v1::CheckRequest {
        tenant: "acme".into(),
        operation: "answer".into(),
        mode: mode.into(),
        durability: match mode {
            v1::Mode::Consume => v1::Durability::Written.into(),
            _ => 0,
        },
        ..Default::default()
    }
}

fn event() -> v1::UsageEvent {
    v1::UsageEvent {
        tenant: "acme".into(),
        meter: "soft".into(),
        amount: Some(1),
        ..Default::default()
    }
}
