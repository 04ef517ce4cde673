//! Runs a connection's calls inside the connection's own task.
//!
//! The usual server spawns a task for each call: a hand-over between threads, and in the end one
//! write per response. Here the calls that one read of the socket brought are begun one after the
//! other, right after it, and what they answered leaves in one write. That halves the CPU time of a
//! call that is answered from memory (`docs/performance.md`).
//!
//! A call that has to wait, for a lease or a disk, holds nobody back: it is polled beside the
//! connection, and only when it was woken. A call that has to *work* for long would; those are moved
//! to tasks of their own (`heavy`). A handler that panics ends alone.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use futures::{Stream, future::BoxFuture, stream::FuturesUnordered};
use h2::{Reason, RecvStream, server::SendResponse};
use http::Request;

use super::{
    call::{Call, Calls, GrpcService, Started},
    outgoing::{Answer, Sending},
};

/// Calls that there is room for between two rounds: one that had many does not come often.
const KEPT_MAX: usize = 64;

/// What was waited for beside the connection.
pub enum Event<S> {
    /// A call is answered.
    Answered,
    /// Something that the connection's owner waits for has happened.
    Signal(S),
}

/// A connection's calls that are not answered yet.
pub struct Handlers<S> {
    /// Those that have just begun. Empty between two rounds.
    starting: Vec<Handler>,
    /// Wakes each of its futures alone: neither a waiting call nor the owner's signals are polled
    /// again because the socket was readable.
    waiting: FuturesUnordered<BoxFuture<'static, Event<S>>>,
}

impl<S> Default for Handlers<S> {
    fn default() -> Self {
        Self { starting: Vec::new(), waiting: FuturesUnordered::new() }
    }
}

impl<S: 'static> Handlers<S> {
    /// Waits for something else beside the calls.
    pub fn add_signal(&self, signal: impl Future<Output = S> + Send + 'static) {
        self.waiting.push(Box::pin(async move { Event::Signal(signal.await) }));
    }

    /// Begins what has arrived.
    ///
    /// Most is answered at once. What is not is polled once more when all has begun, so that what
    /// each has put into a queue (the journal's) can be seen to together; what is not done then
    /// enters the set, where it is polled again and learns which waker to call.
    pub fn start<T: GrpcService>(
        &mut self,
        calls: &Calls<T>,
        arrived: &mut Vec<(Request<RecvStream>, SendResponse<Bytes>)>,
    ) {
        let mut cx = Context::from_waker(Waker::noop());
        for (request, mut respond) in arrived.drain(..) {
            let doing = match calls.start(request) {
                Started::Answered(answer) => send(answer, &mut respond).map(Doing::Send),
                Started::Waiting(call) => Some(Doing::Call(call)),
            };
            let Some(doing) = doing else { continue };
            let mut handler = Handler { doing, respond };
            if handler.poll_contained(&mut cx).is_pending() {
                self.starting.push(handler);
            }
        }
        self.starting.retain_mut(|handler| handler.poll_contained(&mut cx).is_pending());
        for mut handler in self.starting.drain(..) {
            self.waiting.push(Box::pin(async move {
                std::future::poll_fn(|cx| handler.poll_contained(cx)).await;
                Event::Answered
            }));
        }
        arrived.shrink_to(KEPT_MAX);
        self.starting.shrink_to(KEPT_MAX);
    }

    /// The next thing that was waited for and has happened.
    pub fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Event<S>> {
        match Pin::new(&mut self.waiting).poll_next(cx) {
            Poll::Ready(Some(event)) => Poll::Ready(event),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// One call, from its beginning until its answer is with HTTP/2.
struct Handler {
    doing: Doing,
    respond: SendResponse<Bytes>,
}

enum Doing {
    Call(Call),
    Send(Sending),
}

impl Handler {
    /// As [`Handler::poll`]; one that panics is done. Dropping it resets its stream, and neither its
    /// connection nor the others on it notice. The panic hook has told what happened.
    fn poll_contained(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        catch_unwind(AssertUnwindSafe(|| self.poll(cx))).unwrap_or(Poll::Ready(()))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Doing::Call(call) = &mut self.doing {
            let Poll::Ready(answer) = Pin::new(call).poll(cx) else {
                // Who has given up is not worked for.
                return self.respond.poll_reset(cx).map(|_| ());
            };
            match send(answer, &mut self.respond) {
                Some(sending) => self.doing = Doing::Send(sending),
                None => return Poll::Ready(()),
            }
        }
        let Doing::Send(sending) = &mut self.doing else { return Poll::Pending };
        if let Err(error) = ready!(sending.poll(cx)) {
            tracing::debug!(%error, "the answer to a call was not sent");
        }
        Poll::Ready(())
    }
}

/// Sends an answer: what is left to be sent, if anything is.
fn send(answer: Answer, respond: &mut SendResponse<Bytes>) -> Option<Sending> {
    match answer.send(respond) {
        Ok(rest) => rest,
        Err(error) => {
            tracing::debug!(%error, "a call could not be answered");
            respond.send_reset(Reason::INTERNAL_ERROR);
            None
        }
    }
}
