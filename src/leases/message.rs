//! What a run and a key say to each other. Amounts are base units below 2^53.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::{amount::AMOUNT_MAX, ids::RunId};

/// What one run has done on one key, ever. Each total only grows, so that two reports of one run
/// merge by maximum and a lost, repeated or late report is harmless.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Escrow handed out to the run. Only the key makes it grow; the run repeats what it knows.
    pub granted: u64,
    /// Escrow handed back unspent.
    pub returned: u64,
    /// Usage paid out of escrow; never above `granted − returned`.
    pub consumed: u64,
    /// Usage counted without escrow: after the fact, without a ceiling, or during an outage.
    pub recorded: u64,
    /// Counted usage that the ledger took back: duplicates, quarantined events, a level's
    /// decreases. May exceed the run's own usage, because a level that one run raised another
    /// may lower.
    pub undone: u64,
}

impl Totals {
    /// The later of two reports: each total's maximum.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        Self {
            granted: self.granted.max(other.granted),
            returned: self.returned.max(other.returned),
            consumed: self.consumed.max(other.consumed),
            recorded: self.recorded.max(other.recorded),
            undone: self.undone.max(other.undone),
        }
    }

    /// The totals as amounts that a double holds exactly. The key takes a run that has come to
    /// [`AMOUNT_MAX`] for one that has used all there is, so nothing is lost by saying no more.
    #[must_use]
    pub fn fitted(self) -> Self {
        Self {
            granted: self.granted.min(AMOUNT_MAX),
            returned: self.returned.min(AMOUNT_MAX),
            consumed: self.consumed.min(AMOUNT_MAX),
            recorded: self.recorded.min(AMOUNT_MAX),
            undone: self.undone.min(AMOUNT_MAX),
        }
    }
}

/// Which life of the counters a call is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Grows by one whenever the counters have lost data.
    pub number: u64,
    /// Every run that was open when the epoch began has re-sent its totals on all its keys, or was
    /// closed and folded into all its keys.
    pub recovered: bool,
}

/// The number that may never be passed, with the version of the plan data it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ceiling {
    /// Units per window; `None` = none: usage is only counted.
    pub units: Option<u64>,
    /// Grows with every change of the tenant's plan data; the newest one seen by the key holds.
    pub version: u64,
}

impl Ceiling {
    /// The ceiling, or the highest that a double holds exactly.
    #[must_use]
    pub fn fitted(self) -> Self {
        Self { units: self.units.map(|units| units.min(AMOUNT_MAX)), ..self }
    }
}

/// What a call asks for. The numbers are totals of `granted`, each at least the one before, so that
/// a repeated ask adds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Names the want: the queue keeps its place as long as the run goes on asking under it.
    pub want: u64,
    /// Enough for the first waiting request. All or nothing.
    pub need_to: u64,
    /// Enough for all waiting requests.
    pub wanted_to: u64,
    /// With what is worth having in advance.
    pub target: u64,
    /// Waiting is over: grant it now or forget the want.
    pub last: bool,
}

/// One message of a run to a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub run: RunId,
    /// Grows with each call of the run on this key. A call that was overtaken still merges its
    /// totals, but asks for nothing any more.
    pub sequence: u64,
    pub epoch: Epoch,
    pub totals: Totals,
    pub ceiling: Ceiling,
    pub ask: Ask,
    /// The run's cell is closed: everything unspent that it knows of is in `totals.returned`.
    pub closed: bool,
    /// Ticket of a want at the head of the queue that has not moved for too long (its run is dead
    /// or unreachable); it is dropped if it is still at the head.
    pub depose: Option<u64>,
    /// The run is done with the key for now: forget it after this long, unless another call comes or
    /// somebody holds something of it.
    pub retention: Option<Duration>,
    /// Brought when the key asked for it.
    pub floor: Option<Box<Floor>>,
}

impl Call {
    /// Whether all that it tells are amounts that a double holds exactly. What does not fit is
    /// told as the nearest amount that does, and counts as all there is.
    pub fn fits(&self) -> bool {
        self.totals == self.totals.fitted()
            && self.ceiling == self.ceiling.fitted()
            && self.floor.as_ref().is_none_or(|floor| {
                floor.base_used.unsigned_abs() <= AMOUNT_MAX
                    && floor.base_forfeited <= AMOUNT_MAX
                    && floor.open_runs.iter().all(|run| *run == run.fitted())
            })
    }
}

/// The ledger's knowledge of a key, read in one snapshot in which the run that brings it was open:
/// an absent key is rebuilt from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// Every run closed with a number up to this one is in the base, and no other.
    pub closed_seq: u64,
    /// Σ (used − undone) of the closed runs; negative only where levels were lowered by them.
    pub base_used: i64,
    /// Σ forfeited of the closed runs.
    pub base_forfeited: u64,
    /// The least version of a ceiling that may hold: an older one has been replaced. 0 = any may.
    pub ceiling_version: u64,
    /// What the ledger has of runs that are still open.
    pub open_runs: Vec<Flushed>,
}

