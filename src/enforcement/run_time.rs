//! The time of a run, monotonic, since its start: what leases wait by.

use std::{
    future::{Future, pending},
    pin::pin,
    time::Duration,
};

use futures::future::{Either, select};
use tokio::time::{Instant, sleep_until};

/// See the module.
#[derive(Clone, Debug)]
pub enum RunTime {
    /// The process' own.
    Since(Instant),
    /// Moves on when nobody has anything to do.
    #[cfg(test)]
    Simulated(super::flights::time::SimulatedTime),
}

impl RunTime {
    /// Begins now.
    pub fn start() -> Self {
        Self::Since(Instant::now())
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        match self {
            Self::Since(started) => started.elapsed(),
            #[cfg(test)]
            Self::Simulated(time) => time.now(),
        }
    }

    /// What `future` comes to, if it does before `end`.
    pub async fn until<F: Future>(&self, end: Duration, future: F) -> Option<F::Output> {
        match select(pin!(future), pin!(self.reach(end))).await {
            Either::Left((output, _)) => Some(output),
            Either::Right(((), _)) => None,
        }
    }

    async fn reach(&self, end: Duration) {
        match self {
            Self::Since(started) => match started.checked_add(end) {
                Some(end) => sleep_until(end).await,
                None => pending().await,
            },
            #[cfg(test)]
            Self::Simulated(time) => time.reach(end).await,
        }
    }
}
