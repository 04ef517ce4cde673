//! How dead runs are closed.

use std::collections::BTreeMap;

use rand::Rng;
use uuid::Uuid;

use super::{
    closing::{Closing, Remains, Unspent},
    event::{Event, Identity},
    planted::Planted,
    sidecar::Sidecar,
    world::World,
};
use crate::{
    domain::{ids::RunId, usage::Durability},
    leases::message::{CloseAnswer, CloseCall, CloseStep},
};

/// Between two looks at what is left to close, in microseconds.
const CLOSE_TICK_US: u64 = 4_000;

impl World {
    /// Whether the run is closed and part of the key's base.
    pub(super) fn is_folded(&self, run: RunId, key: usize) -> bool {
        self.closings.iter().any(|closing| closing.run == run && closing.folded.contains(&key))
    }

    /// Sends the next step of each closing.
    pub(super) fn close_tick(&mut self) {
        self.later(CLOSE_TICK_US, Event::CloseTick);
        if !self.quiet && self.up_to(20) == 0 {
            self.take_snapshot();
        }
        if self.now < self.redis.away_until {
            return;
        }
        let to = self.redis.identity;
        let (epoch, latest) = self.ledger.epoch_of(to);
        for index in 0..self.closings.len() {
            let closing = &self.closings[index];
            if self.now < closing.from || !latest || closing.is_done() {
                continue;
            }
            let stalled = self.plan.stalled_closers;
            if !self.quiet && self.share(stalled) {
                let until = self.now + self.up_to(1_000 * self.plan.pause_ms);
                self.closings[index].from = until;
                continue;
            }
            if self.closings[index].epoch != epoch {
                self.begin_in(index, epoch);
            }
            let closing = self.closings[index].clone();
            if self.inherit(&closing, to, epoch) {
                continue;
            }
            match closing.closed_seq {
                None if closing.unspent == Unspent::Forfeited
                    && closing.fenced.len() < closing.keys.len() =>
                {
                    for key in closing.keys.keys().filter(|key| !closing.fenced.contains_key(key)) {
                        self.send_close(to, epoch, &closing, *key, CloseStep::Fence);
                    }
                }
                None => self.close_in_ledger(index, &closing),
                Some(closed_seq) => {
                    if closing.successor.is_some_and(|run| !self.ledger.is_folded(run)) {
                        continue;
                    }
                    for key in closing.keys.keys().filter(|key| !closing.folded.contains(key)) {
                        let totals = self.ledger.totals(closing.run, *key);
                        let (used, undone, forfeit) =
                            (totals.used, totals.undone, totals.forfeited);
                        let step = CloseStep::Fold { closed_seq, used, undone, forfeit };
                        self.send_close(to, epoch, &closing, *key, step);
                    }
                }
            }
        }
    }

    /// What the counters of an earlier epoch were told, and said, is of no use in this one.
    fn begin_in(&mut self, index: usize, epoch: u64) {
        let keeps = self.is_planted(Planted::ForfeitsOfEarlierEpoch);
        let closing = &mut self.closings[index];
        closing.epoch = epoch;
        closing.inherited.clear();
        closing.folded.clear();
        if closing.closed_seq.is_none() && !keeps {
            closing.fenced.clear();
        }
    }

    fn close_in_ledger(&mut self, index: usize, closing: &Closing) {
        let run = closing.run;
        let is_closed = self.ledger.closing(run).is_some();
        match closing.remains {
            Remains::Whole if !is_closed && !self.is_planted(Planted::SettlementLost) => {
                self.flush(run, usize::MAX);
            }
            Remains::Whole if is_closed && self.is_planted(Planted::ClosedTwice) => {
                self.flush_again(run);
            }
            // What an operator cut off is another run's to flush.
            Remains::Whole if is_closed => {
                self.closings[index].successor = self.succeed(run);
            }
            Remains::Copy(records) if !is_closed => self.flush(run, records),
            Remains::Whole | Remains::Copy(_) | Remains::Nothing => {}
        }
        let mut forfeits = BTreeMap::new();
        for (key, taken) in closing.fenced.iter().filter(|_| !is_closed) {
            let used = self.ledger.totals(run, *key).used;
            let held = match taken {
                _ if self.is_planted(Planted::WeakCrashReturned) => 0,
                Some(taken) => taken.saturating_sub(used),
                None if self.is_planted(Planted::UnknownHoldForgotten) => 0,
                None => self.free_in_ledger(*key),
            };
            forfeits.insert(*key, held);
        }
        if closing.unspent == Unspent::Released && !is_closed {
            self.release(run);
        }
        let closed_seq = self.ledger.close(run, &forfeits);
        let overlooks = self.is_planted(Planted::ClosedRunReports);
        let closing = &mut self.closings[index];
        closing.closed_seq = Some(closed_seq);
        if self.ledger.is_folded(run) && (closing.remains != Remains::Whole || overlooks) {
            // Nothing is left to do; who finds the directory also looks for what came late.
            closing.folded = closing.keys.keys().copied().collect();
        }
        self.note_if_folded(index);
    }

