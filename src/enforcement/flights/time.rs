//! A time that moves on when nobody has anything to do.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use tokio::runtime::{Builder, Runtime};

#[derive(Clone, Debug, Default)]
pub struct SimulatedTime(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    now: Duration,
    number: u64,
    /// By when they want to be woken, in the order in which they said so.
    sleepers: BTreeMap<(Duration, u64), Waker>,
}

impl SimulatedTime {
    /// A runtime of one thread that this time is the time of.
    pub fn runtime(&self) -> Runtime {
        let time = self.clone();
        let mut builder = Builder::new_current_thread();
        builder.on_thread_park(move || time.move_on());
        builder.build().unwrap()
    }

    pub fn now(&self) -> Duration {
        locked(&self.0).now
    }

    /// Waits for `end`.
    pub fn reach(&self, end: Duration) -> impl Future<Output = ()> + Send + use<> {
        let mut place = Place { time: self.clone(), at: None };
        poll_fn(move |context| {
            let mut inner = locked(&place.time.0);
            if let Some(at) = place.at {
                inner.sleepers.remove(&at);
            }
            if inner.now >= end {
                return Poll::Ready(());
            }
            inner.number += 1;
            let at = (end, inner.number);
            inner.sleepers.insert(at, context.waker().clone());
            drop(inner);
            place.at = Some(at);
            Poll::Pending
        })
    }

    /// Waits so long.
    pub fn sleep(&self, length: Duration) -> impl Future<Output = ()> + Send + use<> {
        self.reach(self.now() + length)
    }

    fn move_on(&self) {
        let mut inner = locked(&self.0);
        let Some(((now, _), waker)) = inner.sleepers.pop_first() else { return };
        inner.now = now.max(inner.now);
        drop(inner);
        // Others of the same instant are woken when this one has had its turn.
        waker.wake();
    }
}

/// A place among those who sleep.
struct Place {
    time: SimulatedTime,
    at: Option<(Duration, u64)>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(at) = self.at {
            locked(&self.time.0).sleepers.remove(&at);
        }
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
