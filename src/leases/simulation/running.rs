//! A run's life: its timer, its flusher, and its end.

use rand::Rng;
use uuid::Uuid;

use super::{
    closing::Closing,
    event::Event,
    planted::Planted,
    sidecar::{Sidecar, Slot},
    world::World,
};
use crate::{domain::ids::RunId, leases::message::Epoch};

/// Between two ticks of a run's timer, in microseconds.
const TICK_US: u64 = 7_000;
/// Longest time until a new run's first request.
const WARM_UP_US: u64 = 30_000;
/// Longest time until somebody closes a run that was killed.
const CLOSING_DELAY_US_MAX: u64 = 300_000;
/// Longest time that a stopping run has to return what it holds.
const STOP_US_MAX: u64 = 60_000;

impl World {
    /// Looks at Redis' identity and asks the ledger which epoch that is.
    pub(super) fn discover(&mut self, run: RunId) {
        if self.now < self.redis.away_until || self.is_ledger_away() {
            return;
        }
        let identity = self.redis.identity;
        let (number, latest) = self.ledger.epoch_of(identity);
        let early = self.is_planted(Planted::GrantedBeforeReports);
        let recovered = early || self.ledger.is_recovered(number);
        if let Some(sidecar) = self.sidecars.get_mut(&run).filter(|_| latest) {
            sidecar.epoch = Some((Epoch { number, recovered }, identity));
        }
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
            self.learn_ceilings(run);
        }
        let most = if self.quiet { usize::MAX } else { self.up_to(8) as usize };
        self.flush(run, most);
        let retires = self.plan.retires;
        let Some(sidecar) = self.sidecars.get(&run) else { return };
        let keys: Vec<_> = sidecar.slots.keys().copied().collect();
        for key in &keys {
            self.stay_if_used(run, *key);
            if !self.quiet && self.share(retires) {
                self.part(run, *key);
            }
            self.drive(run, *key);
        }
        let Some(sidecar) = self.sidecars.get(&run) else { return };
        if let Some((epoch, _)) = sidecar.epoch {
            let reported = |slot: &Slot| slot.holder.has_reported(&slot.cell, epoch.number);
            if sidecar.slots.values().all(reported) {
                self.ledger.report(epoch.number, run);
            }
        }
    }

    fn learn_ceilings(&mut self, run: RunId) {
        let Some(sidecar) = self.sidecars.get_mut(&run) else { return };
        for (key, slot) in &mut sidecar.slots {
            if sidecar.ceilings[*key] != self.ceilings[*key] {
                slot.holder.look();
            }
        }
        sidecar.ceilings.clone_from(&self.ceilings);
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
        let slot = self.slot(run, key);
        if slot.queue.is_empty() && slot.held == 0 && records == flushed {
            slot.parted_after = Some(records);
            slot.holder.part(None);
        }
    }

    /// Flushes up to `most` records of a run, dead or alive.
    pub(super) fn flush(&mut self, run: RunId, most: usize) {
        let Some(sidecar) = self.sidecars.get_mut(&run).or(self.dead.get_mut(&run)) else { return };
        for record in sidecar.flush(most) {
            let back = self.ledger.flush(run, record.key, record.amount, record.event);
            self.undone[record.key] += back;
            if let Some(slot) = sidecar.slots.get(&record.key) {
                slot.cell.undo(back);
            }
        }
    }

    pub(super) fn start_run(&mut self) {
        let run = RunId(Uuid::from_u128(self.rng.random()));
        self.ledger.register(run);
        self.sidecars.insert(run, Sidecar::new(run, self.ceilings.clone()));
        self.later(0, Event::Tick { run });
        let pause = self.up_to(WARM_UP_US);
        self.later(pause, Event::Arrive { run });
    }

    /// Kills a run; another starts in its place, and the dead one is closed some time later.
    pub(super) fn kill(&mut self) {
        let run = self.some_run();
        let Some(mut dead) = self.sidecars.remove(&run) else { return };
        self.seen.kills += 1;
        let (gone, torn) = (self.plan.gone, self.plan.torn);
        let gone = self.share(gone);
        let torn = gone || self.share(torn);
        if torn {
            let unflushed = (dead.journal.len() - dead.flushed) as u64;
            let lost = if gone { unflushed } else { self.up_to(unflushed) };
            for record in dead.tear(lost as usize) {
                self.torn[record.key] += record.amount.max(0).cast_unsigned();
            }
        }
        // Often so soon that messages of the dead run are still on their way.
        let most = [CLOSING_DELAY_US_MAX / 30, CLOSING_DELAY_US_MAX][self.up_to(1) as usize];
        let delay = self.up_to(most);
        let from = if gone { self.plan.length_ms * 1_000 } else { self.now + delay };
        self.leave(dead, torn, from);
        self.start_run();
    }

    /// A run takes no more requests and returns what it has.
    pub(super) fn stop(&mut self) {
        let run = self.some_run();
        let delay = self.up_to(STOP_US_MAX);
        if let Some(sidecar) = self.sidecars.get_mut(&run)
            && !sidecar.stopping
        {
            self.seen.stops += 1;
            sidecar.stopping = true;
            sidecar.slots.values_mut().for_each(|slot| slot.holder.retire());
            self.later(delay, Event::End { run });
        }
    }

    /// A stopping run ends, done or not, and is closed at once.
    pub(super) fn end(&mut self, run: RunId) {
        if self.sidecars.contains_key(&run) {
            self.flush(run, usize::MAX);
        }
        if let Some(ended) = self.sidecars.remove(&run) {
            self.leave(ended, false, self.now);
            self.start_run();
        }
    }

    fn leave(&mut self, mut left: Sidecar, torn: bool, from: u64) {
        let keys = std::mem::take(&mut left.opened);
        for (key, slot) in std::mem::take(&mut left.slots) {
            self.held[key] -= slot.held;
            self.waiting -= slot.queue.len() as u64;
        }
        self.closings.push(Closing::new(left.run, torn, keys, from));
        self.dead.insert(left.run, left);
    }

    pub(super) fn some_run(&mut self) -> RunId {
        let index = self.up_to(self.sidecars.len() as u64 - 1) as usize;
        let runs: Vec<_> = self.sidecars.keys().copied().collect();
        runs[index]
    }
}
