//! What must hold.

use std::fmt::Debug;

use super::{
    closing::Closing,
    sidecar::{Request, Sidecar, Slot},
    terms::{Key, wall},
    world::World,
};
use crate::{
    domain::ids::RunId,
    leases::{key::KeyState, step::Denial},
};

/// How long the last requests may take, in microseconds.
const LAST_WORD_US: u64 = 200_000;
/// For how much longer a window has to last to be used to its end, in microseconds of the world.
const LAST_WINDOW_US: u64 = 500_000;

impl World {
    /// Acknowledged, and taken by living runs, less what the ledger took back.
    pub(super) fn held_or_used(&self, key: usize) -> i64 {
        let sum = self.admitted[key] + self.recorded[key] + self.held[key];
        sum.cast_signed() - self.undone[key].cast_signed()
    }

    fn slots(&self, key: usize) -> impl Iterator<Item = &Slot> {
        self.sidecars.values().filter_map(move |sidecar| sidecar.slots.get(&key))
    }

    fn slot_of(&self, run: RunId, key: usize) -> Option<&Slot> {
        self.sidecars.get(&run).and_then(|sidecar| sidecar.slots.get(&key))
    }

    /// What could still be had somewhere: free at the key, in hand at any run, or on the way
    /// between; `None` while there is no key to tell. What dead runs held counts too. Not what a run got back after it had answered a
    /// recall, until the key hears of that: of who has answered nothing is awaited.
    pub(super) fn left(&self, key: usize) -> Option<i64> {
        let (state, free) = (self.key(key)?, self.free(key)?);
        let awaited: i64 = state
            .silent()
            .map(|(run, entry)| {
                let spent_unheard = self.slot_of(run, key).map_or(0, |slot| {
                    slot.cell.counts().consumed.saturating_sub(entry.totals.consumed) + slot.held
                });
                entry.outstanding().cast_signed() - spent_unheard.cast_signed()
            })
            .sum();
        Some(free + awaited)
    }

    pub(super) fn check_always(&mut self) {
        for key in 0..self.allowed.len() {
            // I1. Usage without escrow is outside of it and only makes less be admitted.
            let admitted = self.held_or_used(key) - self.recorded[key].cast_signed();
            assert!(
                admitted <= self.allowed[key] + self.released[key].cast_signed(),
                "I1: {admitted} admitted of {} on key {key} at {} µs",
                self.allowed[key],
                self.now
            );
            // Only a refusal in a timely world is judged by it.
            if self.waiting == 0 || !self.plan.is_timely() {
                continue;
            }
            let Some(left) = self.left(key) else { continue };
            for sidecar in self.sidecars.values_mut() {
                for request in sidecar.slots.get_mut(&key).into_iter().flat_map(|s| &mut s.queue) {
                    request.least = Some(request.least.map_or(left, |least| least.min(left)));
                }
            }
        }
    }

    pub(super) fn check_denial(&mut self, key: usize, why: Denial, request: &Request) {
        match why {
            Denial::Exhausted => {
                self.seen.refused += 1;
                // What came when the key was lost may be refused by what was known of it before.
                let least = request.least.into_iter().chain(self.left(key)).min();
                let is_left = |least| least >= request.amount.cast_signed();
                assert!(
                    !least.is_some_and(is_left) || !self.plan.is_timely(),
                    "I2: refused {} on key {key} at {} µs though {least:?} were left throughout",
                    request.amount,
                    self.now
                );
            }
            Denial::RecallTimedOut => {
                self.seen.timed_out += 1;
                let now = self.now;
                assert!(self.plan.in_reach == 0, "I2: waited in vain for key {key} until {now} µs");
            }
        }
    }

    /// Whether nothing happens any more: all dead runs closed, everything flushed and told.
    pub(super) fn is_settled(&self) -> bool {
        self.closings.iter().all(Closing::is_done)
            && self.sidecars.values().all(|sidecar| self.is_at_rest(sidecar))
    }

