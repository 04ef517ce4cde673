//! The driver of a cell, as `leases` documents it.

use std::{collections::VecDeque, time::Duration};

use super::{
    event::Event,
    planted::Planted,
    sidecar::{Request, Slot},
    world::World,
};
use crate::{
    domain::ids::RunId,
    leases::{
        cell::{Cell, Take},
        holder::Holder,
        message::{Answer, Call, Recall},
        step::{Denial, HolderSeed, LeaseTimes, Step, Surroundings, Waiting},
    },
};

/// How long a driver waits for an answer, in microseconds.
const CALL_TIMEOUT_US: u64 = 40_000;
/// Floors that a driver brings for one call.
const FLOORS_MAX: u32 = 3;
/// Steps that a driver may take without waiting for anything.
const STEPS_MAX: u32 = 1_000;

/// What the holders of `run` are handed.
fn seed(run: RunId) -> HolderSeed {
    let times = LeaseTimes {
        settle: Duration::from_millis(50),
        retry: Duration::from_millis(10),
        ..LeaseTimes::default()
    };
    HolderSeed { run, times }
}

impl World {
    /// Opens a cell of a key, unless its window is past.
    pub(super) fn open(&mut self, run: RunId, key: usize) -> bool {
        let window = self.keys[key].window;
        let Some(sidecar) = self.sidecars.get_mut(&run) else { unreachable!("a dead run acts") };
        if sidecar.slots.contains_key(&key) {
            return true;
        }
        // Declared: what a run begins to use after somebody has begun to close it, though it lives,
        // is neither fenced nor forfeited.
        let is_new = !sidecar.opened.contains_key(&key);
        if is_new && self.closings.iter().any(|closing| closing.run == run) {
            return false;
        }
        let Ok(left) = sidecar.left.look(key, &window) else { return false };
        let cell = Cell::new();
        let (holder, returned) = match left {
            None => (Holder::new(), 0),
            Some(left) => (Holder::resumed(&cell, left), left.returned),
        };
        sidecar.left.resume(key);
        let epoch = sidecar.epoch.map_or(0, |(epoch, _)| epoch.number);
        sidecar.opened.entry(key).or_insert(epoch);
        sidecar.slots.insert(key, Slot::new(cell, holder, returned));
        true
    }

    pub(super) fn has_cell(&self, run: RunId, key: usize) -> bool {
        self.sidecars.get(&run).is_some_and(|sidecar| sidecar.slots.contains_key(&key))
    }

    /// The slot of a key that was opened.
    pub(super) fn slot(&mut self, run: RunId, key: usize) -> &mut Slot {
        let sidecar = self.sidecars.get_mut(&run);
        sidecar.and_then(|one| one.slots.get_mut(&key)).expect("what is used is open")
    }

