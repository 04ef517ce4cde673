//! The short way of a unary call: decode, ask the service, encode.
//!
//! What tonic does besides (streams of messages, compression, trailers of the request, buffers of
//! several KiB for each direction) costs more than the call itself. A request that has come whole
//! and needs none of that is answered here; every other goes through the generated server, whose
//! answers are the same.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::future::{BoxFuture, ready};
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use hyper::body::Frame;
use prost::Message;
use tonic::{Status, body::Body, metadata::MetadataMap};

use super::{call::Answer, check_batch::CheckBatch, heavy::PREFIX_BYTES};
use crate::{
    api::{answer_fields::put_quota, at_once::AnswersAtOnce, refusal::Refusal},
    domain::quota::QuotaAnswer,
    enforcement::{
        consume_at_once::{Consumed, OwedAnswer},
        error::EngineError,
        operation_at_once::Operated,
    },
    proto::{
        borrowed::{PlainCheck, PlainQuota},
        calls,
        fields::Fields,
        v1,
        v1::{
            Mode,
            tollgate_service_server::{SERVICE_NAME, TollgateService},
        },
    },
};

/// How messages are compressed that are.
const ENCODING: &str = "grpc-encoding";
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const OK: HeaderValue = HeaderValue::from_static("0");

/// Room for a quota's answer.
const QUOTA_BYTES: usize = 120;

/// Calls that are read here.
const CHECK_QUOTA: &str = "CheckQuota";
/// See [`CHECK_QUOTA`].
const CHECK: &str = "Check";
/// See [`CHECK_QUOTA`].
pub const CHECK_BATCH: &str = "CheckBatch";

/// Answers `request`, whose body is one message with its prefix. It is given back if it is for
/// another service, or there is anything about it that tonic has to see to.
pub fn answer<T: AnswersAtOnce>(
    service: &Arc<T>,
    request: Request<Bytes>,
) -> Result<BoxFuture<'static, Answer>, Box<Request<Bytes>>> {
    if request.headers().contains_key(ENCODING) {
        return Err(Box::new(request));
    }
    match call(request.uri().path()) {
        Some(CHECK_QUOTA) => quota(service, request),
        Some(CHECK_BATCH) => {
            let message = request.body().slice(PREFIX_BYTES..);
            let answer = CheckBatch(service.clone()).answer(with_message(request, message));
            Ok(Box::pin(async move {
                let answer = answer.await.map(|answer| answer.map(|bytes| prefixed(&bytes)));
                Ok(response(answer))
            }))
        }
        Some(CHECK) => operation(service, request),
        _ => typed(service, request),
    }
}

/// Answers a `Check`, from its bytes where that can be done, and without a message of its answer.
fn operation<T: AnswersAtOnce>(
    service: &Arc<T>,
    request: Request<Bytes>,
) -> Result<BoxFuture<'static, Answer>, Box<Request<Bytes>>> {
    if let Ok(plain) = PlainCheck::of_check(&request.body()[PREFIX_BYTES..])
        && plain.mode == Mode::Consume
        && let Some(operated) = service.operate_at_once(request.extensions(), &plain)
    {
        return Ok(match operated {
            Ok(Operated::Answered(answer)) => at_once(Ok(prefixed(&answer))),
            Ok(Operated::Owed(owed)) => Box::pin(async move {
                let answer = owed.acknowledged().await;
                Ok(answered(answer.map(|answer| prefixed(&answer))))
            }),
            Err(error) => at_once(Err(error)),
        });
    }
    let request = decoded(request)?;
    let service = service.clone();
    Ok(Box::pin(async move {
        let answer = service.check_encoded(request).await;
        Ok(response(answer.map(|answer| answer.map(|bytes| prefixed(&bytes)))))
    }))
}

/// Answers a `CheckQuota` from its bytes where that can be done.
fn quota<T: AnswersAtOnce>(
    service: &Arc<T>,
    request: Request<Bytes>,
) -> Result<BoxFuture<'static, Answer>, Box<Request<Bytes>>> {
    match PlainQuota::of_quota(&request.body()[PREFIX_BYTES..]) {
        Ok(plain) if plain.is_look() => {
            let looks = service.begin_looks(request.extensions());
            match looks.and_then(|mut looks| looks.look(&plain)) {
                Some(answer) => Ok(at_once(Ok(framed_quota(answer)))),
                None => typed(service, request),
            }
        }
        Ok(plain) if plain.mode == Mode::Consume => {
            match service.consume_at_once(request.extensions(), &plain) {
                Some(Ok(Consumed::Answered(answer))) => Ok(at_once(Ok(framed_quota(answer)))),
                Some(Ok(Consumed::Owed(owed))) => Ok(Box::pin(acknowledged(owed))),
                Some(Err(error)) => Ok(at_once(Err(error))),
                None => typed(service, request),
            }
        }
        _ => typed(service, request),
    }
}

