//! The slow side of one key in one run: decides what to say to the key next, and when to deny.
//!
//! A driver owns the holder and does the waiting and the talking; see [`super`] for its loop. The
//! holder keeps the two totals that belong to the slow side (`granted`, `returned`), and what it
//! knows of the key from the last answer. It has no clock: `now` is the time since the start of
//! the run on a monotonic clock.

use std::time::Duration;

pub use super::step::{Denial, HolderSeed, LeaseTimes, Step, Surroundings, Waiting};
use super::{
    cell::{Cell, CellCounts},
    flight::{Flight, Passing, Ruling, Verdict, Want},
    kept_ceiling::KeptCeiling,
    kept_holder::{KeptHolder, Retiring, Told},
    message::{Answer, Ask, Call, Ceiling, Counted, Outcome, Recall, Totals},
};
use crate::domain::ids::RunId;

/// The slow side of one key.
///
/// What it shares with all holders of its run it is handed at each step: there are very many.
#[derive(Debug, Default)]
pub struct Holder {
    kept: KeptHolder,
    pub(super) passing: Passing,
}

impl Holder {
    /// The slow side of a key that the run has never had before.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was kept of a holder while nothing went on.
    pub fn of(kept: KeptHolder) -> Self {
        Self { kept, passing: Passing::default() }
    }

    /// All that is known of it, unless something goes on. The next step is told of `ceiling` again.
    pub fn at_rest(&self, ceiling: KeptCeiling) -> Option<KeptHolder> {
        let kept = self.kept;
        let newer = kept.ceiling.filter(|known| *known != ceiling);
        self.passing.is_nothing().then_some(KeptHolder { ceiling: newer, ..kept })
    }

    /// The slow side of a key whose cell the run has dropped: `cell` is new, `totals` are those
    /// that the dropped one left behind (see [`Holder::totals`]).
    pub fn resumed(cell: &Cell, totals: Totals) -> Self {
        let Totals { granted, returned, consumed, recorded, undone } = totals;
        cell.resume(CellCounts { consumed, recorded, undone });
        Self::of(KeptHolder { granted, returned, ..KeptHolder::default() })
    }

    /// What to do next. The driver has just tried [`Cell::take`] for the waiting requests.
    pub fn next(
        &mut self,
        seed: &HolderSeed,
        cell: &Cell,
        waiting: Option<Waiting>,
        around: &Surroundings,
    ) -> Step {
        if self.kept.fenced {
            return Step::Fenced;
        }
        if self.passing.flight().is_some() {
            return Step::InFlight;
        }
        self.enter(around);
        match waiting {
            Some(waiting) => self.next_waiting(seed, cell, waiting, around),
            None => self.next_idle(seed, cell, around),
        }
    }

    /// Takes in the answer to the call that [`Step::Send`] gave.
    ///
    /// An answer to any other call is ignored: it may tell of escrow that the counters have
    /// forgotten since.
    pub fn answered(
        &mut self,
        seed: &HolderSeed,
        cell: &Cell,
        call: &Call,
        answer: &Answer,
        now: Duration,
    ) {
        let Some(flight) = self.passing.end(|flight| flight.sequence == call.sequence) else {
            return;
        };
        match answer {
            Answer::Counted(counted) => self.counted(cell, &flight, counted, now),
            Answer::Fenced => {
                self.kept.fenced = true;
                // Whatever was in hand now belongs to those who closed the run.
                let _ = cell.close();
            }
            // Refused before anything happened; the driver mends the epoch or the floor.
            Answer::NeedFloor { .. } | Answer::StaleEpoch { .. } | Answer::EpochLost => {
                self.unavailable(seed, &flight, now);
            }
        }
    }

    /// The call under way failed: it may or may not have happened, or happen yet.
    pub fn failed(&mut self, seed: &HolderSeed, now: Duration) {
        if let Some(flight) = self.passing.end(|_| true) {
            self.kept.uncertain = true;
            self.unavailable(seed, &flight, now);
        }
    }

    /// Takes in a recall hint about this key; `run` is the holder's.
    pub fn hint(&mut self, run: RunId, recall: &Recall) {
        if recall.by == run {
            return;
        }
        if recall.first == Some(run) {
            self.kept.turn_due = true;
        } else if recall.ticket > self.passing.answered() {
            self.kept.recall_due = true;
        }
    }

    /// Has the next [`Holder::next`] call the key, so that what is known of it is fresh.
    pub fn look(&mut self) {
        self.kept.look_due = true;
    }

