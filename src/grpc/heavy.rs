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
};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// Longest message that is handled inside the connection's task, bytes: about 100 µs of decoding.
pub const HEAVY_BYTES: u32 = 64 << 10;
/// gRPC's length-prefixed message: a flag byte, then the length, big-endian.
const PREFIX_BYTES: usize = 5;

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

/// A request's body that reads the length prefix of its first message on the way.
pub struct WeighedBody {
    body: Incoming,
    weight: Weight,
    prefix: [u8; PREFIX_BYTES],
    prefix_read: usize,
    /// The frame with the end of a heavy prefix, until the call has had the occasion to move.
    held: Option<Frame<Bytes>>,
}

impl WeighedBody {
    /// Weighs `body`; the result is told through `weight`.
    pub fn new(body: Incoming, weight: Weight) -> Self {
        Self { body, weight, prefix: [0; PREFIX_BYTES], prefix_read: 0, held: None }
    }

    /// Reads the prefix out of `data`; the length once it is complete and heavy.
    fn weigh(&mut self, data: &[u8]) -> Option<u32> {
        let part = data.len().min(PREFIX_BYTES - self.prefix_read);
        self.prefix[self.prefix_read..self.prefix_read + part].copy_from_slice(&data[..part]);
        self.prefix_read += part;
        if self.prefix_read < PREFIX_BYTES {
            return None;
        }
        Some((&self.prefix[1..]).get_u32()).filter(|bytes| *bytes > HEAVY_BYTES)
    }
}

impl Body for WeighedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(frame) = self.held.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) if self.prefix_read < PREFIX_BYTES => frame,
            other => return Poll::Ready(other),
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
