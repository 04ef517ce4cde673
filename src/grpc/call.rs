//! One call: in which task it runs, and what its failures look like.

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status, body::Body};
use tower::Service;

use super::{
    config::GrpcConfig,
    heavy::{Bounds, WeighedBody, Weight},
    room::{Kind, Room, Rooms},
};
use crate::{
    api::{
        refusal::Refusal,
        status::{is_malformed, status},
    },
    proto::calls,
};

/// How long a heavy call may take from its first byte to its answer. It occupies part of the memory
/// for large messages meanwhile, so that a slow sender must not keep it for ever.
pub const HEAVY_CALL_MAX: Duration = Duration::from_secs(60);
/// The budget for large messages is counted in this many bytes, since permits are counted in 32
/// bits.
const BUDGET_UNIT_BYTES: usize = 1 << 10;

type Answer = Result<Response<Body>, Infallible>;

/// What is served: a generated service, or several behind a [`super::dispatch::Dispatch`].
pub trait GrpcService:
    Service<
        Request<Body>,
        Response = Response<Body>,
        Error = Infallible,
        Future = BoxFuture<'static, Answer>,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> GrpcService for S where
    S: Service<
            Request<Body>,
            Response = Response<Body>,
            Error = Infallible,
            Future = BoxFuture<'static, Answer>,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// A service as its connections see it.
#[derive(Clone)]
pub struct Calls<S> {
    service: S,
    /// What all connections share.
    shared: Arc<Shared>,
    message_bytes_max: u32,
    /// How long a call's only message may take to arrive.
    message_wait_max: Duration,
}

/// What bounds the calls of all connections together.
struct Shared {
    rooms: Arc<Rooms>,
    /// Memory for large messages in flight, in units of [`BUDGET_UNIT_BYTES`].
    large_messages: Arc<Semaphore>,
    large_messages_max: usize,
}

impl<S: GrpcService> Calls<S> {
    /// Serves `service`; all clones share one budget for large messages, and one for calls.
    pub fn new(service: S, config: &GrpcConfig) -> Self {
        let units = config.large_messages_bytes_max.div_ceil(BUDGET_UNIT_BYTES);
        let units = units.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let shared = Shared {
            rooms: Arc::new(Rooms::new(config.calls_max)),
            large_messages: Arc::new(Semaphore::new(units)),
            large_messages_max: units,
        };
        Self {
            service,
            shared: Arc::new(shared),
            message_bytes_max: u32::try_from(config.message_bytes_max).unwrap_or(u32::MAX),
            message_wait_max: Duration::from_secs(config.message_wait_s),
        }
    }

    /// The same budget before another service.
    pub fn with(&self, service: S) -> Self {
        Self { service, ..self.clone() }
    }
}

impl<S: GrpcService> hyper::service::Service<Request<Incoming>> for Calls<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Call;

    fn call(&self, request: Request<Incoming>) -> Call {
        let weight = Weight::default();
        let path = request.uri().path();
        let kind = Kind::of(path);
        let room = self.shared.rooms.take(kind);
        let shared = self.shared.clone();
        if room.is_refused_at_once() {
            let place = Place::Refused(room.refuse());
            return Call { place, weight, room: Some(room), shared };
        }
        let bounds = Bounds {
            weighed_bytes_max: if kind.is_open() { 0 } else { self.message_bytes_max },
            wait_max: (!takes_stream(path)).then_some(self.message_wait_max),
        };
        let request = request.map(|body| Body::new(WeighedBody::new(body, weight.clone(), bounds)));
        // The contract asks for `poll_ready` first; a `GrpcService` is always ready.
        let answer = self.service.clone().call(request);
        Call { place: Place::Connection(answer), weight, room: Some(room), shared }
    }
}

/// The answer to one call, wherever it is made.
pub struct Call {
    place: Place,
    weight: Weight,
    /// Absent once it is answered.
    room: Option<Room>,
    shared: Arc<Shared>,
}

enum Place {
    /// Inside the connection's task.
    Connection(BoxFuture<'static, Answer>),
    /// In a task of its own, which ends when the caller gives up.
    Own(AbortOnDropHandle<Response<Body>>),
    /// Not made: it is one too many.
    Refused(Box<Response<Body>>),
    /// Answered.
    Nowhere,
}

impl Future for Call {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let this = &mut *self;
        if let Place::Connection(answer) = &mut this.place {
            // A handler that panicked may have left its own state odd, but it is never used again;
            // what it shares with others is guarded against poisoning where it is locked.
            match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx))) {
                Err(_) => {
                    this.place = Place::Nowhere;
                    return Poll::Ready(Ok(panicked()));
                }
                Ok(Poll::Ready(Ok(response))) => {
                    this.place = Place::Nowhere;
                    let response = with_reason(response);
                    return Poll::Ready(Ok(match this.room.take() {
                        Some(room) => room.kept_by(response),
                        None => response,
                    }));
                }
                Ok(Poll::Pending) => match (this.weight.get(), &this.room) {
                    (_, Some(room)) if room.is_beyond() => {
                        this.place = Place::Refused(room.refuse());
                    }
                    (None, _) => return Poll::Pending,
                    (Some(bytes), _) => this.move_out(bytes),
                },
            }
        }
        match &mut this.place {
            Place::Own(task) => Pin::new(task)
                .poll(cx)
                .map(|done| Ok(with_reason(done.unwrap_or_else(|_| panicked())))),
            Place::Refused(_) => match std::mem::replace(&mut this.place, Place::Nowhere) {
                Place::Refused(refusal) => Poll::Ready(Ok(*refusal)),
                _ => Poll::Pending,
            },
            Place::Connection(_) | Place::Nowhere => Poll::Pending,
        }
    }
}

