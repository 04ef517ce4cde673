//! One connection and one stream on it, in which every message is a check of its own and is answered
//! by its number, in any order.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use anyhow::{Context as _, anyhow, bail};
use bytes::{Buf, Bytes, BytesMut};
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};

use crate::{
    calls::{PREFIX_BYTES, Requests},
    connection::LAST_ANSWERS,
    http2::{self, Connection, check_end, check_head},
    plan::{End, Plan, Tally, Window},
    slots::Slots,
};

/// Loads one stream until the window has passed, and sees it end well.
pub async fn load(
    plan: Arc<Plan>,
    requests: Arc<Requests>,
    window: Window,
) -> anyhow::Result<Tally> {
    let (sender, mut connection) = http2::connect(&plan).await?;
    let head = http2::head(&plan, requests.path())?;
    let mut sender = tokio::select! {
        sender = sender.ready() => sender?,
        end = connection.as_mut() => {
            end?;
            bail!("the server closed the connection");
        }
    };
    let (answer, out) = sender.send_request(head, false)?;
    let load = Load {
        connection,
        _sender: sender,
        out,
        answers: Answers { from: From::Head(answer), received: BytesMut::new() },
        slots: Slots::new(&plan, window.start - plan.warmup),
        sent: Sent::default(),
        requests,
        window,
        is_ended: false,
        tally: Tally::new(),
    };
    tokio::time::timeout_at((window.end + LAST_ANSWERS).into(), load)
        .await
        .context("the stream did not end within 10 s")?
}

struct Load {
    connection: Connection,
    /// The connection ends when nobody can send any more.
    _sender: SendRequest<Bytes>,
    out: SendStream<Bytes>,
    answers: Answers,
    slots: Slots,
    sent: Sent,
    requests: Arc<Requests>,
    window: Window,
    /// All that there is to send was sent.
    is_ended: bool,
    tally: Tally,
}

impl Future for Load {
    type Output = anyhow::Result<Tally>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            let mut news = false;
            if let Poll::Ready(end) = this.connection.as_mut().poll(cx) {
                end?;
                return Poll::Ready(Err(anyhow!("the server closed the connection")));
            }
            while let Poll::Ready(message) = this.answers.poll_next(cx)? {
                news = true;
                match message {
                    Some(message) => this.count(&message)?,
                    None if this.is_ended && this.sent.in_flight == 0 => {
                        return Poll::Ready(Ok(std::mem::replace(&mut this.tally, Tally::new())));
                    }
                    None => {
                        return Poll::Ready(Err(anyhow!("the server ended the stream early")));
                    }
                }
            }
            let now = Instant::now();
            if now < this.window.end {
                while let Some(due) = this.slots.take(now, this.sent.in_flight) {
                    news = true;
                    let id = this.sent.add(due);
                    this.out.send_data(this.requests.next_in_stream(id), false)?;
                }
                this.slots.wait(now, cx);
            } else if this.sent.in_flight == 0 && !this.is_ended {
                news = true;
                this.is_ended = true;
                this.out.send_data(Bytes::new(), true)?;
            }
            if !news {
                return Poll::Pending;
            }
        }
    }
}

impl Load {
    fn count(&mut self, message: &[u8]) -> anyhow::Result<()> {
        let (id, is_allowed) = self.requests.answered_in_stream(message)?;
        let due = self.sent.take(id).with_context(|| format!("nobody asked for answer {id}"))?;
        let end = if is_allowed { End::Allowed } else { End::Denied };
        self.tally.count(&self.window, due, Instant::now(), end);
        Ok(())
    }
}

/// When what is not answered yet was due. Its place here is its number in the stream.
#[derive(Default)]
struct Sent {
    due: Vec<Option<Instant>>,
    free: Vec<usize>,
    in_flight: usize,
}

impl Sent {
    fn add(&mut self, due: Instant) -> u64 {
        self.in_flight += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.due.push(None);
            self.due.len() - 1
        });
        self.due[place] = Some(due);
        place as u64
    }

    /// `None` when there is none of this number.
    fn take(&mut self, id: u64) -> Option<Instant> {
        let place = usize::try_from(id).ok()?;
        let due = self.due.get_mut(place)?.take()?;
        self.free.push(place);
        self.in_flight -= 1;
        Some(due)
    }
}

/// The messages that arrive.
struct Answers {
    from: From,
    received: BytesMut,
}

/// Where the next part of the answers comes from.
enum From {
    Head(ResponseFuture),
    Body(RecvStream),
}

impl Answers {
    /// The next message without its prefix; `None` when the stream has ended, and well.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<anyhow::Result<Option<Bytes>>> {
        loop {
            if let Some(message) = split_message(&mut self.received) {
                return Poll::Ready(Ok(Some(message)));
            }
            match &mut self.from {
                From::Head(head) => {
                    let (head, body) = ready!(Pin::new(head).poll(cx))?.into_parts();
                    check_head(&head.headers).map_err(anyhow::Error::msg)?;
                    self.from = From::Body(body);
                }
                From::Body(body) => match ready!(body.poll_data(cx)) {
                    Some(data) => {
                        let data = data?;
                        body.flow_control().release_capacity(data.len())?;
                        self.received.extend_from_slice(&data);
                    }
                    None => {
                        let trailers = ready!(body.poll_trailers(cx))?.unwrap_or_default();
                        check_end(&trailers).map_err(anyhow::Error::msg)?;
                        return Poll::Ready(Ok(None));
                    }
                },
            }
        }
    }
}

/// Takes the first message off, once all of it is there.
fn split_message(received: &mut BytesMut) -> Option<Bytes> {
    let length = received.get(1..PREFIX_BYTES)?.try_into().map(u32::from_be_bytes).ok()? as usize;
    if received.len() < PREFIX_BYTES + length {
        return None;
    }
    received.advance(PREFIX_BYTES);
    Some(received.split_to(length).freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_off_one_by_one_however_they_arrive() {
        let mut received = BytesMut::new();
        let mut taken = vec![];
        for part in [&b"\0\0\0"[..], b"\0\x02a", b"b\0\0\0\0\0\0\0", b"\0\0\x01c"] {
            received.extend_from_slice(part);
            while let Some(message) = split_message(&mut received) {
                taken.push(message);
            }
        }
        assert_eq!(taken, [&b"ab"[..], b"", b"c"]);
    }

    #[test]
    fn an_answer_belongs_to_what_was_sent_under_its_number_and_to_nothing_twice() {
        let (mut sent, now) = (Sent::default(), Instant::now());
        let later = now + LAST_ANSWERS;
        let (first, second) = (sent.add(now), sent.add(later));
        assert_eq!(sent.take(second), Some(later));
        assert_eq!(sent.take(second), None);
        assert_eq!(sent.take(77), None);
        assert_eq!((sent.add(later), sent.in_flight), (second, 2));
        assert_eq!(sent.take(first), Some(now));
    }
}
