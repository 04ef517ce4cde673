//! What a client sends in a call.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use hyper::body::{Body, Frame};

/// A request's body, of which the client may send more as it is read.
pub struct Incoming {
    stream: RecvStream,
    /// All data have been read; what may follow are trailers.
    is_read: bool,
}

impl Incoming {
    /// The body that comes by `stream`.
    pub fn new(stream: RecvStream) -> Self {
        Self { stream, is_read: false }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        match ready!(self.stream.poll_data(cx)) {
            Some(Ok(data)) => {
                // Fails only where the stream is over, and nobody sends any more.
                let _ = self.stream.flow_control().release_capacity(data.len());
                Poll::Ready(Some(Ok(data)))
            }
            // The stream was given up without a fault: no more comes.
            Some(Err(error)) if is_end(&error) => Poll::Ready(None),
            other => Poll::Ready(other),
        }
    }
}

fn is_end(error: &h2::Error) -> bool {
    error.reason() == Some(Reason::NO_ERROR)
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.is_read {
            if let Some(data) = ready!(self.poll_data(cx)) {
                return Poll::Ready(Some(data.map(Frame::data)));
            }
            self.is_read = true;
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        Poll::Ready(match trailers {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) if is_end(&error) => None,
            Err(error) => Some(Err(error)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}
