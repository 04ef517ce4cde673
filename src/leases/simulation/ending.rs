//! How runs come to an end, and what they leave.

use super::{
    closing::{Closing, Remains, Unspent},
    event::Event,
    planted::Planted,
    sidecar::Sidecar,
    world::World,
};
use crate::domain::{
    ids::RunId,
    usage::{Crash, Durability},
};

/// Longest time until somebody closes a run that was killed.
const CLOSING_DELAY_US_MAX: u64 = 300_000;
/// Longest time that the flush of a killed run's journal takes.
const INHERITING_US_MAX: u64 = 100_000;
/// Longest time that a stopping run has to return what it holds.
const STOP_US_MAX: u64 = 60_000;

impl World {
    /// Kills a run; another starts in its place, and the dead one is closed some time later.
    pub(super) fn kill(&mut self) {
        let run = self.some_run();
        let Some(mut dead) = self.take_off(run) else { return };
        self.seen.kills += 1;
        if self.is_planted(Planted::RunIdReused) {
            return self.go_on_as(dead);
        }
        let (torn, gone, back, released, copied) =
            (self.plan.torn, self.plan.gone, self.plan.back, self.plan.released, self.plan.copied);
        let crash = if self.share(torn) { Crash::Host } else { Crash::Process };
        let at_end = self.plan.length_ms * 1_000;
        if self.share(gone) {
            let unspent = if self.share(released) { Unspent::Released } else { Unspent::Forfeited };
            let comes_back = unspent == Unspent::Forfeited && self.share(back);
            if !comes_back {
                let unflushed = dead.journal.len() - dead.flushed;
                self.lose(&mut dead, unflushed);
            }
            // A machine that comes back has all that was written.
            dead.synced = dead.journal.len();
            self.close_later(&dead, Remains::Nothing, unspent, at_end);
            let from = at_end + self.up_to(CLOSING_DELAY_US_MAX);
            if comes_back {
                self.close_later(&dead, Remains::Whole, Unspent::Returned, from);
            }
            self.dead.insert(run, dead);
        } else {
            if crash == Crash::Host {
                let most = dead.journal.len() - dead.synced;
                let lost = self.up_to(most as u64) as usize;
                self.lose(&mut dead, lost);
            }
            // What is left is on disk when it is read.
            dead.synced = dead.journal.len();
            let unspent = match dead.weakest < Durability::least_surviving(crash) {
                true => Unspent::Forfeited,
                false => Unspent::Returned,
            };
            // Often so soon that messages of the dead run are still on their way.
            let most = [CLOSING_DELAY_US_MAX / 30, CLOSING_DELAY_US_MAX][self.up_to(1) as usize];
            let from = self.now + self.up_to(most);
            if self.share(copied) {
                let other = self.now + self.up_to(most);
                self.close_later(&dead, Remains::Whole, unspent, other);
            }
            self.leave(dead, unspent, from);
        }
        self.start_run();
    }

    /// Records of a dead run that nobody will ever read.
    fn lose(&mut self, dead: &mut Sidecar, lost: usize) {
        for record in dead.tear(lost) {
            let units = record.amount.max(0).cast_unsigned();
            self.torn[record.key] += units;
            if record.escrow {
                *self.unknown.entry((dead.run, record.key)).or_default() += units;
            }
        }
    }

    /// An operator has what a run held usable again: what it may have admitted beyond what the ledger
    /// knows is admitted beyond the limit.
    pub(super) fn release(&mut self, run: RunId) {
        for key in 0..self.keys.len() {
            let unknown = self.unknown.get(&(run, key)).copied().unwrap_or(0);
            self.released[key] += unknown;
        }
    }

    /// The mistake: it begins anew under the old name.
    fn go_on_as(&mut self, dead: Sidecar) {
        let mut again = Sidecar::new(dead.run, self.terms.clone(), dead.skew_ms);
        (again.journal, again.synced) = (dead.journal, dead.synced);
        (again.flushed, again.opened) = (dead.flushed, dead.opened);
        self.forget_inside(again.run);
        self.later(0, Event::Tick { run: again.run });
        self.later(0, Event::Arrive { run: again.run });
        self.sidecars.insert(again.run, again);
    }

