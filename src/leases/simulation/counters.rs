//! What messages do in Redis, where the real key state machines are, and what can happen there.

use std::time::Duration;

use super::{
    event::{Event, Identity},
    planted::Planted,
    sidecar::Sidecar,
    terms::wall,
    world::World,
};
use crate::leases::{
    key::KeyState,
    message::{Answer, Call, CloseAnswer, CloseCall, Epoch, Recall},
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
        self.free_silent(call, key);
        let slot = self.redis.keys.entry(key).or_default();
        let (answer, recall) = KeyState::apply(slot, alive, &taken);
        if let Answer::Counted(_) = answer {
            self.tell_ceiling(call, key);
            self.keep_key(key, call.retention);
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

    /// The key is forgotten after this long, unless another call comes.
    fn keep_key(&mut self, key: usize, retention: Option<Duration>) {
        let is_held = self.key(key).is_some_and(|key| key.outstanding() > 0);
        let Some(retention) = retention.filter(|_| !is_held) else {
            self.redis.expiries.remove(&key);
            return;
        };
        // A millisecond on the wall is a microsecond of the world.
        let after = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
        self.redis.expiries.insert(key, self.now + after);
        self.later(after, Event::Expire { key });
    }

    pub(super) fn expire(&mut self, key: usize) {
        let now = self.now;
        if self.redis.expiries.get(&key).is_some_and(|at| *at == now) {
            self.redis.expiries.remove(&key);
            self.redis.keys.remove(&key);
            self.seen.expired += 1;
        }
    }

    /// How long a key is kept after this, by a clock that is so far ahead.
    pub(super) fn retention(&self, key: usize, skew_ms: i64) -> Option<Duration> {
        let left = self.keys[key].window.end?.duration_since(wall(self.now, skew_ms));
        let left = Duration::try_from(left).unwrap_or_default();
        Some(left + Duration::from_millis(self.plan.retention_ms()))
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

    pub(super) fn close_arrives(
        &mut self,
        to: Identity,
        closing: usize,
        call: CloseCall,
        key: usize,
    ) {
        if !self.is_there(to) {
            return;
        }
        let alive = to == self.redis.identity;
        let forgets = self.is_planted(Planted::FenceForgotten);
        let slot = self.redis.keys.entry(key).or_default();
        let was_absent = slot.as_ref().is_none_or(|known| !known.is_founded());
        let answer = KeyState::close(slot, alive, &call);
        if forgets && was_absent && matches!(answer, CloseAnswer::Fenced { .. }) {
            *slot = None;
        }
        if matches!(answer, CloseAnswer::Folded | CloseAnswer::Fenced { taken: Some(_) }) {
            self.keep_key(key, call.retention);
        }
        for _ in 0..self.copies() {
            let way = self.way();
            self.later(way, Event::CloseAnswered { closing, call, key, answer });
        }
    }

    fn forget_keys(&mut self) {
        self.redis.keys.clear();
        self.redis.expiries.clear();
    }

    pub(super) fn take_snapshot(&mut self) {
        self.redis.snapshot = self.redis.keys.clone();
    }

    /// Redis loses data: emptied while it runs, or started again, empty or with older data.
    pub(super) fn wipe(&mut self) {
        self.seen.wipes += 1;
        // What could be had meanwhile cannot be said.
        for slot in self.sidecars.values_mut().flat_map(|sidecar| sidecar.slots.values_mut()) {
            slot.queue.iter_mut().for_each(|request| request.least = Some(i64::MIN));
        }
        match self.up_to(2) {
            0 => {
                self.redis.identity.life += 1;
                self.forget_keys();
            }
            kind => {
                self.redis.identity.server += 1;
                self.redis.away_until = self.now + self.up_to(80_000);
                if kind == 1 {
                    self.redis.identity.life += 1;
                    self.forget_keys();
                } else {
                    self.redis.keys = self.redis.snapshot.clone();
                    self.redis.expiries.clear();
                }
            }
        }
    }
}