    pub(super) fn drive(&mut self, run: RunId, key: usize) {
        let Some(sidecar) = self.sidecars.get(&run) else { return };
        let Some((epoch, identity)) = sidecar.epoch else { return };
        let around = Surroundings {
            epoch,
            ceiling: sidecar.terms.ceiling(self.keys[key].limit),
            now: self.clock(),
        };
        let spoil = self.is_planted(Planted::ReturnedBeforeClosed);
        let seed = seed(run);
        for _ in 0..STEPS_MAX {
            if !self.has_cell(run, key) {
                return;
            }
            self.serve_queue(run, key);
            let slot = self.slot(run, key);
            let waiting = slot.queue.front().map(|head| Waiting {
                head: head.amount,
                total: slot.queue.iter().map(|request| request.amount).sum(),
            });
            match slot.holder.next(&seed, &slot.cell, waiting, &around) {
                Step::Retry => {}
                Step::Send(call) => {
                    let totals = &call.totals;
                    let gone = totals.returned + totals.consumed + slot.held;
                    assert!(gone <= totals.granted, "I1: {gone} of {} granted", totals.granted);
                    slot.asked = slot.queue.iter().map(|request| request.id).collect();
                    slot.flight = Some(((*call).clone(), 0));
                    if call.totals.returned > slot.returned && spoil {
                        // Requests go on taking it until the answer is there.
                        slot.cell.refill(call.totals.returned - slot.returned);
                        slot.spoiled = true;
                    }
                    slot.returned = call.totals.returned;
                    let sequence = call.sequence;
                    self.send(identity, &call, key);
                    self.later(CALL_TIMEOUT_US, Event::CallTimesOut { run, key, sequence });
                    return;
                }
                Step::Deny { why, remaining, .. } => self.deny(run, key, why, remaining),
                Step::Unavailable => self.unavailable(run, key),
                Step::Wait { until } | Step::Rest { until: Some(until) } => {
                    let until = u64::try_from(until.as_micros()).unwrap_or(u64::MAX);
                    return self.wake_at(until.max(self.now + 1), run, key);
                }
                Step::Rest { until: None } | Step::InFlight => return,
                Step::Retired => return self.retired(run, key),
                Step::Fenced => {
                    let closed = self.closings.iter().any(|closing| closing.run == run);
                    assert!(closed, "I2: a run is fenced that nobody has closed");
                    return self.outlawed(run);
                }
            }
        }
        panic!("the driver of key {key} does not come to rest at {} µs", self.now);
    }

    /// Sets the one timer that a driver has.
    fn wake_at(&mut self, at: u64, run: RunId, key: usize) {
        let slot = self.slot(run, key);
        if slot.wake_at.is_none_or(|set| at < set) {
            slot.wake_at = Some(at);
            self.later(at - self.now, Event::Wake { run, key });
        }
    }

    pub(super) fn woken(&mut self, run: RunId, key: usize) {
        let now = self.now;
        let slot = self.sidecars.get_mut(&run).and_then(|sidecar| sidecar.slots.get_mut(&key));
        // A timer that was set again earlier has rung already; one of a run that stood still rings late.
        if slot.is_some_and(|slot| slot.wake_at.take_if(|at| *at <= now).is_some()) {
            self.drive(run, key);
        }
    }

    fn serve_queue(&mut self, run: RunId, key: usize) {
        let mut index = 0;
        loop {
            let slot = self.slot(run, key);
            let Some(request) = slot.queue.get(index) else { break };
            if slot.cell.take(request.amount) == Take::Short {
                index += 1;
            } else if let Some(request) = slot.queue.remove(index) {
                self.waiting -= 1;
                self.admit(run, key, &request);
            }
        }
    }

    fn deny(&mut self, run: RunId, key: usize, why: Denial, remaining: u64) {
        let slot = self.slot(run, key);
        let asked = std::mem::take(&mut slot.asked);
        let mut denied: Vec<Request> = slot.queue.pop_front().into_iter().collect();
        let (more, kept): (VecDeque<_>, _) = std::mem::take(&mut slot.queue)
            .into_iter()
            .partition(|request| request.amount > remaining && asked.contains(&request.id));
        slot.queue = kept;
        slot.asked = asked;
        denied.extend(more);
        self.waiting -= denied.len() as u64;
        for request in denied {
            self.check_denial(key, why, &request);
            self.cover(run, key, &request);
        }
    }

    /// What a limit has no room for, a grant may cover.
    fn cover(&mut self, run: RunId, key: usize, request: &Request) {
        let at = self.wall(run);
        let Some(terms) = self.sidecars.get(&run).map(|sidecar| &sidecar.terms) else { return };
        if let Some(grant) = terms.covering(self.keys[key].limit).filter(|_| !self.quiet) {
            let key = self.key_at(run, grant, at);
            if self.open(run, key) {
                self.request(run, key, request.amount, request.event);
            }
        }
    }

    /// The outage policy, for all who wait.
    fn unavailable(&mut self, run: RunId, key: usize) {
        for request in std::mem::take(&mut self.slot(run, key).queue) {
            self.waiting -= 1;
            self.seen.unavailable += 1;
            if self.plan.allow_on_outage == 1 {
                self.record(run, key, request.amount, request.event);
            }
        }
    }

