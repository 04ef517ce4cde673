//! How dead runs are closed.

use std::collections::BTreeMap;

use super::{
    closing::Closing,
    event::{Event, Identity},
    planted::Planted,
    world::World,
};
use crate::{
    domain::ids::RunId,
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
            let closing = self.closings[index].clone();
            if self.now < closing.from || !latest || closing.is_done() {
                continue;
            }
            match closing.closed_seq {
                None if closing.torn && closing.fenced.len() < closing.keys.len() => {
                    for key in closing.keys.keys().filter(|key| !closing.fenced.contains_key(key)) {
                        self.send_close(to, epoch, closing.run, *key, CloseStep::Fence);
                    }
                }
                None => self.close_in_ledger(index, &closing),
                Some(closed_seq) => {
                    for key in closing.keys.keys().filter(|key| !closing.folded.contains(key)) {
                        let totals = self.ledger.totals(closing.run, *key);
                        let (used, undone, forfeit) =
                            (totals.used, totals.undone, totals.forfeited);
                        let step = CloseStep::Fold { closed_seq, used, undone, forfeit };
                        self.send_close(to, epoch, closing.run, *key, step);
                    }
                }
            }
        }
    }

    fn close_in_ledger(&mut self, index: usize, closing: &Closing) {
        if !self.is_planted(Planted::SettlementLost) {
            self.flush(closing.run, usize::MAX);
        }
        let mut forfeits = BTreeMap::new();
        for (key, taken) in &closing.fenced {
            let used = self.ledger.totals(closing.run, *key).used;
            let held = match taken {
                _ if self.is_planted(Planted::ForfeitForgotten) => 0,
                Some(taken) => taken.saturating_sub(used),
                None if self.is_planted(Planted::UnknownHoldForgotten) => 0,
                // What it held went with the data. It cannot have been more than the ceiling.
                None => self.allowed[*key].unsigned_abs(),
            };
            forfeits.insert(*key, held);
        }
        let closed_seq = self.ledger.close(closing.run, &forfeits);
        self.closings[index].closed_seq = Some(closed_seq);
        self.note_if_folded(index);
    }

    fn send_close(&mut self, to: Identity, epoch: u64, run: RunId, key: usize, step: CloseStep) {
        let call = CloseCall { epoch, run, step, retention: None };
        for _ in 0..self.copies() {
            let way = self.way();
            self.later(way, Event::CloseArrives { to, call, key });
        }
    }

    pub(super) fn close_answered(&mut self, call: CloseCall, key: usize, answer: CloseAnswer) {
        let Some(index) = self.closings.iter().position(|closing| closing.run == call.run) else {
            return;
        };
        let closing = &mut self.closings[index];
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