    fn is_at_rest(&self, sidecar: &Sidecar) -> bool {
        let told = |slot: &Slot| slot.holder.is_settled(&slot.cell) && slot.users == 0;
        let idle =
            |slot: &Slot| slot.queue.is_empty() && slot.flight.is_none() && slot.wake_at.is_none();
        sidecar.flushed == sidecar.journal.len()
            && !sidecar.stopping
            && self.ledger.closing(sidecar.run).is_none()
            && sidecar.terms.version == self.terms.version
            && sidecar.epoch.is_some_and(|(epoch, of)| epoch.recovered && of == self.redis.identity)
            && sidecar.slots.values().all(|slot| told(slot) && idle(slot))
    }

    /// What is missing at quiet.
    pub(super) fn unsettled(&self) -> String {
        let open = self.closings.iter().filter(|closing| !closing.is_done());
        let busy = self.sidecars.values().filter(|sidecar| !self.is_at_rest(sidecar));
        format!("{} runs are not closed, {} not at rest", open.count(), busy.count())
    }

    pub(super) fn check_quiet(&mut self) {
        for key in 0..self.keys.len() {
            let (used, forfeited) = self.ledger.sums(key);
            let said = self.admitted[key] + self.recorded[key] - self.torn[key];
            same("I4: ledger", used, said.cast_signed() - self.undone[key].cast_signed());
            let outstanding: u64 =
                self.slots(key).map(|slot| slot.holder.outstanding(&slot.cell)).sum();
            let epoch = self.ledger.epochs();
            // A key that nobody has called in this epoch is as good as absent.
            let live = |state: &&KeyState| state.epoch() == epoch && state.is_founded();
            if let Some(state) = self.key(key).filter(live) {
                same("I4: forfeited", state.forfeited(), forfeited);
                if self.uncounted[key] == 0 {
                    same("I4: used", state.used(), used);
                    same("I4: outstanding", state.outstanding(), outstanding.cast_signed());
                } else {
                    // What is recorded in windows that are past is the ledger's alone.
                    let apart = (used - state.used()).unsigned_abs();
                    assert!(apart <= self.uncounted[key], "I4: used: {apart} apart");
                }
            }
        }
        // Last: windows end while what is asked for here is waited for.
        for key in 0..self.keys.len() {
            self.check_the_rest_is_usable(key);
        }
    }

    /// I2: all that remains can be had, by any run, and not a unit more.
    fn check_the_rest_is_usable(&mut self, key: usize) {
        let Key { limit, window } = self.keys[key];
        let (used, forfeited) = self.ledger.sums(key);
        let Some(ceiling) = self.terms.ceiling(limit).units else { return };
        let last_us = self.now + LAST_WINDOW_US;
        let is_current = |sidecar: &Sidecar| {
            let now = wall(self.now, sidecar.skew_ms);
            sidecar.terms.window(limit, now).label == window.label
                && window.contains(wall(last_us, sidecar.skew_ms))
        };
        if !self.sidecars.values().all(is_current) || self.uncounted[key] > 0 {
            return;
        }
        let remaining = ceiling.cast_signed() - used - forfeited.cast_signed();
        if remaining < 0 || self.free(key).is_some_and(|free| free < 0) {
            // A lowered ceiling, a forfeit or usage after the fact came after escrow that is
            // still in hand.
            return;
        }
        let (admitted, recorded) = (self.admitted[key], self.recorded[key]);
        let refused = self.seen.refused;
        let run = self.some_run();
        if !self.open(run, key) {
            return;
        }
        if remaining > 0 {
            self.plan.refused_by_journal = 0;
            self.event_ids += 1_000;
            let event = self.event_ids;
            self.request(run, key, remaining.cast_unsigned(), event);
            self.until(self.now + LAST_WORD_US);
            let got = self.admitted[key] - admitted;
            if self.recorded[key] > recorded {
                // A reservation was settled after its expiry, which takes what was free.
                return;
            }
            same("I2: all that remains", got, remaining.cast_unsigned());
        }
        self.open(run, key);
        self.request(run, key, 1, self.event_ids + 1);
        self.until(self.now + LAST_WORD_US);
        same("I2: one more is refused", self.seen.refused, refused + 1);
    }
}

/// Like `assert_eq`, but the message begins with the invariant.
fn same<T: PartialEq + Debug>(what: &str, is: T, should: T) {
    assert!(is == should, "{what}: {is:?}, not {should:?}");
}
