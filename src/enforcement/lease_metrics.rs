//! What the drivers of the leases count: handles are registered once.

use metrics::{Counter as Count, Gauge, counter, describe_counter, describe_gauge, gauge};

use crate::leases::{
    holder::Denial,
    message::{Answer, Call, Outcome},
};

const OUTCOMES: [&str; 11] = [
    "met",
    "first",
    "behind",
    "refused",
    "recovering",
    "overtaken",
    "floor_needed",
    "stale_epoch",
    "epoch_lost",
    "fenced",
    "failed",
];
const REASONS: [&str; 2] = ["exhausted", "recall_timed_out"];

/// Handles of the leases' metrics.
pub struct LeaseMetrics {
    calls: [Count; OUTCOMES.len()],
    refills: Count,
    granted_units: Count,
    recalls: Count,
    returned_units: Count,
    denials: [Count; REASONS.len()],
    live: Gauge,
    outstanding_units: Gauge,
}

impl LeaseMetrics {
    /// Registers every series, so that each is there before it first counts.
    pub fn register() -> Self {
        describe();
        Self {
            calls: OUTCOMES
                .map(|outcome| counter!("tollgate_lease_calls_total", "outcome" => outcome)),
            refills: counter!("tollgate_lease_refills_total"),
            granted_units: counter!("tollgate_lease_granted_units_total"),
            recalls: counter!("tollgate_lease_recalls_total"),
            returned_units: counter!("tollgate_lease_returned_units_total"),
            denials: REASONS.map(|why| counter!("tollgate_lease_denials_total", "why" => why)),
            live: gauge!("tollgate_leases_live"),
            outstanding_units: gauge!("tollgate_lease_outstanding_units"),
        }
    }

    /// Counts a call to a key, which is about to be taken in; `None` if it failed.
    pub(super) fn called(&self, call: &Call, answer: Option<&Answer>) {
        self.calls[answer.map_or(OUTCOMES.len() - 1, outcome)].increment(1);
        let Some(Answer::Counted(counted)) = answer else { return };
        let gained = counted.totals.granted.saturating_sub(call.totals.granted);
        if gained > 0 {
            self.refills.increment(1);
            self.granted_units.increment(gained);
        }
        if call.closed {
            self.recalls.increment(1);
        }
    }

    /// Counts units that go back to the shared counters.
    pub(super) fn returning(&self, units: u64) {
        self.returned_units.increment(units);
    }

    /// Counts requests that were denied for the same reason.
    pub(super) fn denied(&self, why: Denial, requests: usize) {
        let why = match why {
            Denial::Exhausted => 0,
            Denial::RecallTimedOut => 1,
        };
        self.denials[why].increment(requests as u64);
    }

    /// Shows how much escrow there is.
    #[allow(clippy::cast_precision_loss)] // Gauges are doubles.
    pub(super) fn show(&self, outstanding: Outstanding) {
        self.live.set(outstanding.leases as f64);
        self.outstanding_units.set(outstanding.units as f64);
    }
}

/// Escrow that counters hold.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    /// Counters that hold some.
    leases: u64,
    /// Base units over all meters.
    units: u64,
}

impl Outstanding {
    /// Adds what a counter holds.
    pub(super) fn add(&mut self, units: u64) {
        self.leases += u64::from(units > 0);
        self.units = self.units.saturating_add(units);
    }
}

/// Index of what an answer says among [`OUTCOMES`].
fn outcome(answer: &Answer) -> usize {
    match answer {
        Answer::Counted(counted) => match counted.outcome {
            Outcome::Met => 0,
            Outcome::First => 1,
            Outcome::Behind { .. } => 2,
            Outcome::Refused => 3,
            Outcome::Recovering => 4,
            Outcome::Overtaken => 5,
        },
        Answer::NeedFloor { .. } => 6,
        Answer::StaleEpoch { .. } => 7,
        Answer::EpochLost => 8,
        Answer::Fenced => 9,
    }
}

fn describe() {
    describe_counter!(
        "tollgate_lease_calls_total",
        "Calls about a lease by outcome: settlements, refills, wants, returns"
    );
    describe_counter!("tollgate_lease_refills_total", "Calls that brought escrow into hand");
    describe_counter!("tollgate_lease_granted_units_total", "Escrow brought into hand, base units");
    describe_counter!(
        "tollgate_lease_recalls_total",
        "Leases closed to return what was unspent: for others that want it, or at their end"
    );
    describe_counter!("tollgate_lease_returned_units_total", "Escrow returned unspent, base units");
    describe_counter!(
        "tollgate_lease_denials_total",
        "Requests that the shared counters left without units, by why"
    );
    describe_gauge!("tollgate_leases_live", "Counters that hold escrow");
    describe_gauge!(
        "tollgate_lease_outstanding_units",
        "Escrow held here and not consumed, base units over all meters"
    );
}