    /// Own usage that the key has not confirmed yet, in units; negative when more was undone.
    pub fn unsettled(&self, cell: &Cell) -> i64 {
        let net = |consumed: u64, recorded: u64, undone: u64| {
            consumed.saturating_add(recorded).cast_signed().saturating_sub(undone.cast_signed())
        };
        let own = cell.counts();
        let told = self.told().unwrap_or_default();
        net(own.consumed, own.recorded, own.undone).saturating_sub(net(
            told.consumed,
            told.recorded,
            told.undone,
        ))
    }

    /// From now on only return, settle and end: the process is stopping.
    pub fn retire(&mut self) {
        self.kept.retiring.get_or_insert_default();
    }

    /// As [`Holder::retire`], for a cell that is to be dropped afterwards: it is idle, or its window
    /// over. `retention`: how long the key is kept if nobody uses it any more.
    ///
    /// All that it counted is in the ledger. If it counts something later, it has to part once more
    /// when that is flushed.
    pub fn part(&mut self, retention: Option<Duration>) {
        // A call that is under way may still come to be answered, of counters that are lost since.
        let farewell_due = self.kept.is_told || self.passing.flight().is_some();
        self.kept.retiring = Some(Retiring { retention, farewell_due });
    }

    /// Whether it has been told to retire.
    pub fn is_retiring(&self) -> bool {
        self.kept.retiring.is_some()
    }

    /// The cell is in use again after all.
    pub fn revive(&mut self) {
        self.kept.retiring = None;
        // The answer opens the cell again.
        self.kept.look_due = true;
    }

    /// Whether the key has confirmed this run's totals in `epoch`, or there is nothing to confirm.
    /// When it holds for every holder of the run, the run has reported to the epoch.
    pub fn has_reported(&self, cell: &Cell, epoch: u64) -> bool {
        // An answer of the epoch before may still bring escrow that the new one has to hear of.
        if self.passing.flight().is_some_and(|flight| flight.epoch != epoch) {
            return false;
        }
        let told = self.kept.epoch == epoch && self.kept.is_told;
        told || self.totals(cell) == Totals::default()
    }

    /// Whether everything counted so far is confirmed.
    pub fn is_settled(&self, cell: &Cell) -> bool {
        let totals = self.totals(cell);
        totals == self.told().unwrap_or_default()
    }

    /// The ceiling in force as far as is known here: the plan's, or a newer one from the key.
    pub fn ceiling(&self) -> Option<Ceiling> {
        self.kept.ceiling.map(Ceiling::from)
    }

    /// Units per second that the cell has spent lately.
    pub fn demand(&self) -> u64 {
        self.kept.demand.per_second()
    }

    /// Escrow of this run that is neither consumed nor returned: in hand, or held by requests and
    /// reservations.
    pub fn outstanding(&self, cell: &Cell) -> u64 {
        let ours = self.kept.granted - self.kept.returned;
        ours.saturating_sub(cell.counts().consumed)
    }

    /// The run's totals on the key as they are now. When the cell is dropped, they are to be kept
    /// for [`Holder::resumed`] as long as the window may still be used.
    pub fn totals(&self, cell: &Cell) -> Totals {
        let CellCounts { consumed, recorded, undone } = cell.counts();
        Totals {
            granted: self.kept.granted,
            returned: self.kept.returned,
            consumed,
            recorded,
            undone,
        }
    }

    fn told(&self) -> Option<Totals> {
        let Told { returned, consumed, recorded, undone } = self.kept.told;
        let granted = self.kept.granted;
        self.kept.is_told.then_some(Totals { granted, returned, consumed, recorded, undone })
    }

    fn enter(&mut self, around: &Surroundings) {
        if self.kept.epoch < around.epoch.number {
            self.kept.epoch = around.epoch.number;
            self.kept.is_told = false;
            self.kept.uncertain = false;
            self.passing.pause(0);
            self.passing.forget_want();
            self.kept.queued = false;
            self.kept.recalled = false;
            self.kept.recall_due = false;
            self.passing.set_answered(0);
        }
        self.adopt(around.ceiling);
    }

    fn adopt(&mut self, ceiling: Ceiling) {
        if self.ceiling().is_none_or(|known| known.version < ceiling.version) {
            self.kept.ceiling = Some(ceiling.into());
        }
    }

    fn next_waiting(
        &mut self,
        seed: &HolderSeed,
        cell: &Cell,
        waiting: Waiting,
        around: &Surroundings,
    ) -> Step {
        // While the counters are away, who waits is answered before a return is tried again.
        let is_away = self.passing.verdict().is_some_and(|verdict| verdict.is_unavailable());
        if self.return_due(cell) && !is_away {
            return self.send(seed, cell, Some(waiting), around);
        }
        if cell.available() >= waiting.head {
            return Step::Retry;
        }
        // It holds for a larger head too; of a smaller one it says nothing.
        if let Some(verdict) = self.passing.take_verdict(|verdict| verdict.head <= waiting.head) {
            return match verdict.ruling {
                Ruling::Deny { why, remaining, at_hand } => Step::Deny { why, remaining, at_hand },
                Ruling::Unavailable => Step::Unavailable,
            };
        }
        if let (Some(want), Some(called_at)) = (self.passing.want(), self.kept.called_at())
            && !self.kept.turn_due
            && want.head <= waiting.head
        {
            let until = (called_at + seed.times.poll).min(deadline(seed, want)).max(called_at);
            if around.now < until {
                return Step::Wait { until };
            }
        }
        self.send(seed, cell, Some(waiting), around)
    }

