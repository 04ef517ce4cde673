//! What of a request's body is there when its call begins.
//!
//! A client sends head and message of a small call together, so that both come with one read of the
//! socket: such a call need not be prepared for a message that comes late, in pieces or large.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame};

use super::{
    heavy::{HEAVY_BYTES, PREFIX_BYTES},
    incoming::Incoming,
};

type Read = Option<Result<Frame<Bytes>, h2::Error>>;

/// A body that was looked at once.
pub enum Begun {
    /// All that comes: one message that is not heavy, with its prefix, and the end.
    Whole(Bytes),
    /// Anything else.
    Part(BegunBody),
}

impl Begun {
    /// Looks at `body`.
    pub fn of(mut body: Incoming) -> Self {
        // Nobody has to be woken: who reads on asks again.
        let mut cx = Context::from_waker(Waker::noop());
        let first = match Pin::new(&mut body).poll_frame(&mut cx) {
            Poll::Pending => None,
            Poll::Ready(Some(Ok(frame))) if body.is_end_stream() => match frame.into_data() {
                Ok(data) if is_message(&data) => return Self::Whole(data),
                Ok(data) => Some(Some(Ok(Frame::data(data)))),
                Err(frame) => Some(Some(Ok(frame))),
            },
            Poll::Ready(read) => Some(read),
        };
        Self::Part(BegunBody { first, rest: Some(body) })
    }
}

/// Whether `data` is one message, not compressed and not heavy.
fn is_message(data: &[u8]) -> bool {
    let Some((prefix, message)) = data.split_first_chunk::<PREFIX_BYTES>() else { return false };
    let bytes = (&prefix[1..]).get_u32();
    prefix[0] == 0 && bytes <= HEAVY_BYTES && message.len() == bytes as usize
}

/// A body of which the first frame may have been read.
pub struct BegunBody {
    first: Option<Read>,
    /// Absent when nothing comes after the first.
    rest: Option<Incoming>,
}

impl BegunBody {
    /// A body that is all there.
    pub fn whole(data: Bytes) -> Self {
        Self { first: Some(Some(Ok(Frame::data(data)))), rest: None }
    }
}

impl From<Begun> for BegunBody {
    fn from(begun: Begun) -> Self {
        match begun {
            Begun::Whole(data) => Self::whole(data),
            Begun::Part(body) => body,
        }
    }
}

impl Body for BegunBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Read> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(first);
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.as_ref().is_none_or(Incoming::is_end_stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_plain_message_of_the_length_that_it_says_is_whole() {
        let framed = |flag: u8, bytes: u32, sent: usize| {
            [&[flag], bytes.to_be_bytes().as_slice(), &vec![0; sent]].concat()
        };
        assert!(is_message(&framed(0, 0, 0)));
        assert!(is_message(&framed(0, 7, 7)));
        assert!(is_message(&framed(0, HEAVY_BYTES, HEAVY_BYTES as usize)));
        assert!(!is_message(&framed(0, HEAVY_BYTES + 1, HEAVY_BYTES as usize + 1)), "heavy");
        assert!(!is_message(&framed(1, 7, 7)), "compressed");
        assert!(!is_message(&framed(0, 7, 6)), "cut off");
        assert!(!is_message(&framed(0, 7, 8)), "another one follows");
        assert!(!is_message(&[0, 0, 0, 0]));
    }
}
