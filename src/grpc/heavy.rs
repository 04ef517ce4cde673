//! Large messages: seen by their length prefix, before they are read.
//!
//! Decoding and checking a batch of 100,000 events takes tens of milliseconds of a core. Inside the
//! connection's task, that would hold the connection's other calls back; so the call is moved to a
//! task of its own as soon as its body shows a length prefix above [`HEAVY_BYTES`].

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Code;
use tower::BoxError;

use crate::api::{refusal::Refusal, status::status};

/// Longest message that is handled inside the connection's task, bytes: about 100 µs of decoding.
pub const HEAVY_BYTES: u32 = 64 << 10;
/// gRPC's length-prefixed message: a flag byte, then the length, big-endian.
pub const PREFIX_BYTES: usize = 5;

/// The length of a call's first message, when it is a heavy one.
#[derive(Clone, Debug, Default)]
pub struct Weight(Arc<AtomicU32>);

impl Weight {
    /// The length in bytes; `None` as long as no heavy message has begun.
    pub fn get(&self) -> Option<u32> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            bytes => Some(bytes),
        }
    }
}

/// What is asked of a body.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Longest message that is weighed, bytes: a longer one is refused before it is read, and needs
    /// no room. 0 = none is.
    pub weighed_bytes_max: u32,
    /// How long all of it may take to arrive; `None` for a stream, which lasts as long as it likes.
    pub wait_max: Option<Duration>,
}

/// A request's body that reads the length prefix of its first message on the way.
pub struct WeighedBody<B> {
    body: B,
    weight: Weight,
    bounds: Bounds,
    /// Runs from the first time that there is nothing to read: most bodies come with their heads.
    late: Option<Pin<Box<Sleep>>>,
    prefix: [u8; PREFIX_BYTES],
    prefix_read: usize,
    /// The frame with the end of a heavy prefix, until the call has had the occasion to move.
    held: Option<Frame<Bytes>>,
}

impl<B> WeighedBody<B> {
    /// Weighs `body`; the result is told through `weight`.
    pub fn new(body: B, weight: Weight, bounds: Bounds) -> Self {
        let prefix = [0; PREFIX_BYTES];
        Self { body, weight, bounds, late: None, prefix, prefix_read: 0, held: None }
    }

    /// Reads the prefix out of `data`; the length once it is complete and heavy.
    fn weigh(&mut self, data: &[u8]) -> Option<u32> {
        let part = data.len().min(PREFIX_BYTES - self.prefix_read);
        self.prefix[self.prefix_read..self.prefix_read + part].copy_from_slice(&data[..part]);
        self.prefix_read += part;
        if self.prefix_read < PREFIX_BYTES {
            return None;
        }
        let bytes = (&self.prefix[1..]).get_u32();
        (HEAVY_BYTES + 1..=self.bounds.weighed_bytes_max).contains(&bytes).then_some(bytes)
    }

    /// Fails once the body has taken too long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<BoxError> {
        let Some(wait_max) = self.bounds.wait_max else { return Poll::Pending };
        let late = self.late.get_or_insert_with(|| Box::pin(tokio::time::sleep(wait_max)));
        ready!(late.as_mut().poll(cx));
        let told = format!("the message was not received within {} s", wait_max.as_secs());
        Poll::Ready(status(Refusal::new(Code::DeadlineExceeded, "BODY_TOO_SLOW", told)).into())
    }
}

impl<B> Body for WeighedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(frame) = self.held.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => return self.poll_late(cx).map(|late| Some(Err(late))),
            Poll::Ready(Some(Ok(frame))) if self.prefix_read < PREFIX_BYTES => frame,
            Poll::Ready(other) => return Poll::Ready(other.map(|read| read.map_err(Into::into))),
        };
        match frame.data_ref().and_then(|data| self.weigh(data)) {
            None => Poll::Ready(Some(Ok(frame))),
            Some(bytes) => {
                self.weight.0.store(bytes, Ordering::Relaxed);
                self.held = Some(frame);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    /// A body that begins with the prefix of a message of `bytes`, and never goes on.
    fn begun(
        bytes: u32,
        bounds: Bounds,
    ) -> (WeighedBody<impl Body<Data = Bytes, Error = BoxError>>, Weight) {
        let prefix = [&[0], bytes.to_be_bytes().as_slice()].concat();
        let first = stream::iter([Ok(Frame::data(Bytes::from(prefix)))]);
        let weight = Weight::default();
        let body = StreamBody::new(first.chain(stream::pending()).boxed());
        (WeighedBody::new(body, weight.clone(), bounds), weight)
    }

    async fn weighed(bytes: u32, weighed_bytes_max: u32) -> Option<u32> {
        let (mut body, weight) = begun(bytes, Bounds { weighed_bytes_max, wait_max: None });
        body.frame().await.unwrap().unwrap();
        weight.get()
    }

    #[tokio::test]
    async fn only_what_will_be_read_and_is_heavy_asks_for_room() {
        assert_eq!(weighed(HEAVY_BYTES + 1, 1 << 20).await, Some(HEAVY_BYTES + 1));
        assert_eq!(weighed(HEAVY_BYTES, 1 << 20).await, None);
        assert_eq!(weighed(u32::MAX, 1 << 20).await, None, "it is refused by its length");
        assert_eq!(weighed(1 << 20, 0).await, None, "whoever sends it has shown no token");
    }

    #[tokio::test]
    async fn a_message_that_does_not_arrive_is_not_waited_for_and_a_stream_is() {
        let wait = |wait_max| Bounds { weighed_bytes_max: 0, wait_max };
        let (mut body, _) = begun(10, wait(Some(Duration::from_millis(10))));
        body.frame().await.unwrap().unwrap();
        let late = body.frame().await.unwrap().unwrap_err();
        let late = late.downcast::<tonic::Status>().unwrap();
        assert_eq!(late.code(), Code::DeadlineExceeded);
        let (mut body, _) = begun(10, wait(None));
        body.frame().await.unwrap().unwrap();
        let waiting = tokio::time::timeout(Duration::from_millis(50), body.frame());
        assert!(waiting.await.is_err());
    }
}