/// An answer that waits for nobody, with its prefix.
fn at_once(answer: Result<Bytes, EngineError>) -> BoxFuture<'static, Answer> {
    Box::pin(ready(Ok(answered(answer))))
}

/// The answer once its record is as durable as was asked. The request's bytes are not kept for so
/// long.
async fn acknowledged(owed: OwedAnswer) -> Answer {
    Ok(answered(owed.acknowledged().await.map(framed_quota)))
}

/// The response to what was decided at once.
fn answered(answer: Result<Bytes, EngineError>) -> Response<Body> {
    response(answer.map(tonic::Response::new).map_err(|error| Refusal::from(error).into()))
}

macro_rules! unary {
    (unary {$($name:ident $call:ident $request:ident $response:ident $path:literal;)*}
     $($others:tt)*) => {
        /// Answers by the service's own methods.
        fn typed<T: TollgateService>(
            service: &Arc<T>,
            request: Request<Bytes>,
        ) -> Result<BoxFuture<'static, Answer>, Box<Request<Bytes>>> {
            match call(request.uri().path()) {
                $(Some(stringify!($name)) => {
                    let request = decoded::<v1::$request>(request)?;
                    let service = service.clone();
                    Ok(Box::pin(async move {
                        let answer = service.$call(request).await;
                        Ok(response(answer.map(|answer| answer.map(|message| framed(&message)))))
                    }))
                })*
                _ => Err(Box::new(request)),
            }
        }
    };
}
calls!(unary);

/// The name of the product's call at `path`, if it is for the product.
pub fn call(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.strip_prefix(SERVICE_NAME)?.strip_prefix('/')
}

/// The request with its message; as it was, when that cannot be read.
fn decoded<M: Message + Default>(
    request: Request<Bytes>,
) -> Result<tonic::Request<M>, Box<Request<Bytes>>> {
    let Ok(message) = M::decode(&request.body()[PREFIX_BYTES..]) else {
        return Err(Box::new(request));
    };
    Ok(with_message(request, message))
}

fn with_message<M>(request: Request<Bytes>, message: M) -> tonic::Request<M> {
    let (head, _) = request.into_parts();
    let metadata = MetadataMap::from_headers(head.headers);
    tonic::Request::from_parts(metadata, head.extensions, message)
}

/// The response with a message that has its prefix.
fn response(answer: Result<tonic::Response<Bytes>, Status>) -> Response<Body> {
    let (metadata, message, extensions) = match answer {
        Ok(answer) => answer.into_parts(),
        Err(status) => return status.into_http(),
    };
    let mut response = Response::new(Body::new(OneMessage { next: Next::Data(message) }));
    *response.headers_mut() = metadata.into_headers();
    *response.extensions_mut() = extensions;
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// A quota's answer with its prefix.
fn framed_quota(answer: QuotaAnswer) -> Bytes {
    framed_by(QUOTA_BYTES, |to| put_quota(answer, &mut Fields(to)))
}

/// A message with its prefix.
fn framed(message: &impl Message) -> Bytes {
    framed_by(message.encoded_len(), |to| message.encode_raw(to))
}

/// An encoded message with its prefix.
fn prefixed(message: &[u8]) -> Bytes {
    framed_by(message.len(), |to| to.extend_from_slice(message))
}

/// The message that `write` appends, of about so many bytes, with its prefix.
fn framed_by(bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut framed = Vec::with_capacity(PREFIX_BYTES + bytes);
    framed.resize(PREFIX_BYTES, 0);
    write(&mut framed);
    // What answers a message of some KiB is far below 4 GiB.
    let bytes = (framed.len() - PREFIX_BYTES) as u32;
    framed[1..PREFIX_BYTES].copy_from_slice(&bytes.to_be_bytes());
    framed.into()
}

/// The body of a unary answer: a message, and that all went well.
struct OneMessage {
    next: Next,
}

enum Next {
    Data(Bytes),
    Status,
    End,
}

impl hyper::body::Body for OneMessage {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(match std::mem::replace(&mut self.next, Next::End) {
            Next::Data(data) => {
                self.next = Next::Status;
                Some(Ok(Frame::data(data)))
            }
            Next::Status => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(Status::GRPC_STATUS, OK);
                Some(Ok(Frame::trailers(trailers)))
            }
            Next::End => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.next, Next::End)
    }
}
