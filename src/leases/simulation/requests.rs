//! What clients ask of a sidecar, and what its journal says to that.

use jiff::{SignedDuration, Timestamp};
use rand::Rng;

use super::{
    event::Event,
    planted::Planted,
    sidecar::{Held, Record, Request},
    world::World,
};
use crate::{
    domain::{ids::RunId, usage::Durability},
    leases::{
        cell::{GivenBack, Take},
        holds::{Hold, Settled},
    },
};

/// Whose all holds are.
const OWNER: &str = "acme";

/// Longest time until a full disk has said so.
const REFUSED_AFTER_US_MAX: u64 = 5_000;
/// Requests that wait for one key in one run. One more is turned away without a verdict.
const QUEUE_MAX: usize = 64;

impl World {
    pub(super) fn arrive(&mut self, run: RunId) {
        if self.quiet || !self.sidecars.contains_key(&run) {
            return;
        }
        if self.arrived == self.plan.requests_max || self.sidecars[&run].stopping {
            return;
        }
        self.arrived += 1;
        let pause = self.plan.pause_us_max;
        let pause = self.up_to(pause) + 1;
        self.later(pause, Event::Arrive { run });
        let limit = self.up_to(self.plan.keys - 1) as usize;
        let most = self.plan.amount_max;
        let amount = self.up_to(most);
        let (duplicates, unkeyed, decreases, late) =
            (self.plan.duplicates, self.plan.unkeyed, self.plan.decreases, self.plan.late_records);
        self.event_ids += 1;
        let event = match () {
            () if self.share(duplicates) => self.event_ids.saturating_sub(self.up_to(5)),
            () if self.share(unkeyed) => 0,
            () => self.event_ids,
        };
        let at = self.wall(run);
        if self.share(decreases) {
            let Some(key) = self.current(run, limit, at) else { return };
            let below = self.ledger.sums(key).0.max(0).cast_unsigned();
            let amount = amount.min(below).cast_signed();
            self.append(run, Record { key, amount: -amount, event, escrow: false, counted: true });
        } else if self.share(late) {
            let ago = self.up_to(2_000 * self.plan.window_s);
            let key = self.key_at(run, limit, wall_before(at, ago));
            self.record(run, key, amount, event);
        } else if let Some(key) = self.current(run, limit, at) {
            self.request(run, key, amount, event);
        }
    }

    /// The counter of a limit at an instant, by the terms that a run knows.
    pub(super) fn key_at(&mut self, run: RunId, limit: usize, at: Timestamp) -> usize {
        let window = self.sidecars[&run].terms.window(limit, at);
        self.key_of(limit, window)
    }

    /// The same, with a cell; `None` where the window is over and cells of such were dropped.
    fn current(&mut self, run: RunId, limit: usize, at: Timestamp) -> Option<usize> {
        let key = self.key_at(run, limit, at);
        let has_cell = self.open(run, key);
        self.seen.past += u64::from(!has_cell);
        has_cell.then_some(key)
    }

    /// A request for units.
    pub(super) fn request(&mut self, run: RunId, key: usize, amount: u64, event: u64) {
        let reserves = self.plan.reserves;
        let reserves = !self.quiet && self.share(reserves);
        self.event_ids += 1;
        let least = if self.plan.is_timely() { self.left(key) } else { None };
        let request = Request { id: self.event_ids, amount, reserves, event, least };
        match self.slot(run, key).cell.take(amount) {
            Take::Taken => self.admit(run, key, &request),
            Take::TakenLow => {
                self.admit(run, key, &request);
                self.drive(run, key);
            }
            Take::Short if self.slot(run, key).queue.len() < QUEUE_MAX => {
                self.slot(run, key).queue.push_back(request);
                self.waiting += 1;
                self.drive(run, key);
            }
            Take::Short => self.seen.unavailable += 1,
        }
    }

    pub(super) fn admit(&mut self, run: RunId, key: usize, request: &Request) {
        let slot = self.slot(run, key);
        slot.held += request.amount;
        slot.users += 1;
        self.held[key] += request.amount;
        if request.reserves {
            let (hold, expiry, most) = (self.up_to(60_000), self.up_to(90_000), request.amount);
            let used = self.up_to(most);
            let now = self.wall(run);
            let expires_at = now + SignedDuration::from_millis(expiry.cast_signed());
            let number = self.hold(run, Held { key, units: most }, expires_at);
            self.later(hold, Event::Settle { run, key, number, used });
        } else {
            let delay = self.up_to(2_000);
            let (amount, event) = (request.amount, request.event);
            self.later(delay, Event::Journalled { run, key, amount, event });
        }
    }

    fn hold(&mut self, run: RunId, held: Held, expires_at: Timestamp) -> u64 {
        let now = self.wall(run);
        let holds = &self.sidecars[&run].holds;
        let placed = holds.place(Hold::new(held, expires_at, holds.begin(now)), OWNER);
        placed.unwrap_or_else(|_| panic!("the table of holds is full"))
    }

