//! A run's life: its timer, its flusher, its clock.

use jiff::Timestamp;
use rand::Rng;
use uuid::Uuid;

use super::{
    event::Event,
    planted::Planted,
    sidecar::{Sidecar, Slot},
    terms::wall,
    world::World,
};
use crate::{domain::ids::RunId, leases::message::Epoch};

/// Between two ticks of a run's timer, in microseconds.
const TICK_US: u64 = 7_000;
/// Longest time until a new run's first request.
const WARM_UP_US: u64 = 30_000;

impl World {
    /// Looks at Redis' identity and asks the ledger which epoch that is, which a closed run has no part
    /// in.
    pub(super) fn discover(&mut self, run: RunId) {
        if self.now < self.redis.away_until || self.is_ledger_away() {
            return;
        }
        let identity = self.redis.identity;
        let (number, latest) = self.ledger.epoch_of(identity);
        let early = self.is_planted(Planted::GrantedBeforeReports);
        let recovered = early || self.ledger.is_recovered(number);
        let is_new = self
            .sidecars
            .get(&run)
            .is_some_and(|sidecar| sidecar.epoch.is_none_or(|(epoch, _)| epoch.number != number));
        if is_new
            && self.ledger.closing(run).is_some()
            && !self.is_planted(Planted::ClosedRunReports)
        {
            return self.outlawed(run);
        }
        if let Some(sidecar) = self.sidecars.get_mut(&run).filter(|_| latest) {
            sidecar.epoch = Some((Epoch { number, recovered }, identity));
        }
    }

    /// What a run's wall clock shows.
    pub(super) fn wall(&self, run: RunId) -> Timestamp {
        wall(self.now, self.sidecars.get(&run).map_or(0, |sidecar| sidecar.skew_ms))
    }

    pub(super) fn is_ledger_away(&mut self) -> bool {
        let away = self.plan.ledger_away;
        !self.quiet && self.share(away)
    }

    pub(super) fn tick(&mut self, run: RunId) {
        if !self.sidecars.contains_key(&run) {
            return;
        }
        self.later(TICK_US, Event::Tick { run });
        if self.up_to(2) == 0 || self.quiet {
            self.discover(run);
            self.learn_terms(run);
        }
        if let Some(sidecar) = self.sidecars.get_mut(&run)
            && (self.quiet || self.rng.random())
        {
            sidecar.synced = sidecar.journal.len();
        }
        if !self.is_ledger_away() {
            if self.ledger.closing(run).is_some() {
                // The ledger takes nothing of a closed run.
                return self.outlawed(run);
            }
            let most = if self.quiet { usize::MAX } else { self.up_to(8) as usize };
            self.flush(run, most);
        }
        self.expire_holds(run);
        let retires = self.plan.retires;
        let Some(sidecar) = self.sidecars.get(&run) else { return };
        let keys: Vec<_> = sidecar.slots.keys().copied().collect();
        for key in &keys {
            if !self.has_cell(run, *key) {
                continue;
            }
            self.stay_if_used(run, *key);
            let is_over = self.keys[*key].window.end.is_some_and(|end| end <= self.wall(run));
            if is_over || (!self.quiet && self.share(retires)) {
                self.part(run, *key);
            }
            self.drive(run, *key);
        }
        let now = self.wall(run);
        let Some(sidecar) = self.sidecars.get_mut(&run) else { return };
        sidecar.left.forget_past(now);
        if let Some((epoch, _)) = sidecar.epoch {
            let reported = |slot: &Slot| slot.holder.has_reported(&slot.cell, epoch.number);
            if sidecar.slots.values().all(reported) {
                self.ledger.report(epoch.number, run);
            }
        }
    }

    fn learn_terms(&mut self, run: RunId) {
        let Some(sidecar) = self.sidecars.get_mut(&run) else { return };
        if sidecar.terms.version == self.terms.version {
            return;
        }
        for (key, slot) in &mut sidecar.slots {
            let limit = self.keys[*key].limit;
            if sidecar.terms.limits[limit] != self.terms.limits[limit] {
                slot.holder.look();
            }
        }
        sidecar.terms.clone_from(&self.terms);
    }

    fn stay_if_used(&mut self, run: RunId, key: usize) {
        let sidecar = &self.sidecars[&run];
        let (stopping, (records, _)) = (sidecar.stopping, sidecar.records(key));
        let slot = self.slot(run, key);
        if slot.parted_after.is_some_and(|parted| parted != records) && !stopping {
            slot.parted_after = None;
            slot.holder.revive();
        }
    }

    /// Begins to drop a cell that nobody needs now.
    fn part(&mut self, run: RunId, key: usize) {
        let (records, flushed) = self.sidecars[&run].records(key);
        let retention = self.retention(key, self.sidecars[&run].skew_ms);
        let slot = self.slot(run, key);
        let has_parted = slot.parted_after == Some(records);
        if slot.queue.is_empty() && slot.users == 0 && records == flushed && !has_parted {
            slot.parted_after = Some(records);
            slot.holder.part(retention);
        }
    }

    /// Flushes up to `most` records of a run, dead or alive.
    pub(super) fn flush(&mut self, run: RunId, most: usize) {
        let Some(sidecar) = self.sidecars.get_mut(&run).or(self.dead.get_mut(&run)) else { return };
        for record in sidecar.flush(most) {
            let back = self.ledger.flush(run, record.key, record.amount, record.event);
            self.undone[record.key] += back;
            if !record.counted {
                self.uncounted[record.key] += record.amount.unsigned_abs();
            } else if let Some(slot) = sidecar.slots.get(&record.key) {
                slot.cell.undo(back);
            }
        }
    }

    pub(super) fn start_run(&mut self) {
        let run = RunId(Uuid::from_u128(self.rng.random()));
        self.ledger.register(run);
        let skew_ms = self.skew_ms();
        self.sidecars.insert(run, Sidecar::new(run, self.terms.clone(), skew_ms));
        self.later(0, Event::Tick { run });
        let pause = self.up_to(WARM_UP_US);
        self.later(pause, Event::Arrive { run });
    }

    /// How far some clock is off.
    fn skew_ms(&mut self) -> i64 {
        let most = self.plan.skew_s.cast_signed() * 1_000;
        self.rng.random_range(-most..=most)
    }

    /// Some run's clock is set.
    pub(super) fn jump(&mut self) {
        let (run, skew_ms) = (self.some_run(), self.skew_ms());
        if let Some(sidecar) = self.sidecars.get_mut(&run) {
            sidecar.skew_ms = skew_ms;
            self.seen.jumps += 1;
        }
    }

    /// Some run stands still.
    pub(super) fn pause(&mut self) {
        let (run, most) = (self.some_run(), self.plan.pause_ms * 1_000);
        let until = (self.now + self.up_to(most)).min(self.plan.length_ms * 1_000);
        if let Some(sidecar) = self.sidecars.get_mut(&run) {
            sidecar.paused_until = until;
            self.seen.pauses += 1;
        }
    }

    pub(super) fn some_run(&mut self) -> RunId {
        let index = self.up_to(self.sidecars.len() as u64 - 1) as usize;
        let runs: Vec<_> = self.sidecars.keys().copied().collect();
        runs[index]
    }
}
