//! Runs a connection's handlers inside the connection's own task.
//!
//! hyper hands every request to an executor, and the usual one spawns a task for each: a hand-over
//! between threads, and in the end one write per response. Here the handlers that one read of the
//! socket brought are polled one after the other, right after it, and what they answered leaves in
//! one write. That halves the CPU time of a call that is answered from memory (the figures are in
//! `loadtest/README.md`).
//!
//! A handler that has to wait, for a lease or a disk, holds nobody back: it is polled beside the
//! connection, and only when it was woken. A handler that has to *work* for long would; those are
//! moved to tasks of their own (`heavy`). A handler that panics ends alone.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use futures::{Stream, future::BoxFuture, stream::FuturesUnordered};

/// How often a handler is polled before it enters the set of those that wait.
const POLLS_AT_START: usize = 2;

/// Takes the handlers that hyper starts and keeps them for their connection.
#[derive(Clone, Default)]
pub struct InlineExecutor {
    /// Guards the handlers that arrived since the connection last looked. Only the connection's own
    /// task takes it, so that it is never waited for.
    arrived: Arc<Mutex<Vec<BoxFuture<'static, ()>>>>,
}

impl<F> hyper::rt::Executor<F> for InlineExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, handler: F) {
        self.lock().push(Box::pin(handler));
    }
}

impl InlineExecutor {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<BoxFuture<'static, ()>>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was waited for beside the connection.
pub enum Event<S> {
    /// A handler is done.
    Answered,
    /// Something that the connection's owner waits for has happened.
    Signal(S),
}

/// A connection's handlers: those that have just arrived, and those that wait.
pub struct Handlers<S> {
    executor: InlineExecutor,
    /// The vector that is swapped with the executor's, so that neither is allocated again.
    starting: Vec<BoxFuture<'static, ()>>,
    /// Wakes each of its futures alone: neither a waiting handler nor the owner's signals are
    /// polled again because the socket was readable.
    waiting: FuturesUnordered<BoxFuture<'static, Event<S>>>,
}

impl<S: 'static> Handlers<S> {
    /// Handlers of the connection that hyper serves with `executor`.
    pub fn new(executor: InlineExecutor) -> Self {
        Self { executor, starting: Vec::new(), waiting: FuturesUnordered::new() }
    }

    /// Waits for something else beside the handlers.
    pub fn add_signal(&self, signal: impl Future<Output = S> + Send + 'static) {
        self.waiting.push(Box::pin(async move { Event::Signal(signal.await) }));
    }

    /// Starts the handlers that have arrived; says whether there were any.
    ///
    /// Most are done at once. The others are polled once more when all have begun, so that what
    /// each has put into a queue (the journal's) can be seen to together; those that are not done
    /// then enter the set, where they are polled again and learn which waker to call.
    pub fn start_arrived(&mut self) -> bool {
        std::mem::swap(&mut self.starting, &mut *self.executor.lock());
        let any = !self.starting.is_empty();
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..POLLS_AT_START {
            self.starting.retain_mut(|handler| poll_contained(handler, &mut cx).is_pending());
        }
        for handler in self.starting.drain(..) {
            let contained = Contained { handler };
            self.waiting.push(Box::pin(async move {
                contained.await;
                Event::Answered
            }));
        }
        any
    }

    /// The next thing that was waited for and has happened.
    pub fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Event<S>> {
        match Pin::new(&mut self.waiting).poll_next(cx) {
            Poll::Ready(Some(event)) => Poll::Ready(event),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl<S> Drop for Handlers<S> {
    /// Handlers own an executor and the executor owns handlers: what arrived and was never started
    /// would keep itself alive.
    fn drop(&mut self) {
        let arrived = std::mem::take(&mut *self.executor.lock());
        drop(arrived);
    }
}

/// A handler whose panic ends it like an answer.
struct Contained {
    handler: BoxFuture<'static, ()>,
}

impl Future for Contained {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        poll_contained(&mut self.handler, cx)
    }
}

/// Polls a handler; one that panics is done. Dropping it resets its stream, and neither its
/// connection nor the others on it notice. The panic hook has told what happened.
fn poll_contained(handler: &mut BoxFuture<'static, ()>, cx: &mut Context<'_>) -> Poll<()> {
    catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx))).unwrap_or(Poll::Ready(()))
}