impl Call {
    /// Goes on in a task of its own, once there is room for a message of `bytes`.
    fn move_out(&mut self, bytes: u32) {
        let Place::Connection(answer) = std::mem::replace(&mut self.place, Place::Nowhere) else {
            return;
        };
        // A message above the whole budget is above the largest allowed one: its length is refused
        // before it is read.
        let shared = &self.shared;
        let units = (bytes as usize).div_ceil(BUDGET_UNIT_BYTES).min(shared.large_messages_max);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let large_messages = shared.large_messages.clone();
        let task = tokio::spawn(async move {
            let in_time = tokio::time::timeout(HEAVY_CALL_MAX, async move {
                // The semaphore is never closed.
                let _room = large_messages.acquire_many_owned(units).await;
                answer.await
            });
            match in_time.await {
                Ok(Ok(response)) => response,
                Err(_) => Status::deadline_exceeded(format!(
                    "a message of {bytes} bytes was not received and handled within {} s; send \
                     smaller batches",
                    HEAVY_CALL_MAX.as_secs()
                ))
                .into_http(),
            }
        });
        self.place = Place::Own(AbortOnDropHandle::new(task));
    }
}

macro_rules! streams {
    (unary {$($unary:tt)*}
     answers_stream {$($answers_stream:tt)*}
     streams {$($name:ident $call:ident $request:ident $response:ident $path:literal;)*}) => {
        /// Whether calls of a path take a stream of messages.
        fn takes_stream(path: &str) -> bool {
            match path {
                $(concat!("/tollgate.v1.TollgateService/", stringify!($name)) => true,)*
                path => path.starts_with("/grpc.reflection."),
            }
        }
    };
}
calls!(streams);

fn panicked() -> Response<Body> {
    metrics::counter!("tollgate_grpc_handler_panics_total").increment(1);
    tracing::error!("a gRPC handler panicked; its call failed, the others go on");
    let told = "the sidecar failed at this call; whether it was counted is unknown";
    status(Refusal::new(Code::Internal, "INTERNAL", told)).into_http()
}

/// Gives failures that tonic found the reason that every failure has. A message that cannot be
/// decoded is the sender's fault: INVALID_ARGUMENT, where tonic says INTERNAL.
fn with_reason(response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    // Only a failed call has its status in the headers; the others send it after the body.
    if !headers.contains_key(Status::GRPC_STATUS)
        || headers.contains_key(Status::GRPC_STATUS_DETAILS)
    {
        return response;
    }
    let Some(bare) = Status::from_header_map(headers) else { return response };
    let message = bare.message();
    let (code, reason) = match bare.code() {
        Code::Internal if is_malformed(&bare) => (Code::InvalidArgument, "INVALID_ARGUMENT"),
        Code::InvalidArgument => (Code::InvalidArgument, "INVALID_ARGUMENT"),
        Code::OutOfRange => (Code::OutOfRange, "BODY_TOO_LARGE"),
        Code::DeadlineExceeded => (Code::DeadlineExceeded, "BODY_TOO_SLOW"),
        Code::Unimplemented => (Code::Unimplemented, "UNIMPLEMENTED"),
        Code::Internal => (Code::Internal, "INTERNAL"),
        _ => return response,
    };
    let told = match (code, message) {
        (Code::Unimplemented, "") => "there is no such call; see the proto, or reflection",
        (_, told) => told,
    };
    status(Refusal::new(code, reason, told)).into_http()
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;

    fn reason(bare: Status) -> (Code, String) {
        let told = with_reason(bare.into_http());
        let told = Status::from_header_map(told.headers()).unwrap();
        (told.code(), told.get_details_error_info().map(|info| info.reason).unwrap_or_default())
    }

    #[test]
    fn what_tonic_refuses_has_a_reason_too() {
        let undecodable = Status::internal("failed to decode Protobuf message: Buffer underflow");
        assert_eq!(reason(undecodable), (Code::InvalidArgument, "INVALID_ARGUMENT".into()));
        let flagged = "protocol error: received message with invalid compression flag: 44";
        assert_eq!(reason(Status::internal(flagged)).0, Code::InvalidArgument);
        let cut = Status::internal("Unexpected EOF decoding stream.");
        assert_eq!(reason(cut), (Code::InvalidArgument, "INVALID_ARGUMENT".into()));
        let large = Status::out_of_range("decoded message length too large");
        assert_eq!(reason(large), (Code::OutOfRange, "BODY_TOO_LARGE".into()));
        let none = Status::unimplemented("");
        assert_eq!(reason(none), (Code::Unimplemented, "UNIMPLEMENTED".into()));
        let ours = status(Refusal::new(Code::NotFound, "UNKNOWN_TENANT", "x"));
        assert_eq!(reason(ours), (Code::NotFound, "UNKNOWN_TENANT".into()));
    }

    #[test]
    fn calls_that_take_a_stream_are_known_by_their_paths() {
        assert!(takes_stream("/tollgate.v1.TollgateService/CheckStream"));
        assert!(takes_stream("/tollgate.v1.TollgateService/RecordUsageStream"));
        assert!(!takes_stream("/tollgate.v1.TollgateService/RecordUsage"));
        assert!(!takes_stream("/tollgate.v1.TollgateService/WatchUsage"));
    }
}