    fn next_idle(&mut self, seed: &HolderSeed, cell: &Cell, around: &Surroundings) -> Step {
        self.passing.set_verdict(None);
        self.passing.forget_want();
        let reported = self.has_reported(cell, self.kept.epoch);
        let settled = self.is_settled(cell);
        let refill = cell.is_low() && !self.kept.recalled && self.kept.retiring.is_none();
        let urgent =
            self.kept.look_due || self.return_due(cell) || self.kept.queued || !reported || refill;
        let parting = self.kept.retiring.is_some();
        let farewell_due =
            self.kept.retiring.as_ref().is_some_and(|retiring| retiring.farewell_due);
        if settled && !urgent && !self.kept.uncertain && !farewell_due {
            let done = parting && self.outstanding(cell) == 0;
            return if done { Step::Retired } else { Step::Rest { until: None } };
        }
        let due = match self.kept.called_at() {
            Some(called_at) if !urgent && !parting => called_at + seed.times.settle,
            _ => Duration::ZERO,
        };
        let due = due.max(Duration::from_micros(self.passing.paused_until_us()));
        if around.now < due {
            return Step::Rest { until: Some(due) };
        }
        self.send(seed, cell, None, around)
    }

    /// Whether something has to go back, or be said to have gone back, before anything else.
    fn return_due(&self, cell: &Cell) -> bool {
        let closed = self.kept.recalled || self.kept.retiring.is_some();
        self.kept.recall_due || (closed && cell.available() > 0)
    }

    fn send(
        &mut self,
        seed: &HolderSeed,
        cell: &Cell,
        waiting: Option<Waiting>,
        around: &Surroundings,
    ) -> Step {
        let now = around.now;
        let closed = self.kept.recall_due || self.kept.recalled || self.kept.retiring.is_some();
        let spent = self.kept.granted.saturating_sub(self.kept.returned + cell.available());
        self.kept
            .demand
            .observe(spent, now.saturating_sub(self.kept.called_at().unwrap_or_default()));
        if closed {
            // Out of hand first, then said to be returned: never the other way round.
            self.kept.returned += cell.close();
        }
        let in_hand = if closed { 0 } else { cell.available() };
        self.kept.sequence = micros(now).max(self.kept.sequence + 1);
        let last = self.passing.want().is_some_and(|want| now >= deadline(seed, want));
        let depose = self
            .passing
            .want()
            .and_then(|want| want.behind)
            .filter(|(_, since)| now.saturating_sub(*since) >= seed.times.depose_after);
        let call = Call {
            run: seed.run,
            sequence: self.kept.sequence,
            epoch: around.epoch,
            totals: self.totals(cell),
            ceiling: self.ceiling().unwrap_or(around.ceiling),
            ask: Ask { last, ..self.ask(&seed.times, waiting, in_hand, closed, now) },
            closed,
            depose: depose.map(|(ticket, _)| ticket),
            retention: self.kept.retiring.as_ref().and_then(|retiring| retiring.retention),
            floor: None,
        };
        self.passing.begin(Flight {
            sequence: call.sequence,
            epoch: call.epoch.number,
            totals: call.totals,
            closed,
            last,
            parted: self.kept.retiring.is_some(),
            waiting,
            in_hand,
        });
        self.kept.recall_due = false;
        self.kept.look_due = false;
        self.kept.turn_due = false;
        self.passing.set_verdict(None);
        Step::Send(Box::new(call))
    }

    /// Sizes what to ask for. A closed cell asks exactly; the key cuts what is asked in advance.
    fn ask(
        &mut self,
        times: &LeaseTimes,
        waiting: Option<Waiting>,
        in_hand: u64,
        closed: bool,
        now: Duration,
    ) -> Ask {
        let granted = self.kept.granted;
        let total = waiting.map_or(0, |waiting| waiting.total);
        let to = |wanted: u64| granted.saturating_add(wanted.saturating_sub(in_hand));
        let mut ask =
            Ask { want: 0, need_to: granted, wanted_to: granted, target: granted, last: false };
        if let Some(Waiting { head, total }) = waiting {
            let sequence = self.kept.sequence;
            let want = self.passing.want_or(Want::new(sequence, head, now));
            want.head = head;
            ask = Ask { want: want.id, need_to: to(head), wanted_to: to(total), ..ask };
        }
        let ahead_ms = u64::try_from(times.prefetch.as_millis()).unwrap_or(u64::MAX);
        let ahead = self.kept.demand.per_second().saturating_mul(ahead_ms) / 1000;
        let limited = self.ceiling().is_some_and(|ceiling| ceiling.units.is_some());
        let worthwhile = limited && !closed;
        let target = if worthwhile { to(total.saturating_add(ahead)) } else { granted };
        Ask { target: target.max(ask.wanted_to), ..ask }
    }

