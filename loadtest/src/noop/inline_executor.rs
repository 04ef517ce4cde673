//! Runs hyper's handlers inside their connection's task.
//!
//! hyper hands every request to an executor, and the usual one spawns a task for each. Here those
//! that one read of the socket brought are polled one after the other, right after it, and what they
//! answered leaves in one write.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use futures::{Stream, future::BoxFuture, stream::FuturesUnordered};

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

/// A connection's handlers: those that have just arrived, and those that wait.
pub struct Handlers {
    executor: InlineExecutor,
    /// The vector that is swapped with the executor's, so that neither is allocated again.
    starting: Vec<BoxFuture<'static, ()>>,
    waiting: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Handlers {
    /// Handlers of the connection that hyper serves with `executor`.
    pub fn new(executor: InlineExecutor) -> Self {
        Self { executor, starting: Vec::new(), waiting: FuturesUnordered::new() }
    }

    /// Polls those that have arrived and those that were woken; says whether there were any.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        std::mem::swap(&mut self.starting, &mut *self.executor.lock());
        let mut any = !self.starting.is_empty();
        let mut nobody = Context::from_waker(Waker::noop());
        self.starting.retain_mut(|handler| handler.as_mut().poll(&mut nobody).is_pending());
        self.waiting.extend(self.starting.drain(..));
        while let Poll::Ready(Some(())) = Pin::new(&mut self.waiting).poll_next(cx) {
            any = true;
        }
        any
    }
}

impl Drop for Handlers {
    /// Handlers own an executor and the executor owns handlers: what arrived and was never started
    /// would keep itself alive.
    fn drop(&mut self) {
        let arrived = std::mem::take(&mut *self.executor.lock());
        drop(arrived);
    }
}
