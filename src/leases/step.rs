//! What a driver and its holder say to each other, and the protocol's times.

use std::time::Duration;

use super::message::{Call, Ceiling, Epoch};
use crate::domain::ids::RunId;

/// What every holder of a run is made with, and shares with the others.
#[derive(Clone, Copy, Debug)]
pub struct HolderSeed {
    pub run: RunId,
    pub times: LeaseTimes,
}

/// The protocol's times.
#[derive(Clone, Copy, Debug)]
pub struct LeaseTimes {
    /// How long the first in the queue waits for others to return what is unspent.
    pub recall_wait: Duration,
    /// How often a waiting run asks again when no hint arrives.
    pub poll: Duration,
    /// Longest wait in the queue, from the first call of a want.
    pub queue_wait_max: Duration,
    /// How long a foreign want may stand first without moving before it is taken for dead.
    pub depose_after: Duration,
    /// How soon changed totals are told when nothing else calls for a call.
    pub settle: Duration,
    /// Pause after a failed call that no request waited for.
    pub retry: Duration,
    /// Demand that a refill covers.
    pub prefetch: Duration,
}

/// Demand that a refill covers of a run that alone counts.
const PREFETCH_ALONE: Duration = Duration::from_secs(60);

impl LeaseTimes {
    /// The same for a run that alone counts: what it has asked for ahead is missing to nobody.
    #[must_use]
    pub fn alone(self) -> Self {
        Self { prefetch: PREFETCH_ALONE, ..self }
    }
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self {
            recall_wait: Duration::from_millis(20),
            poll: Duration::from_millis(5),
            queue_wait_max: Duration::from_millis(500),
            depose_after: Duration::from_millis(60),
            settle: Duration::from_secs(1),
            retry: Duration::from_millis(100),
            prefetch: Duration::from_secs(1),
        }
    }
}

/// The requests that found too little in hand, in the order of their arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Amount of the first.
    pub head: u64,
    /// Sum of all.
    pub total: u64,
}

/// What the driver knows and the holder does not.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings {
    pub epoch: Epoch,
    /// From the tenant's plan; the holder goes on with a newer one if the key knows it.
    pub ceiling: Ceiling,
    /// Since the start of the run, monotonic.
    pub now: Duration,
}

/// What the driver has to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// There may be enough in hand now: try [`take`](super::cell::Cell::take) for the waiting requests again.
    Retry,
    /// Send this and hand the answer to `Holder::answered` or the failure to
    /// `Holder::failed`, before the next `Holder::next`.
    Send(Box<Call>),
    /// Deny the head, and every other request that was waiting when the last call was built and
    /// asks for more than `remaining`, which counts what others may yet return; without that, there
    /// were `at_hand`.
    Deny { why: Denial, remaining: u64, at_hand: u64 },
    /// The counters cannot grant anything now: apply the limit's outage policy to all who wait.
    Unavailable,
    /// Wait until then, or until a recall hint, a new head, or something given back.
    Wait { until: Duration },
    /// Nothing to do before `until` (`None` = until something happens).
    Rest { until: Option<Duration> },
    /// A call is under way.
    InFlight,
    /// The run was closed by someone else: it must not serve any longer.
    Fenced,
    /// Everything is returned and told; the cell can be dropped.
    Retired,
}

/// Why a request is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denial {
    /// Nobody had enough unspent.
    Exhausted,
    /// Others did not return what they may have had within the wait.
    RecallTimedOut,
}
