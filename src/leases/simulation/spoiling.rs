//! Where planted mistakes are made: on the way between the real machines, and in the models
//! around them, so that the machines know nothing of it.

use uuid::Uuid;

use super::{planted::Planted, world::World};
use crate::{
    domain::ids::RunId,
    leases::{
        key::KeyState,
        message::{Answer, Call, Ceiling, Counted, Floor, Recall, Totals},
    },
};

/// After this long the mistaken key takes a run for dead, in microseconds.
const SILENT_US: u64 = 20_000;

impl World {
    pub(super) fn is_planted(&self, planted: Planted) -> bool {
        self.plan.planted == Some(planted)
    }

    /// A call as the key takes it.
    pub(super) fn as_taken(&self, call: &Call, key: usize) -> Call {
        let mut call = call.clone();
        let Some(planted) = self.plan.planted else { return call };
        let known = self.key(key).filter(|known| known.epoch() == call.epoch.number);
        match (planted, known) {
            (Planted::TotalsAdded, Some(known)) => {
                if let Some((.., totals)) = entry(known, call.run) {
                    call.totals = added(totals, call.totals);
                }
            }
            (Planted::OldCeilingAccepted, Some(known)) => {
                if let Some(Ceiling { units, version }) = known.ceiling()
                    && units != call.ceiling.units
                {
                    call.ceiling.version = version + 1;
                }
            }
            (Planted::ClosedRunFounds, Some(known)) if known.is_founded() => {
                // The key asks no run whose name it does not know for a proof.
                let proof = Floor { closed_seq: u64::MAX, ..Floor::default() };
                call.floor = Some(Box::new(proof));
            }
            (Planted::OvertakenAsks, _) => call.sequence = self.now,
            (Planted::ClosedRunHeard, _) if self.is_folded(call.run, key) => {
                // The key has forgotten the run, so without a fence it is as new as this one.
                call.run = RunId(Uuid::from_u128(!call.run.0.as_u128()));
            }
            _ => {}
        }
        call
    }

    /// The mistake of a key that takes back what it has not heard of for a while.
    pub(super) fn free_silent(&mut self, call: &Call, key: usize) {
        if !self.is_planted(Planted::EscrowFreedByTime) {
            return;
        }
        let now = self.now;
        self.redis.heard.insert((call.run, key), now);
        let Some(known) = self.key(key) else { return };
        let is_silent =
            |run: &RunId| self.redis.heard.get(&(*run, key)).is_some_and(|at| at + SILENT_US < now);
        let silent: Vec<_> = known.runs().filter(|(run, ..)| is_silent(run)).collect();
        for (run, totals, _) in silent {
            let returned = totals.granted - totals.consumed;
            let totals = Totals { returned: returned.max(totals.returned), ..totals };
            let freed = Call { run, sequence: 0, totals, floor: None, ..call.clone() };
            KeyState::apply(self.redis.keys.entry(key).or_default(), true, &freed);
        }
    }

    /// An answer as the run takes it.
    pub(super) fn as_heard(&self, answer: &Answer) -> Answer {
        match answer {
            Answer::Counted(counted) if self.is_planted(Planted::WantIgnored) => {
                Answer::Counted(Counted { recalled: false, ..*counted })
            }
            answer => answer.clone(),
        }
    }

    /// Whether a run listens to this hint.
    pub(super) fn heeds(&self, run: RunId, recall: &Recall) -> bool {
        !self.is_planted(Planted::WantIgnored) || recall.first == Some(run)
    }

    /// What the ledger says of a key that has to be rebuilt.
    pub(super) fn floor(&self, epoch: u64, key: usize, closed_seq_min: u64) -> Option<Floor> {
        match self.is_planted(Planted::AbsentIsZero) {
            true => Some(Floor { closed_seq: closed_seq_min, ..Floor::default() }),
            false => self.ledger.floor(epoch, key),
        }
    }
}

fn entry(key: &KeyState, run: RunId) -> Option<(RunId, Totals)> {
    key.runs().find(|(of, ..)| *of == run).map(|(run, totals, _)| (run, totals))
}

/// Only the key makes `granted` grow, also for who makes this mistake.
fn added(known: Totals, told: Totals) -> Totals {
    Totals {
        granted: told.granted,
        returned: known.returned + told.returned,
        consumed: known.consumed + told.consumed,
        recorded: known.recorded + told.recorded,
        undone: known.undone + told.undone,
    }
}
