//! When requests are due on a connection.

use std::{
    pin::{Pin, pin},
    task::Context,
    time::{Duration, Instant},
};

use tokio::time::Sleep;

use crate::plan::{Pace, Plan};

/// How late requests of an open loop may be sent because of the timer.
const TICK: Duration = Duration::from_millis(1);

/// When requests are due on one connection.
pub enum Slots {
    Closed { in_flight: usize },
    Open { next: Instant, gap: Duration, in_flight_max: usize, tick: Pin<Box<Sleep>> },
}

impl Slots {
    /// Slots of one of the plan's connections, from `start` on.
    pub fn new(plan: &Plan, start: Instant) -> Self {
        match plan.pace {
            Pace::Closed { in_flight } => Self::Closed { in_flight },
            Pace::Open { per_second, in_flight_max } => Self::Open {
                next: start,
                gap: Duration::from_secs_f64(plan.connections as f64 / per_second),
                in_flight_max,
                tick: Box::pin(tokio::time::sleep(TICK)),
            },
        }
    }

    /// The instant at which the next request was due, if one is.
    pub fn take(&mut self, now: Instant, in_flight: usize) -> Option<Instant> {
        match self {
            Self::Closed { in_flight: most } => (in_flight < *most).then_some(now),
            Self::Open { next, gap, in_flight_max, .. } => {
                if in_flight >= *in_flight_max || *next > now {
                    return None;
                }
                let due = *next;
                *next += *gap;
                Some(due)
            }
        }
    }

    /// Has the task woken when the next request is due.
    pub fn wait(&mut self, now: Instant, cx: &mut Context<'_>) {
        if let Self::Open { tick, .. } = self {
            while pin!(tick.as_mut()).poll(cx).is_ready() {
                tick.as_mut().reset((now + TICK).into());
            }
        }
    }
}