    fn counted(&mut self, cell: &Cell, flight: &Flight, counted: &Counted, now: Duration) {
        let totals = counted.totals;
        let gained = totals.granted.saturating_sub(self.kept.granted);
        self.kept.granted += gained;
        let Totals { returned, consumed, recorded, undone, .. } = flight.totals;
        (self.kept.told, self.kept.is_told) = (Told { returned, consumed, recorded, undone }, true);
        cell.refill(gained);
        self.kept.uncertain = false;
        if let Some(retiring) = &mut self.kept.retiring {
            retiring.farewell_due &= !flight.parted;
        }
        self.adopt(counted.ceiling);
        self.rule(cell, flight, counted, now);

        self.passing.set_answered(counted.answered);
        self.passing.end_pause(micros(now));
        self.kept.recalled = counted.recalled && counted.outcome != Outcome::Recovering;
        // What came with this answer is not in what the call returned.
        self.kept.recall_due |= self.kept.recalled && (!flight.closed || gained > 0);
        if !self.kept.recalled && self.kept.retiring.is_none() {
            cell.reopen();
        }
        let waiting = flight.waiting.map_or(0, |waiting| waiting.total);
        cell.arm((flight.in_hand + gained).saturating_sub(waiting) / 5);
        let own = totals.consumed.saturating_add(totals.recorded).cast_signed();
        let own = own.saturating_sub(totals.undone.cast_signed());
        cell.observe(counted.used.saturating_sub(own), counted.forfeited);
    }

    /// What the outcome means for those who wait.
    fn rule(&mut self, cell: &Cell, flight: &Flight, counted: &Counted, now: Duration) {
        self.kept.queued = false;
        match counted.outcome {
            Outcome::Met => self.passing.forget_want(),
            Outcome::First => {
                self.kept.queued = true;
                if let Some(want) = self.passing.want_mut() {
                    want.first_since.get_or_insert(now);
                    want.behind = None;
                }
            }
            Outcome::Behind { first } => {
                self.kept.queued = true;
                if let Some(want) = self.passing.want_mut() {
                    want.first_since = None;
                    if want.behind.is_none_or(|(ticket, _)| ticket != first) {
                        want.behind = Some((first, now));
                    }
                }
            }
            Outcome::Refused => {
                let in_hand = cell.available();
                let in_reach = counted.free.max(0).cast_unsigned() + in_hand;
                let (why, remaining) = if flight.last {
                    (Denial::RecallTimedOut, in_reach)
                } else {
                    // Below zero, free takes from what others return.
                    let free = counted.free.saturating_add_unsigned(counted.others_outstanding);
                    (Denial::Exhausted, free.max(0).cast_unsigned() + in_hand)
                };
                if in_hand > flight.in_hand && flight.waiting.is_some_and(|w| w.head <= remaining) {
                    // What was given back here since is missing no longer: ask for the rest.
                    self.passing.forget_want();
                } else {
                    let at_hand = in_reach;
                    self.settle_wait(flight, Ruling::Deny { why, remaining, at_hand });
                }
            }
            Outcome::Recovering => self.settle_wait(flight, Ruling::Unavailable),
            Outcome::Overtaken => {
                self.kept.uncertain = true;
                self.settle_wait(flight, Ruling::Unavailable);
            }
        }
    }

    fn settle_wait(&mut self, flight: &Flight, ruling: Ruling) {
        self.passing.forget_want();
        let verdict = flight.waiting.map(|waiting| Verdict { head: waiting.head, ruling });
        self.passing.set_verdict(verdict);
    }

    fn unavailable(&mut self, seed: &HolderSeed, flight: &Flight, now: Duration) {
        self.kept.queued |= flight.waiting.is_some();
        self.kept.recall_due |= flight.closed;
        self.passing.pause(micros(now + seed.times.retry));
        self.settle_wait(flight, Ruling::Unavailable);
    }
}

/// When a want is given up.
fn deadline(HolderSeed { times, .. }: &HolderSeed, want: &Want) -> Duration {
    let in_queue = want.raised_at + times.queue_wait_max;
    want.first_since.map_or(in_queue, |since| since + times.recall_wait)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
