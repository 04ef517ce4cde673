//! What messages do in Redis, where the real key state machines are, and what can happen there.

use super::{
    event::{Event, Identity},
    planted::Planted,
    sidecar::Sidecar,
    world::World,
};
use crate::leases::{
    key::KeyState,
    message::{Answer, Call, CloseCall, Epoch, Recall},
};

impl World {
    /// The key as it is now, in whatever epoch.
    pub(super) fn key(&self, key: usize) -> Option<&KeyState> {
        self.redis.keys.get(&key).and_then(Option::as_ref)
    }

    /// Whether a message to `to` gets through: a connection does not outlive its server.
    fn is_there(&self, to: Identity) -> bool {
        self.now >= self.redis.away_until && to.server == self.redis.identity.server
    }

    pub(super) fn call_arrives(&mut self, to: Identity, call: &Call, key: usize) {
        let unnoticed = self.is_planted(Planted::LossUnnoticed);
        if !self.is_there(to) && !unnoticed {
            return;
        }
        let alive = to == self.redis.identity || unnoticed;
        let taken = self.as_taken(call, key);
        let slot = self.redis.keys.entry(key).or_default();
        let (answer, recall) = KeyState::apply(slot, alive, &taken);
        if let Answer::Counted(_) = answer {
            self.tell_ceiling(call, key);
            self.hear_of_late(call, key);
        }
        if let Some(recall) = recall {
            self.publish(key, recall);
        }
        for _ in 0..self.copies() {
            let way = self.way();
            let call = Box::new(call.clone());
            self.later(way, Event::AnswerArrives { call, key, answer: answer.clone() });
        }
    }

    fn hear_of_late(&mut self, call: &Call, key: usize) {
        let slot = self.sidecars.get_mut(&call.run).and_then(|sidecar| sidecar.slots.get_mut(&key));
        if let Some(slot) = slot.filter(|slot| slot.returning.0 == call.sequence) {
            slot.returning = (0, 0);
        }
    }

    /// What may be admitted from now on: not what the key believes, but what it was told.
    fn tell_ceiling(&mut self, call: &Call, key: usize) {
        let Epoch { number, recovered } = call.epoch;
        let newest = self.redis.told.get(&(number, key));
        if newest.is_some_and(|newest| newest.version >= call.ceiling.version) {
            return;
        }
        self.redis.told.insert((number, key), call.ceiling);
        let units = call.ceiling.units.map_or(i64::MAX, u64::cast_signed);
        let taken = self.taken(key);
        // Before the epoch has recovered the key does not know what is held.
        let held = if recovered { taken } else { taken.max(self.allowed[key]) };
        self.allowed[key] = held.max(units);
    }

    /// Used, held and forfeited, as the key has it.
    fn taken(&self, key: usize) -> i64 {
        self.key(key)
            .map_or(0, |key| key.used() + key.outstanding() + key.forfeited().cast_signed())
    }

    /// What the key could still grant; `None` when it has no ceiling.
    pub(super) fn free(&self, key: usize) -> Option<i64> {
        let known = self.key(key).filter(|known| known.is_founded())?;
        Some(known.ceiling()?.units?.cast_signed() - self.taken(key))
    }

    fn publish(&mut self, key: usize, recall: Recall) {
        let has_cell = |sidecar: &&Sidecar| sidecar.slots.contains_key(&key);
        let listeners: Vec<_> =
            self.sidecars.values().filter(has_cell).map(|one| one.run).collect();
        for run in listeners {
            for _ in 0..self.copies().min(1) {
                let way = self.way();
                self.later(way, Event::Hint { run, key, recall });
            }
        }
    }

    pub(super) fn close_arrives(&mut self, to: Identity, call: CloseCall, key: usize) {
        if !self.is_there(to) {
            return;
        }
        let alive = to == self.redis.identity;
        let slot = self.redis.keys.entry(key).or_default();
        let answer = KeyState::close(slot, alive, &call);
        for _ in 0..self.copies() {
            let way = self.way();
            self.later(way, Event::CloseAnswered { call, key, answer });
        }
    }

    pub(super) fn take_snapshot(&mut self) {
        self.redis.snapshot = self.redis.keys.clone();
    }

    /// Redis loses data: emptied while it runs, or started again, empty or with older data.
    pub(super) fn wipe(&mut self) {
        self.seen.wipes += 1;
        // What could be had meanwhile cannot be said.
        for slot in self.sidecars.values_mut().flat_map(|sidecar| sidecar.slots.values_mut()) {
            slot.queue.iter_mut().for_each(|request| request.least = i64::MIN);
        }
        match self.up_to(2) {
            0 => {
                self.redis.identity.life += 1;
                self.redis.keys.clear();
            }
            kind => {
                self.redis.identity.server += 1;
                self.redis.away_until = self.now + self.up_to(80_000);
                if kind == 1 {
                    self.redis.identity.life += 1;
                    self.redis.keys.clear();
                } else {
                    self.redis.keys = self.redis.snapshot.clone();
                }
            }
        }
    }
}