/// One run's flushed totals on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flushed {
    pub run: RunId,
    /// Every unit that the run counted and flushed, before anything was taken back: the part of
    /// its `consumed + recorded` that the ledger has.
    pub used: u64,
    /// The run's `undone`: duplicates, quarantined events, decreases.
    pub undone: u64,
}

impl Flushed {
    /// As [`Totals::fitted`].
    #[must_use]
    pub fn fitted(self) -> Self {
        Self { used: self.used.min(AMOUNT_MAX), undone: self.undone.min(AMOUNT_MAX), ..self }
    }
}

/// The key's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Counted(Counted),
    /// The key is absent, or does not remember whether the run is closed: call again with a floor
    /// whose `closed_seq` is at least this one.
    NeedFloor {
        closed_seq_min: u64,
    },
    /// The counters live in a later epoch than the call.
    StaleEpoch {
        epoch: u64,
    },
    /// The counters are not those that the call's epoch was made for: they have lost data since.
    EpochLost,
    /// The run has been closed; nothing it says counts any more.
    Fenced,
}

/// The state of a key after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The caller's totals as the key has them now, `granted` included.
    pub totals: Totals,
    /// Ceiling − (used + outstanding + forfeited); negative when over; [`AMOUNT_MAX`] without one.
    pub free: i64,
    /// Usage of all runs, closed and open, as far as reported.
    pub used: i64,
    /// Units counted against the ceiling that nobody used.
    pub forfeited: u64,
    /// Escrow of the other runs that is not known to be consumed.
    pub others_outstanding: u64,
    /// The ceiling in force; newer than the call's where the caller was behind.
    pub ceiling: Ceiling,
    /// What became of the ask.
    pub outcome: Outcome,
    /// Others want what this run has unspent (or the ceiling was lowered): close and return.
    pub recalled: bool,
    /// Every recall up to this ticket counts as answered by the run.
    pub answered: u64,
}

/// What became of an ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The need is met (or there was none).
    Met,
    /// Not now; the want stands first in the queue.
    First,
    /// Not now; another want, with this ticket, stands first.
    Behind { first: u64 },
    /// No: it could not be met even if everybody who can be asked returned what is unspent, or it
    /// was the last call of a want. The want is forgotten.
    Refused,
    /// The epoch is not recovered: totals were merged, nothing can be granted.
    Recovering,
    /// The call was overtaken by a later one of the same run.
    Overtaken,
}

/// Told to all runs: the first want of a key has changed, or something came free for it. A hint
/// only; every answer says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recall {
    /// Runs that have answered up to here need not answer again.
    pub ticket: u64,
    /// Who stands first: keeps what it has and asks again. `None`: the ceiling was lowered.
    pub first: Option<RunId>,
    /// Whose call brought this about; it has read the same in its answer.
    pub by: RunId,
}

/// The steps of closing a run on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseCall {
    pub epoch: u64,
    pub run: RunId,
    pub step: CloseStep,
    /// Every closing up to this one is folded wherever it has to be. 0 = none is.
    pub folded_through: u64,
    /// Runs that the key remembers one by one, at least 1: beyond them it forgets those whose
    /// closings are folded everywhere.
    pub fenced_max: u64,
    /// Forget the key after this long, unless another call comes or somebody holds something of it.
    pub retention: Option<Duration>,
}

/// What to do with a run that will not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseStep {
    /// Refuse its calls from now on and tell what it has, so that the ledger can note what to
    /// forfeit before it closes the run. Not needed when nothing is forfeited.
    Fence,
    /// The ledger has closed the run: replace the run's entry by the ledger's truth.
    Fold {
        /// The number that the ledger gave to the closing.
        closed_seq: u64,
        /// As in [`Flushed`], final.
        used: u64,
        undone: u64,
        /// Units that stay counted though nobody used them, as the ledger noted them.
        forfeit: u64,
    },
}

impl CloseStep {
    /// The step with amounts that a double holds exactly. Of what was used and undone only the
    /// difference matters from here on; where that does not fit, the nearest that does.
    #[must_use]
    pub fn fitted(self) -> Self {
        let Self::Fold { closed_seq, used, undone, forfeit } = self else { return self };
        let (used, undone) = match used.max(undone) <= AMOUNT_MAX {
            true => (used, undone),
            false => (used.saturating_sub(undone), undone.saturating_sub(used)),
        };
        Self::Fold {
            closed_seq,
            used: used.min(AMOUNT_MAX),
            undone: undone.min(AMOUNT_MAX),
            forfeit: forfeit.min(AMOUNT_MAX),
        }
    }
}

/// The answer to a [`CloseCall`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseAnswer {
    /// The run is fenced. `taken` is what it used and held, before `undone`; `None` when the key
    /// has never heard from the run in this epoch.
    Fenced {
        taken: Option<u64>,
    },
    /// The run is part of the base (also when it was before).
    Folded,
    /// The key is absent. A later floor must be at least as new as the closing.
    Absent,
    /// Nothing has happened: the key remembers as many runs as it can whose closings are not folded
    /// everywhere. These have to be brought to their end first.
    Crowded,
    StaleEpoch {
        epoch: u64,
    },
    EpochLost,
}