    pub(super) fn journalled(&mut self, run: RunId, key: usize, amount: u64, event: u64) {
        if !self.sidecars.contains_key(&run) {
            return;
        }
        let refused = self.plan.refused_by_journal;
        if self.share(refused) && self.rng.random() {
            // A full disk says so when the units count already.
            self.count(run, key, amount);
            let delay = self.up_to(REFUSED_AFTER_US_MAX);
            return self.later(delay, Event::Refused { run, key, amount });
        }
        self.leave_cell(run, key);
        if self.share(refused) {
            return self.give_back(run, key, amount);
        }
        let stamped = match self.is_planted(Planted::LabelTakenTwice) {
            true => self.key_at(run, self.keys[key].limit, self.wall(run)),
            false => key,
        };
        let record = Record {
            key: stamped,
            amount: amount.cast_signed(),
            event,
            escrow: true,
            counted: true,
        };
        self.append(run, record);
        self.spend(run, key, amount);
    }

    /// What counted is in no journal after all.
    pub(super) fn refused(&mut self, run: RunId, key: usize, amount: u64) {
        if self.sidecars.contains_key(&run) {
            self.leave_cell(run, key);
            self.slot(run, key).cell.undo(amount);
            self.drive(run, key);
        }
    }

    fn spend(&mut self, run: RunId, key: usize, amount: u64) {
        self.count(run, key, amount);
        self.seen.admitted += 1;
    }

    fn count(&mut self, run: RunId, key: usize, amount: u64) {
        let slot = self.slot(run, key);
        slot.held -= amount;
        slot.cell.commit(amount);
        self.held[key] -= amount;
    }

    /// A reservation is settled, unless it has expired: then what was used is recorded as late.
    pub(super) fn settle(&mut self, run: RunId, key: usize, number: u64, used: u64) {
        let refused = self.plan.refused_by_journal;
        let is_refused = self.share(refused);
        let Some(sidecar) = self.sidecars.get(&run) else { return };
        self.event_ids += 1;
        let event = self.event_ids;
        let mut settled = Settled::none(&sidecar.holds);
        let Some(_) = settled.take(0, number) else {
            drop(settled);
            return self.record(run, key, used, event);
        };
        if is_refused {
            // Dropped, it is held on.
            return;
        }
        let Some(hold) = settled.end(0) else { return };
        drop(settled);
        self.leave_cell(run, key);
        let amount = used.cast_signed();
        self.append(run, Record { key, amount, event, escrow: true, counted: true });
        self.spend(run, key, used);
        self.give_back(run, key, hold.taken.units - used);
        if self.is_planted(Planted::ReservationReleasedTwice) {
            let slot = self.slot(run, key);
            let _ = slot.cell.give_back(hold.taken.units);
        }
    }

    /// Gives back what expired reservations hold.
    pub(super) fn expire_holds(&mut self, run: RunId) {
        let now = self.wall(run);
        let Some(sidecar) = self.sidecars.get(&run) else { return };
        for hold in sidecar.holds.remove_expired(now, usize::MAX) {
            self.leave_cell(run, hold.taken.key);
            self.give_back(run, hold.taken.key, hold.taken.units);
        }
    }

    fn leave_cell(&mut self, run: RunId, key: usize) {
        let slot = self.slot(run, key);
        slot.users -= 1;
    }

    fn give_back(&mut self, run: RunId, key: usize, amount: u64) {
        let slot = self.slot(run, key);
        slot.held -= amount;
        let recalled = slot.cell.give_back(amount) == GivenBack::Recalled;
        let awaited = recalled || !slot.queue.is_empty();
        self.held[key] -= amount;
        if awaited {
            self.drive(run, key);
        }
    }

    /// Counts usage without escrow, in the ledger alone where the window is past.
    pub(super) fn record(&mut self, run: RunId, key: usize, amount: u64, event: u64) {
        let counted = self.open(run, key);
        let record = Record { key, amount: amount.cast_signed(), event, escrow: false, counted };
        self.append(run, record);
        if counted {
            self.slot(run, key).cell.record(amount);
        }
    }

    fn append(&mut self, run: RunId, record: Record) {
        let amount = record.amount.max(0).cast_unsigned();
        let sum = if record.escrow { &mut self.admitted } else { &mut self.recorded };
        sum[record.key] += amount;
        let weak = self.plan.weak;
        let level = if self.share(weak) { Durability::Written } else { Durability::Sync };
        if let Some(sidecar) = self.sidecars.get_mut(&run) {
            sidecar.note(record, level);
        }
    }
}

fn wall_before(at: Timestamp, ago_ms: u64) -> Timestamp {
    at - SignedDuration::from_millis(ago_ms.cast_signed())
}
