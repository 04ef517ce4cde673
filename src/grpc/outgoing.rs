//! What is sent in answer to a call.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Response, header::CONTENT_TYPE};
use hyper::body::Body as _;
use tonic::{Status, body::Body};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const OK: HeaderValue = HeaderValue::from_static("0");

/// The answer to a call.
pub enum Answer {
    /// One message with its prefix, and that all went well.
    Message { metadata: HeaderMap, message: Bytes },
    /// Anything else: failures, and what tonic answers.
    Response(Response<Body>),
}

impl From<Status> for Answer {
    fn from(status: Status) -> Self {
        Self::Response(status.into_http())
    }
}

impl Answer {
    /// Sends it: what is left to be done for that, unless it is all with HTTP/2.
    pub fn send(self, respond: &mut SendResponse<Bytes>) -> Result<Option<Sending>, h2::Error> {
        match self {
            Self::Message { metadata, message } => {
                send_message(metadata, message, respond)?;
                Ok(None)
            }
            Self::Response(response) => {
                let (head, body) = response.into_parts();
                let is_over = body.is_end_stream();
                let to = respond.send_response(Response::from_parts(head, ()), is_over)?;
                Ok((!is_over).then_some(Sending { body, to, chunk: None }))
            }
        }
    }
}

/// All of it is handed over: a message is of one piece, and who does not read the answers to his
/// calls has no more of those than a connection may have.
fn send_message(
    metadata: HeaderMap,
    message: Bytes,
    respond: &mut SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let mut head = Response::new(());
    *head.headers_mut() = metadata;
    head.headers_mut().insert(CONTENT_TYPE, GRPC);
    let mut to = respond.send_response(head, false)?;
    to.send_data(message, false)?;
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, OK);
    to.send_trailers(trailers)
}

/// A body that is being sent, as fast as the client takes it.
pub struct Sending {
    body: Body,
    to: SendStream<Bytes>,
    /// Data that wait until the client takes more, and whether they are the last.
    chunk: Option<(Bytes, bool)>,
}

impl Sending {
    /// Ends when all is handed over, or the client gives up.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            if let Poll::Ready(reason) = self.to.poll_reset(cx)? {
                return Poll::Ready(Err(reason.into()));
            }
            if let Some(is_last) = ready!(self.poll_chunk(cx))? {
                if is_last {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(self.to.send_data(Bytes::new(), true)),
                Some(Err(error)) => {
                    tracing::debug!(%error, "the answer to a call broke off");
                    self.to.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(Ok(()));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.chunk = Some((data, self.body.is_end_stream())),
                    Err(frame) => {
                        let Ok(trailers) = frame.into_trailers() else { continue };
                        return Poll::Ready(self.to.send_trailers(trailers));
                    }
                },
            }
        }
    }

    /// Hands the waiting data over once the client takes any: whether they were the last. `None`
    /// where none wait.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<bool>, h2::Error>> {
        let Some((data, is_last)) = self.chunk.take() else { return Poll::Ready(Ok(None)) };
        if !data.is_empty() {
            // One byte: what is asked for and not used yet is missing to the connection's others.
            self.to.reserve_capacity(1);
            while self.to.capacity() == 0 {
                match self.to.poll_capacity(cx)? {
                    Poll::Ready(Some(_)) => {}
                    Poll::Ready(None) => return Poll::Ready(Err(Reason::CANCEL.into())),
                    Poll::Pending => {
                        self.chunk = Some((data, is_last));
                        return Poll::Pending;
                    }
                }
            }
        }
        self.to.send_data(data, is_last)?;
        Poll::Ready(Ok(Some(is_last)))
    }
}
