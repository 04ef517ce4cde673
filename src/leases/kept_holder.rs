//! What a holder knows of its key, beside what goes on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(test)]
use super::message::Ceiling;
use super::{demand::Demand, kept_ceiling::KeptCeiling};

/// All that there is of a holder while nothing goes on. It is kept of very many, as bytes: what is
/// mostly nothing comes last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptHolder {
    /// Of the last call: when it was built, microseconds since the start of the run, or a little more;
    /// 0 = there was none.
    pub(super) sequence: u64,
    pub(super) epoch: u64,
    pub(super) is_told: bool,
    pub(super) granted: u64,
    pub(super) demand: Demand,
    /// What the key has confirmed in this epoch beside `granted`, of which it knows as much; nothing
    /// counts of it unless `is_told`.
    pub(super) told: Told,
    pub(super) returned: u64,
    /// The newest ceiling that was told, by the driver or by the key.
    pub(super) ceiling: Option<KeptCeiling>,
    /// A call failed and may have happened: the key may know more than the holder.
    pub(super) uncertain: bool,
    /// A want of ours may stand in the key.
    pub(super) queued: bool,
    /// The last answer said that others want what is unspent here.
    pub(super) recalled: bool,
    /// A recall has come that the last call did not answer.
    pub(super) recall_due: bool,
    /// Someone wants to know how the key stands.
    pub(super) look_due: bool,
    /// A hint said that our want stands first or that something came free for it.
    pub(super) turn_due: bool,
    pub(super) retiring: Option<Retiring>,
    pub(super) fenced: bool,
}

impl KeptHolder {
    /// When the last call was built, since the start of the run.
    pub(super) fn called_at(&self) -> Option<Duration> {
        (self.sequence != 0).then(|| Duration::from_micros(self.sequence))
    }
}

/// Totals of which the key has heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    pub consumed: u64,
    pub recorded: u64,
    pub undone: u64,
    pub returned: u64,
}

/// How a cell is to be given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Retiring {
    /// Of the key, if it has one.
    pub retention: Option<Duration>,
    /// No answer has shown yet that the counters were the same when the cell parted.
    pub farewell_due: bool,
}

#[cfg(test)]
impl KeptHolder {
    /// One whose numbers are all as long as they can be.
    pub fn longest() -> Self {
        const MAX: u64 = u64::MAX;
        let mut demand = Demand::default();
        demand.observe(MAX, Duration::ZERO);
        Self {
            sequence: MAX,
            epoch: MAX,
            is_told: true,
            granted: MAX,
            demand,
            told: Told { consumed: MAX, recorded: MAX, undone: MAX, returned: MAX },
            returned: MAX,
            ceiling: Some(Ceiling { units: Some(MAX - 2), version: MAX }.into()),
            uncertain: true,
            queued: true,
            recalled: true,
            recall_due: true,
            look_due: true,
            turn_due: true,
            retiring: Some(Retiring { retention: Some(Duration::MAX), farewell_due: true }),
            fenced: true,
        }
    }
}
