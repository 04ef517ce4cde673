//! The short way of a unary call: decode, ask the service, encode.
//!
//! What tonic does besides (streams of messages, compression, trailers of the request, buffers of
//! several KiB for each direction) costs more than the call itself. A request that has come whole
//! and needs none of that is answered here; every other goes through the generated server, whose
//! answers are the same.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use prost::Message;
use tonic::{Status, metadata::MetadataMap};

use super::{call::Answering, check_batch::CheckBatch, heavy::PREFIX_BYTES, outgoing::Answer};
use crate::{
    api::{
        answer_fields::put_quota, at_once::AnswersAtOnce, operation::ANSWER_BYTES, refusal::Refusal,
    },
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

/// Room for a quota's answer.
const QUOTA_BYTES: usize = 120;

/// Calls that are read here.
const CHECK_QUOTA: &str = "CheckQuota";
/// See [`CHECK_QUOTA`].
const CHECK: &str = "Check";
/// See [`CHECK_QUOTA`].
pub const CHECK_BATCH: &str = "CheckBatch";

/// Answers `request`, whose body is one message with its prefix. `None`: it is as it was, since it
/// is for another service, or there is anything about it that tonic has to see to.
pub fn answer<T: AnswersAtOnce>(
    service: &Arc<T>,
    request: &mut Request<Bytes>,
) -> Option<Answering> {
    if request.headers().contains_key(ENCODING) {
        return None;
    }
    match call(request.uri().path())? {
        CHECK_QUOTA => quota(service, request),
        CHECK_BATCH => {
            let message = request.body().slice(PREFIX_BYTES..);
            let answer = CheckBatch(service.clone()).answer(with_message(request, message));
            waiting(async move { answer.await.map(|answer| answer.map(|it| prefixed(&it))) })
        }
        CHECK => operation(service, request),
        _ => typed(service, request),
    }
}

/// Answers a `Check`, from its bytes where that can be done, and without a message of its answer.
fn operation<T: AnswersAtOnce>(
    service: &Arc<T>,
    request: &mut Request<Bytes>,
) -> Option<Answering> {
    if let Ok(plain) = PlainCheck::of_check(&request.body()[PREFIX_BYTES..])
        && plain.mode == Mode::Consume
        && let Some(operated) =
            service.operate_at_once(request.extensions(), &plain, unframed(ANSWER_BYTES))
    {
        return Some(match operated {
            Ok(Operated::Answered(answer)) => Answering::Done(answered(Ok(framed(answer)))),
            Ok(Operated::Owed(owed)) => Answering::Decided(Box::pin(async move {
                answered(owed.acknowledged().await.map(framed))
            })),
            Err(error) => Answering::Done(answered(Err(error))),
        });
    }
    let request = decoded(request)?;
    let service = service.clone();
    waiting(async move {
        let answer = service.check_encoded(request).await;
        answer.map(|answer| answer.map(|bytes| prefixed(&bytes)))
    })
}

/// Answers a `CheckQuota` from its bytes where that can be done.
fn quota<T: AnswersAtOnce>(service: &Arc<T>, request: &mut Request<Bytes>) -> Option<Answering> {
    match PlainQuota::of_quota(&request.body()[PREFIX_BYTES..]) {
        Ok(plain) if plain.is_look() => {
            let looks = service.begin_looks(request.extensions());
            if let Some(answer) = looks.and_then(|mut looks| looks.look(&plain)) {
                return Some(Answering::Done(answered(Ok(framed_quota(answer)))));
            }
        }
        Ok(plain) if plain.mode == Mode::Consume => {
            match service.consume_at_once(request.extensions(), &plain) {
                Some(Ok(Consumed::Answered(answer))) => {
                    return Some(Answering::Done(answered(Ok(framed_quota(answer)))));
                }
                // The request's bytes are not kept for so long.
                Some(Ok(Consumed::Owed(owed))) => {
                    return Some(Answering::Decided(Box::pin(acknowledged(owed))));
                }
                Some(Err(error)) => return Some(Answering::Done(answered(Err(error)))),
                None => {}
            }
        }
        _ => {}
    }
    typed(service, request)
}

/// The answer once its record is as durable as was asked.
async fn acknowledged(owed: OwedAnswer) -> Answer {
    answered(owed.acknowledged().await.map(framed_quota))
}

/// The answer of what was decided at once: a message with its prefix.
fn answered(decided: Result<Bytes, EngineError>) -> Answer {
    match decided {
        Ok(message) => Answer::Message { metadata: HeaderMap::new(), message },
        Err(error) => Status::from(Refusal::from(error)).into(),
    }
}

/// The answer of what the service's own methods answer: a message with its prefix.
fn waiting(
    answer: impl Future<Output = Result<tonic::Response<Bytes>, Status>> + Send + 'static,
) -> Option<Answering> {
    Some(Answering::Waiting(Box::pin(async move {
        match answer.await {
            Ok(answer) => {
                let (metadata, message, _) = answer.into_parts();
                Answer::Message { metadata: metadata.into_headers(), message }
            }
            Err(status) => status.into(),
        }
    })))
}

macro_rules! unary {
    (unary {$($name:ident $call:ident $request:ident $response:ident $path:literal;)*}
     $($others:tt)*) => {
        /// Answers by the service's own methods.
        fn typed<T: TollgateService>(
            service: &Arc<T>,
            request: &mut Request<Bytes>,
        ) -> Option<Answering> {
            match call(request.uri().path())? {
                $(stringify!($name) => {
                    let request = decoded::<v1::$request>(request)?;
                    let service = service.clone();
                    waiting(async move {
                        let answer = service.$call(request).await;
                        answer.map(|answer| answer.map(|message| framed_message(&message)))
                    })
                })*
                _ => None,
            }
        }
    };
}
calls!(unary);

/// The name of the product's call at `path`, if it is for the product.
pub fn call(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.strip_prefix(SERVICE_NAME)?.strip_prefix('/')
}

/// The request with its message. `None`: it is as it was, and cannot be read.
fn decoded<M: Message + Default>(request: &mut Request<Bytes>) -> Option<tonic::Request<M>> {
    let message = M::decode(&request.body()[PREFIX_BYTES..]).ok()?;
    Some(with_message(request, message))
}

fn with_message<M>(request: &mut Request<Bytes>, message: M) -> tonic::Request<M> {
    let metadata = MetadataMap::from_headers(std::mem::take(request.headers_mut()));
    let extensions = std::mem::take(request.extensions_mut());
    tonic::Request::from_parts(metadata, extensions, message)
}

/// A quota's answer with its prefix.
fn framed_quota(answer: QuotaAnswer) -> Bytes {
    let mut message = unframed(QUOTA_BYTES);
    put_quota(&answer, &mut Fields(&mut message));
    framed(message)
}

/// A message with its prefix.
fn framed_message(message: &impl Message) -> Bytes {
    let mut written = unframed(message.encoded_len());
    message.encode_raw(&mut written);
    framed(written)
}

/// An encoded message with its prefix.
fn prefixed(message: &[u8]) -> Bytes {
    let mut written = unframed(message.len());
    written.extend_from_slice(message);
    framed(written)
}

/// Room for the prefix, to which a message of about so many bytes is to be appended.
fn unframed(bytes: usize) -> Vec<u8> {
    let mut written = Vec::with_capacity(PREFIX_BYTES + bytes);
    written.resize(PREFIX_BYTES, 0);
    written
}

/// What was written behind [`unframed`], with its prefix.
fn framed(mut written: Vec<u8>) -> Bytes {
    // What answers a message of some KiB is far below 4 GiB.
    let bytes = (written.len() - PREFIX_BYTES) as u32;
    written[1..PREFIX_BYTES].copy_from_slice(&bytes.to_be_bytes());
    written.into()
}
