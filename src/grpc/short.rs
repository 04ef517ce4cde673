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

use bytes::{BufMut, Bytes};
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use hyper::body::Frame;
use prost::Message;
use tonic::{Status, body::Body, metadata::MetadataMap};

use super::{call::Answer, heavy::PREFIX_BYTES};
use crate::proto::{
    calls, v1,
    v1::tollgate_service_server::{SERVICE_NAME, TollgateService},
};

/// How messages are compressed that are.
const ENCODING: &str = "grpc-encoding";
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const OK: HeaderValue = HeaderValue::from_static("0");

macro_rules! unary {
    (unary {$($name:ident $call:ident $request:ident $response:ident $path:literal;)*}
     $($others:tt)*) => {
        /// Answers `request`, whose body is one message with its prefix. It is given back if it
        /// is for another service, or there is anything about it that tonic has to see to.
        pub fn answer<T: TollgateService>(
            service: &Arc<T>,
            request: Request<Bytes>,
        ) -> Result<BoxFuture<'static, Answer>, Box<Request<Bytes>>> {
            if request.headers().contains_key(ENCODING) {
                return Err(Box::new(request));
            }
            match name(request.uri().path()) {
                $(Some(stringify!($name)) => {
                    let request = decoded::<v1::$request>(request)?;
                    let service = service.clone();
                    Ok(Box::pin(async move { Ok(response(service.$call(request).await)) }))
                })*
                _ => Err(Box::new(request)),
            }
        }
    };
}
calls!(unary);

/// Whether `path` is one of the product's calls.
pub fn is_for_product(path: &str) -> bool {
    name(path).is_some()
}

/// The name of the product's call at `path`.
fn name(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.strip_prefix(SERVICE_NAME)?.strip_prefix('/')
}

/// The request with its message; as it was, when that cannot be read.
fn decoded<M: Message + Default>(
    request: Request<Bytes>,
) -> Result<tonic::Request<M>, Box<Request<Bytes>>> {
    let Ok(message) = M::decode(&request.body()[PREFIX_BYTES..]) else {
        return Err(Box::new(request));
    };
    let (head, _) = request.into_parts();
    let metadata = MetadataMap::from_headers(head.headers);
    Ok(tonic::Request::from_parts(metadata, head.extensions, message))
}

fn response<M: Message>(answer: Result<tonic::Response<M>, Status>) -> Response<Body> {
    let (metadata, message, extensions) = match answer {
        Ok(answer) => answer.into_parts(),
        Err(status) => return status.into_http(),
    };
    let mut response = Response::new(Body::new(OneMessage { next: Next::Data(framed(&message)) }));
    *response.headers_mut() = metadata.into_headers();
    *response.extensions_mut() = extensions;
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// A message with its prefix.
fn framed(message: &impl Message) -> Bytes {
    let bytes = message.encoded_len();
    let mut framed = Vec::with_capacity(PREFIX_BYTES + bytes);
    framed.put_u8(0);
    // What answers a message of some KiB is far below 4 GiB.
    framed.put_u32(bytes as u32);
    message.encode_raw(&mut framed);
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