    /// A run takes no more requests and returns what it has.
    pub(super) fn stop(&mut self) {
        let run = self.some_run();
        let delay = self.up_to(STOP_US_MAX);
        if let Some(sidecar) = self.sidecars.get_mut(&run)
            && !sidecar.stopping
            && sidecar.paused_until <= self.now
        {
            self.seen.stops += 1;
            sidecar.stopping = true;
            sidecar.slots.values_mut().for_each(|slot| slot.holder.retire());
            self.later(delay, Event::End { run });
        }
    }

    /// A stopping run ends, done or not, and is closed at once.
    pub(super) fn end(&mut self, run: RunId) {
        self.finish(run, self.now);
    }

    /// A run learns that it was closed: it serves no longer, and what starts in its place finds what
    /// it left.
    pub(super) fn outlawed(&mut self, run: RunId) {
        self.seen.outlawed += 1;
        let from = self.now + self.up_to(CLOSING_DELAY_US_MAX);
        self.finish(run, from);
    }

    fn finish(&mut self, run: RunId, from: u64) {
        if let Some(mut ended) = self.take_off(run) {
            ended.synced = ended.journal.len();
            self.leave(ended, Unspent::Returned, from);
            self.start_run();
        }
    }

    /// A run's directory is copied, and whoever starts on the copy takes the run for dead. Where it
    /// was copied from may live: nothing of what it held is usable again.
    pub(super) fn copy(&mut self) {
        let run = self.some_run();
        let unspent = match self.is_planted(Planted::CopyReturned) {
            true => Unspent::Returned,
            false => Unspent::Forfeited,
        };
        self.seen.copies += 1;
        self.close_living(run, Remains::Copy(self.sidecars[&run].synced), unspent);
    }

    /// An operator closes a run that is not dead.
    pub(super) fn operate(&mut self) {
        let run = self.some_run();
        self.seen.operated += 1;
        self.close_living(run, Remains::Nothing, Unspent::Forfeited);
    }

    fn close_living(&mut self, run: RunId, remains: Remains, unspent: Unspent) {
        let from = self.now + self.up_to(CLOSING_DELAY_US_MAX / 10);
        let keys = self.sidecars[&run].opened.clone();
        self.closing(run, keys, remains, unspent, from);
    }

    /// A run that nobody serves any more is to be closed.
    pub(super) fn leave(&mut self, left: Sidecar, unspent: Unspent, from: u64) {
        self.close_later(&left, Remains::Whole, unspent, from);
        self.dead.insert(left.run, left);
    }

    fn close_later(&mut self, left: &Sidecar, remains: Remains, unspent: Unspent, from: u64) {
        self.closing(left.run, left.opened.clone(), remains, unspent, from);
    }

    fn closing(
        &mut self,
        run: RunId,
        keys: std::collections::BTreeMap<usize, u64>,
        remains: Remains,
        unspent: Unspent,
        from: u64,
    ) {
        let number = self.closings.len();
        let inherits = self.plan.inherits;
        let inherits_us = if self.share(inherits) { self.up_to(INHERITING_US_MAX) } else { 0 };
        self.closings.push(Closing {
            number,
            run,
            remains,
            unspent,
            keys,
            from,
            inherits_us,
            inherited: Default::default(),
            epoch: 0,
            successor: None,
            fenced: Default::default(),
            closed_seq: None,
            folded: Default::default(),
        });
    }

    /// The process is gone: only its journal is left.
    fn take_off(&mut self, run: RunId) -> Option<Sidecar> {
        let mut gone = self.sidecars.remove(&run)?;
        if self.is_planted(Planted::TrimmedBeforeMark) {
            let told: Vec<_> = gone
                .slots
                .iter()
                .filter(|(_, slot)| slot.holder.is_settled(&slot.cell))
                .map(|(key, _)| *key)
                .collect();
            let flushed = gone.flushed;
            let mut number = 0;
            gone.journal.retain(|record| {
                number += 1;
                number <= flushed || !told.contains(&record.key)
            });
            gone.synced = gone.synced.min(gone.journal.len());
        }
        for (key, slot) in std::mem::take(&mut gone.slots) {
            self.held[key] -= slot.held;
            self.waiting -= slot.queue.len() as u64;
        }
        Some(gone)
    }
}