    fn retired(&mut self, run: RunId, key: usize) {
        let forgotten = self.is_planted(Planted::TotalsForgotten);
        let (now, window) = (self.wall(run), self.keys[key].window);
        let Some(sidecar) = self.sidecars.get_mut(&run) else { return };
        let (records, _) = sidecar.records(key);
        let may_go = |slot: &&mut Slot| {
            slot.queue.is_empty() && slot.users == 0 && slot.parted_after == Some(records)
        };
        if let Some(slot) = sidecar.slots.get_mut(&key).filter(may_go) {
            if !forgotten {
                let totals = slot.holder.totals(&slot.cell);
                sidecar.left.leave(key, window.end, now, totals);
            }
            sidecar.slots.remove(&key);
        }
    }

    pub(super) fn answer_arrives(&mut self, call: &Call, key: usize, answer: &Answer) {
        let (run, now) = (call.run, self.clock());
        let answer = &self.as_heard(answer);
        if self.dead.contains_key(&run) {
            return self.heir_answered(call, key, answer);
        }
        let Some(slot) = self.sidecars.get_mut(&run).and_then(|one| one.slots.get_mut(&key)) else {
            return;
        };
        let ours = slot.flight.take_if(|(flight, _)| flight.sequence == call.sequence);
        if let (Some((_, floors)), Answer::NeedFloor { closed_seq_min }) = (&ours, answer)
            && *floors < FLOORS_MAX
        {
            let floors = *floors + 1;
            return self.bring_floor(call, key, *closed_seq_min, floors);
        }
        if ours.is_some() {
            slot.unspoil();
        }
        slot.holder.answered(&seed(run), &slot.cell, call, answer, now);
        self.drive(run, key);
        if matches!(answer, Answer::EpochLost | Answer::StaleEpoch { .. }) {
            self.discover(run);
        }
    }

    fn bring_floor(&mut self, call: &Call, key: usize, closed_seq_min: u64, floors: u32) {
        let run = call.run;
        let away = self.is_ledger_away();
        let floor = self.floor(call.epoch.number, key, closed_seq_min).filter(|_| !away);
        let Some((_, identity)) = self.sidecars.get(&run).and_then(|sidecar| sidecar.epoch) else {
            return;
        };
        let is_closed = self.ledger.closing(run).is_some();
        let call = Call { floor: floor.map(Box::new), ..call.clone() };
        if call.floor.is_some() && is_closed && !self.is_planted(Planted::ClosedRunFounds) {
            let now = self.clock();
            let slot = self.slot(run, key);
            slot.unspoil();
            slot.holder.answered(&seed(run), &slot.cell, &call, &Answer::Fenced, now);
            self.drive(run, key);
        } else if call.floor.is_some() {
            self.slot(run, key).flight = Some((call.clone(), floors));
            self.send(identity, &call, key);
        } else {
            let now = self.clock();
            let slot = self.slot(run, key);
            slot.unspoil();
            slot.holder.failed(&seed(run), now);
            self.drive(run, key);
        }
    }

    pub(super) fn timed_out(&mut self, run: RunId, key: usize, sequence: u64) {
        let now = self.clock();
        let Some(slot) = self.sidecars.get_mut(&run).and_then(|one| one.slots.get_mut(&key)) else {
            return;
        };
        if slot.flight.take_if(|(flight, _)| flight.sequence == sequence).is_some() {
            slot.unspoil();
            slot.holder.failed(&seed(run), now);
            self.drive(run, key);
        }
    }

    pub(super) fn hinted(&mut self, run: RunId, key: usize, recall: &Recall) {
        if !self.heeds(run, recall) {
            return;
        }
        let slot = self.sidecars.get_mut(&run).and_then(|sidecar| sidecar.slots.get_mut(&key));
        if let Some(slot) = slot {
            slot.holder.hint(run, recall);
            self.drive(run, key);
        }
    }
}
