//! One call: in which task it runs, and what its failures look like.

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use h2::RecvStream;
use http::{Request, Response};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status, body::Body};

use super::{
    begun::{Begun, BegunBody},
    config::GrpcConfig,
    heavy::{Bounds, WeighedBody, Weight},
    incoming::Incoming,
    outgoing::Answer,
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

/// How every call ends that tonic answers: failures are responses, too.
pub type Answered = Result<Response<Body>, Infallible>;

/// An answer, or what becomes one.
pub enum Answering {
    Done(Answer),
    /// What was asked is decided, and its record waited for: it is not refused any more.
    Decided(BoxFuture<'static, Answer>),
    /// Nothing is decided until it is polled.
    Waiting(BoxFuture<'static, Answer>),
}

/// What is served: several services behind a [`super::dispatch::Dispatch`].
pub trait GrpcService: Clone + Send + Sync + 'static {
    /// Answers a call.
    fn answer(&self, request: Request<Body>) -> BoxFuture<'static, Answered>;

    /// The same service for one connection, which shares with the others no count of holders: all
    /// cores would write to it, at every call.
    fn apart(&self) -> Self;

    /// Answers a call of which all has come: its only message, with gRPC's prefix. `None`: the
    /// request is as it was, and [`GrpcService::answer`] can do it.
    fn answer_whole(&self, request: &mut Request<Bytes>) -> Option<Answering>;
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

    /// The same for one connection.
    pub fn apart(&self) -> Self {
        self.with(self.service.apart())
    }
}

impl<S: GrpcService> Calls<S> {
    /// Starts a call, which many end here and now. One that panics fails alone.
    pub fn start(&self, request: Request<RecvStream>) -> Started {
        catch_unwind(AssertUnwindSafe(|| self.try_start(request)))
            .unwrap_or_else(|_| Started::Answered(panicked().into()))
    }

    fn try_start(&self, request: Request<RecvStream>) -> Started {
        let kind = Kind::of(request.uri().path());
        if self.shared.rooms.are_full(kind) {
            return Started::Answered(self.shared.rooms.refuse(kind));
        }
        let (head, body) = request.into_parts();
        let place = match Begun::of(Incoming::new(body)) {
            Begun::Whole(message) if message.len() <= self.message_bytes_max as usize => {
                let mut request = Request::from_parts(head, message);
                match self.service.answer_whole(&mut request) {
                    Some(Answering::Done(answer)) => return Started::Answered(with_reason(answer)),
                    Some(Answering::Decided(answer)) => {
                        let room = Some(self.shared.rooms.take(kind));
                        return Started::Waiting(Call { place: Place::Short(answer), room });
                    }
                    Some(Answering::Waiting(answer)) => Place::Short(answer),
                    None => self.begin(request.map(BegunBody::whole), kind),
                }
            }
            begun => self.begin(Request::from_parts(head, begun.into()), kind),
        };
        let room = self.shared.rooms.take(kind);
        match room.is_refused_at_once() {
            true => Started::Answered(room.refuse()),
            false => Started::Waiting(Call { place, room: Some(room) }),
        }
    }

    /// Begins a call of which more may come.
    fn begin(&self, request: Request<BegunBody>, kind: Kind) -> Place {
        let weight = Weight::default();
        let bounds = Bounds {
            weighed_bytes_max: if kind.is_open() { 0 } else { self.message_bytes_max },
            wait_max: (!takes_stream(request.uri().path())).then_some(self.message_wait_max),
        };
        let request = request.map(|body| Body::new(WeighedBody::new(body, weight.clone(), bounds)));
        let answer = self.service.answer(request);
        Place::Connection { answer, weight, shared: self.shared.clone() }
    }
}

/// A call that was started.
pub enum Started {
    Answered(Answer),
    Waiting(Call),
}

/// The answer to one call, wherever it is made.
pub struct Call {
    place: Place,
    /// Absent once it is answered.
    room: Option<Room>,
}

enum Place {
    /// Inside the connection's task, and it has come whole.
    Short(BoxFuture<'static, Answer>),
    /// The same, with what a large message needs.
    Connection { answer: BoxFuture<'static, Answered>, weight: Weight, shared: Arc<Shared> },
    /// In a task of its own, which ends when the caller gives up.
    Own(AbortOnDropHandle<Response<Body>>),
    /// Answered.
    Nowhere,
}

impl Future for Call {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let this = &mut *self;
        // A handler that panicked may have left its own state odd, but it is never used again; what
        // it shares with others is guarded against poisoning where it is locked.
        let polled = catch_unwind(AssertUnwindSafe(|| this.place.poll(cx)));
        let answer = match polled.unwrap_or_else(|_| Poll::Ready(panicked().into())) {
            Poll::Ready(answer) => answer,
            Poll::Pending => ready!(this.poll_waiting(cx)),
        };
        this.place = Place::Nowhere;
        let answer = with_reason(answer);
        Poll::Ready(match this.room.take() {
            Some(room) => room.kept_by(answer),
            None => answer,
        })
    }
}

impl Place {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        match self {
            Self::Short(answer) => answer.as_mut().poll(cx),
            Self::Connection { answer, .. } => {
                answer.as_mut().poll(cx).map(|Ok(response)| Answer::Response(response))
            }
            Self::Own(task) => Pin::new(task)
                .poll(cx)
                .map(|done| done.map_or_else(|_| panicked().into(), Answer::Response)),
            Self::Nowhere => Poll::Pending,
        }
    }
}

impl Call {
    /// Sees to a call that waits: one too many is refused, and one whose message is heavy moves.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        if let (Some(room), Place::Connection { .. }) = (&self.room, &self.place)
            && room.is_beyond()
        {
            return Poll::Ready(room.refuse());
        }
        if let Place::Connection { weight, .. } = &self.place
            && let Some(bytes) = weight.get()
        {
            self.move_out(bytes);
            return self.place.poll(cx);
        }
        Poll::Pending
    }

    /// Goes on in a task of its own, once there is room for a message of `bytes`.
    fn move_out(&mut self, bytes: u32) {
        let place = std::mem::replace(&mut self.place, Place::Nowhere);
        let Place::Connection { answer, shared, .. } = place else { return };
        // A message above the whole budget is above the largest allowed one: its length is refused
        // before it is read.
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

fn panicked() -> Status {
    metrics::counter!("tollgate_grpc_handler_panics_total").increment(1);
    tracing::error!("a gRPC handler panicked; its call failed, the others go on");
    let told = "the sidecar failed at this call; whether it was counted is unknown";
    status(Refusal::new(Code::Internal, "INTERNAL", told))
}

/// Gives failures that tonic found the reason that every failure has. A message that cannot be
/// decoded is the sender's fault: INVALID_ARGUMENT, where tonic says INTERNAL.
fn with_reason(answer: Answer) -> Answer {
    let Answer::Response(response) = &answer else { return answer };
    let headers = response.headers();
    // Only a failed call has its status in the headers; the others send it after the body.
    if !headers.contains_key(Status::GRPC_STATUS)
        || headers.contains_key(Status::GRPC_STATUS_DETAILS)
    {
        return answer;
    }
    let Some(bare) = Status::from_header_map(headers) else { return answer };
    let message = bare.message();
    let (code, reason) = match bare.code() {
        Code::Internal if is_malformed(&bare) => (Code::InvalidArgument, "INVALID_ARGUMENT"),
        Code::InvalidArgument => (Code::InvalidArgument, "INVALID_ARGUMENT"),
        Code::OutOfRange => (Code::OutOfRange, "BODY_TOO_LARGE"),
        Code::DeadlineExceeded => (Code::DeadlineExceeded, "BODY_TOO_SLOW"),
        Code::Unimplemented => (Code::Unimplemented, "UNIMPLEMENTED"),
        Code::Internal => (Code::Internal, "INTERNAL"),
        _ => return answer,
    };
    let told = match (code, message) {
        (Code::Unimplemented, "") => "there is no such call; see the proto, or reflection",
        (_, told) => told,
    };
    status(Refusal::new(code, reason, told)).into()
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;

    fn reason(bare: Status) -> (Code, String) {
        let Answer::Response(told) = with_reason(bare.into()) else { panic!("no failure") };
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