    /// What a run may have held, and went with the data: all that the ledger does not know to be used.
    /// Levels and ceilings that move may have left room before; declared.
    fn free_in_ledger(&self, key: usize) -> u64 {
        let (used, forfeited) = self.ledger.sums(key);
        let moves = self.plan.decreases > 0 || self.plan.moves_per_s > 0;
        let ceiling = self.terms.ceiling(self.keys[key].limit).units;
        match ceiling {
            Some(ceiling) if !moves => {
                let free = ceiling.cast_signed() - used - forfeited.cast_signed();
                free.max(0).cast_unsigned()
            }
            _ => (self.allowed[key] - used.min(0)).unsigned_abs(),
        }
    }

    /// A run of its own flushes what a closing cut off.
    fn succeed(&mut self, run: RunId) -> Option<RunId> {
        let left = self.dead.get_mut(&run).filter(|left| left.flushed < left.journal.len())?;
        let rest = left.journal.split_off(left.flushed);
        let terms = left.terms.clone();
        let mut successor = Sidecar::new(RunId(Uuid::from_u128(self.rng.random())), terms, 0);
        self.ledger.register(successor.run);
        for record in rest {
            successor.opened.insert(record.key, 0);
            successor.note(record, Durability::Sync);
        }
        let run = successor.run;
        self.leave(successor, Unspent::Returned, self.now);
        Some(run)
    }

    /// Of two who close the run, this one does not see that the journal was counted.
    fn flush_again(&mut self, run: RunId) {
        let again = self.dead.get_mut(&run).map(|left| left.journal.clone()).unwrap_or_default();
        for record in again {
            self.undone[record.key] +=
                self.ledger.flush(run, record.key, record.amount, record.event);
        }
    }

    fn send_close(
        &mut self,
        to: Identity,
        epoch: u64,
        closing: &Closing,
        key: usize,
        step: CloseStep,
    ) {
        let retention = self.retention(key, 0);
        let folded_through = match self.is_planted(Planted::FoldedTooEarly) {
            true => u64::MAX,
            false => self.ledger.folded_through(),
        };
        let fenced_max = self.plan.fenced_max;
        let call =
            CloseCall { epoch, run: closing.run, step, folded_through, fenced_max, retention };
        let closing = closing.number;
        for _ in 0..self.copies() {
            let way = self.way();
            self.later(way, Event::CloseArrives { to, closing, call, key });
        }
    }

    pub(super) fn close_answered(
        &mut self,
        index: usize,
        call: CloseCall,
        key: usize,
        answer: CloseAnswer,
    ) {
        let closing = &mut self.closings[index];
        if closing.epoch != call.epoch {
            return;
        }
        match answer {
            CloseAnswer::Fenced { taken } if closing.closed_seq.is_none() => {
                // What an earlier epoch granted is not known in this one, unless the run has
                // reported here, and then `taken` has it.
                let known = taken.or((closing.keys.get(&key) == Some(&call.epoch)).then_some(0));
                closing.fenced.entry(key).or_insert(known);
            }
            CloseAnswer::Folded | CloseAnswer::Absent => {
                closing.folded.insert(key);
            }
            _ => {}
        }
        self.note_if_folded(index);
    }

    fn note_if_folded(&mut self, index: usize) {
        if self.closings[index].is_done() {
            self.ledger.folded(self.closings[index].run);
        }
    }
}
