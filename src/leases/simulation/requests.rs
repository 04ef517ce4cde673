//! What clients ask of a sidecar, and what its journal says to that.

use super::{
    event::Event,
    sidecar::{Record, Request},
    world::World,
};
use crate::{
    domain::ids::RunId,
    leases::cell::{GivenBack, Take},
};

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
        let key = self.rng_key();
        let most = self.plan.amount_max;
        let amount = self.up_to(most);
        let (duplicates, decreases, late) =
            (self.plan.duplicates, self.plan.decreases, self.plan.late_records);
        self.event_ids += 1;
        let event = match self.share(duplicates) {
            true => self.event_ids.saturating_sub(self.up_to(5)),
            false => self.event_ids,
        };
        if self.share(decreases) {
            let below = self.ledger.sums(key).0.max(0).cast_unsigned();
            let amount = amount.min(below).cast_signed();
            self.append(run, Record { key, amount: -amount, event, escrow: false });
        } else if self.share(late) {
            self.record(run, key, amount, event);
        } else {
            self.request(run, key, amount, event);
        }
    }

    fn rng_key(&mut self) -> usize {
        let most = self.plan.keys - 1;
        self.up_to(most) as usize
    }

    /// A request for units.
    pub(super) fn request(&mut self, run: RunId, key: usize, amount: u64, event: u64) {
        let reserves = self.plan.reserves;
        let reserves = !self.quiet && self.share(reserves);
        self.event_ids += 1;
        let least = if self.plan.is_timely() { self.left(key) } else { i64::MAX };
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
        self.slot(run, key).held += request.amount;
        self.held[key] += request.amount;
        if request.reserves {
            let (hold, most) = (self.up_to(60_000), request.amount);
            let used = self.up_to(most);
            self.later(hold, Event::Settled { run, key, held: most, used });
        } else {
            let delay = self.up_to(2_000);
            let (amount, event) = (request.amount, request.event);
            self.later(delay, Event::Journalled { run, key, amount, event });
        }
    }

    pub(super) fn journalled(&mut self, run: RunId, key: usize, amount: u64, event: u64) {
        if !self.sidecars.contains_key(&run) {
            return;
        }
        let refused = self.plan.refused_by_journal;
        if self.share(refused) {
            return self.give_back(run, key, amount);
        }
        self.append(run, Record { key, amount: amount.cast_signed(), event, escrow: true });
        let slot = self.slot(run, key);
        slot.held -= amount;
        slot.cell.commit(amount);
        self.held[key] -= amount;
        self.seen.admitted += 1;
    }

    pub(super) fn settled(&mut self, run: RunId, key: usize, held: u64, used: u64) {
        if !self.sidecars.contains_key(&run) {
            return;
        }
        self.event_ids += 1;
        let event = self.event_ids;
        self.append(run, Record { key, amount: used.cast_signed(), event, escrow: true });
        let slot = self.slot(run, key);
        slot.held -= used;
        slot.cell.commit(used);
        self.held[key] -= used;
        self.seen.admitted += 1;
        self.give_back(run, key, held - used);
    }

    fn give_back(&mut self, run: RunId, key: usize, amount: u64) {
        let slot = self.slot(run, key);
        slot.held -= amount;
        let recalled = slot.cell.give_back(amount) == GivenBack::Recalled;
        slot.late += if recalled { amount } else { 0 };
        let awaited = recalled || !slot.queue.is_empty();
        self.held[key] -= amount;
        if awaited {
            self.drive(run, key);
        }
    }

    pub(super) fn record(&mut self, run: RunId, key: usize, amount: u64, event: u64) {
        self.append(run, Record { key, amount: amount.cast_signed(), event, escrow: false });
        self.slot(run, key).cell.record(amount);
    }

    fn append(&mut self, run: RunId, record: Record) {
        let amount = record.amount.max(0).cast_unsigned();
        let sum = if record.escrow { &mut self.admitted } else { &mut self.recorded };
        sum[record.key] += amount;
        self.slot(run, record.key);
        if let Some(sidecar) = self.sidecars.get_mut(&run) {
            sidecar.note(record);
        }
    }
}
