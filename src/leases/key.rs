//! The shared side of one key as a state machine: what the Lua scripts do in Redis, and what local
//! mode does in this process.
//!
//! An entry per run holds its totals. With
//!
//! ```text
//! used(run)  = max(consumed + recorded, flushed) − undone
//! taken(run) = max(max(granted − returned, consumed) + recorded, flushed) − undone
//! free       = ceiling − (base + Σ taken + forfeited)
//! ```
//!
//! escrow is granted only out of `free`, and leaves it at that moment. `taken − used ≥ 0` is the
//! run's outstanding escrow. `flushed` is what the ledger had of the run when the key was rebuilt;
//! it stands in until the run reports again, and its own totals then cover it. The sums are kept
//! running, so that a call costs the same however many runs there are; only a want that waits for
//! others looks at every entry.
//!
//! All sums stay within ±[`AMOUNT_MAX`], what a double holds exactly. Where usage passes that (a
//! run's totals, or those of all runs together), nothing is free any more until it no longer does:
//! too much is counted then, never too little. Base and forfeits that come to it stay there.

mod packed;

use serde::{Deserialize, Serialize};

pub use super::queue::WANTS_MAX;
use super::{
    entry::{Entries, Entry},
    fences::Fences,
    message::{
        Answer, Call, Ceiling, CloseAnswer, CloseCall, CloseStep, Counted, Floor, Flushed, Outcome,
        Recall, Totals,
    },
    origin::Origin,
    queue::Queue,
};
use crate::domain::{
    amount::{AMOUNT_MAX, saturated},
    ids::RunId,
};

/// One key's counters. As bytes it is [`packed`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "packed::Packed", into = "packed::Packed")]
pub struct KeyState {
    epoch: u64,
    origin: Origin,
    forfeited: u64,
    /// Σ taken over the entries.
    taken: i64,
    /// Σ used over the entries.
    used: i64,
    /// One of the two sums is past what can be counted; both then say [`AMOUNT_MAX`].
    overflowed: bool,
    /// Entries with outstanding escrow.
    holders: u32,
    ceiling: Option<Ceiling>,
    queue: Queue,
    entries: Entries,
    fences: Fences,
}

impl KeyState {
    /// Applies a call to the key in `slot` (absent = `None`). `alive`: the counters still are the
    /// ones that the call's epoch was made for.
    pub fn apply(slot: &mut Option<Self>, alive: bool, call: &Call) -> (Answer, Option<Recall>) {
        if !alive {
            return (Answer::EpochLost, None);
        }
        if let Some(epoch) = later_epoch(slot.as_ref(), call.epoch.number) {
            return (Answer::StaleEpoch { epoch }, None);
        }
        let known = slot.as_ref().filter(|key| key.epoch == call.epoch.number);
        if known.is_some_and(|key| key.fences.has(call.run)) {
            return (Answer::Fenced, None);
        }
        if let Err(closed_seq_min) = Self::establish(slot, call.epoch.number, call.floor.as_deref())
        {
            return (Answer::NeedFloor { closed_seq_min }, None);
        }
        match slot {
            Some(key) => key.serve_if_open(call),
            None => (Answer::NeedFloor { closed_seq_min: 0 }, None),
        }
    }

    /// Closes a run on the key in `slot`.
    pub fn close(slot: &mut Option<Self>, alive: bool, call: &CloseCall) -> CloseAnswer {
        if !alive {
            return CloseAnswer::EpochLost;
        }
        if let Some(epoch) = later_epoch(slot.as_ref(), call.epoch) {
            return CloseAnswer::StaleEpoch { epoch };
        }
        let known = slot.as_ref().filter(|key| key.epoch == call.epoch);
        if known.is_some_and(|key| key.fences.is_crowded(call)) {
            return CloseAnswer::Crowded;
        }
        let live = known.is_some_and(Self::is_founded);
        match (call.step.fitted(), slot) {
            (CloseStep::Fence, Some(key)) if live => key.fence(call),
            (CloseStep::Fold { closed_seq, used, undone, forfeit }, Some(key)) if live => {
                let settled = used.cast_signed() - undone.cast_signed();
                key.fold(call, closed_seq, settled, forfeit)
            }
            (step, slot) => {
                // A floor that was read before the closing may be on its way here, or a late call
                // of the run. The stub keeps the one from founding a key in which the run would be
                // open for ever, and the other from being counted beside the base, or from being
                // granted what nobody forfeits.
                let known = slot.take().filter(|key| key.epoch == call.epoch);
                let mut stub =
                    known.unwrap_or_else(|| Self { epoch: call.epoch, ..Self::default() });
                let answer = match step {
                    CloseStep::Fence => {
                        stub.fences.remember(call, None);
                        CloseAnswer::Fenced { taken: None }
                    }
                    CloseStep::Fold { closed_seq, .. } => {
                        let closed_seq_min = stub.origin.closed_seq_min().max(closed_seq);
                        stub.origin = Origin::Stub { closed_seq_min };
                        stub.fences.remember(call, Some(closed_seq));
                        CloseAnswer::Absent
                    }
                };
                *slot = Some(stub);
                answer
            }
        }
    }

    /// The epoch that the key was built in.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Usage of the runs that are folded.
    pub fn base(&self) -> i64 {
        self.origin.base()
    }

    /// Usage of all runs, as far as reported.
    pub fn used(&self) -> i64 {
        saturated(self.base() + self.used)
    }

    /// Escrow of all runs that is not known to be consumed.
    pub fn outstanding(&self) -> i64 {
        self.taken - self.used
    }

    /// Units that are counted though nobody used them.
    pub fn forfeited(&self) -> u64 {
        self.forfeited
    }

    /// Whether it counts; otherwise it is a stub.
    pub fn is_founded(&self) -> bool {
        matches!(self.origin, Origin::Floor { .. })
    }

    /// The ceiling in force, once a call has brought one.
    pub fn ceiling(&self) -> Option<Ceiling> {
        self.ceiling
    }

    /// The open runs in the order of their ids: totals, and what the floor had of each.
    pub fn runs(&self) -> impl Iterator<Item = (RunId, Totals, u64)> {
        self.entries.iter().map(|(run, entry)| (run, entry.totals, entry.flushed))
    }

    /// The open runs that have not said that all is returned, or got more since.
    #[cfg(test)]
    pub(super) fn silent(&self) -> impl Iterator<Item = (RunId, &Entry)> {
        self.entries.iter().filter(|(_, entry)| entry.answered == 0)
    }

    /// Makes sure that the key is there in the call's epoch, or says which floor it needs.
    fn establish(slot: &mut Option<Self>, epoch: u64, floor: Option<&Floor>) -> Result<(), u64> {
        let known = slot.as_ref().filter(|key| key.epoch == epoch);
        if known.is_some_and(Self::is_founded) {
            return Ok(());
        }
        let closed_seq_min = known.map_or(0, |key| key.origin.closed_seq_min());
        match floor {
            Some(floor) if floor.closed_seq >= closed_seq_min => {
                let fences = known.map_or_else(Fences::default, |stub| stub.fences.clone());
                *slot = Some(Self { fences, ..Self::built(epoch, floor) });
                Ok(())
            }
            _ => Err(closed_seq_min),
        }
    }

    fn built(epoch: u64, floor: &Floor) -> Self {
        let mut key = Self {
            epoch,
            origin: Origin::Floor {
                closed_seq: floor.closed_seq,
                base: saturated(floor.base_used),
            },
            forfeited: floor.base_forfeited.min(AMOUNT_MAX),
            // Nothing is free before somebody comes who knows the limit that holds.
            ceiling: floor
                .ceiling_version
                .checked_sub(1)
                .map(|version| Ceiling { units: Some(0), version }),
            ..Self::default()
        };
        for open in &floor.open_runs {
            let Flushed { run, used: flushed, undone } = open.fitted();
            let totals = Totals { undone, ..Totals::default() };
            key.put(run, Entry { totals, flushed, ..Entry::default() });
        }
        key
    }

    fn serve_if_open(&mut self, call: &Call) -> (Answer, Option<Recall>) {
        match self.fences.asks_proof(call) {
            Some(closed_seq_min) if self.entries.get(call.run).is_none() => {
                (Answer::NeedFloor { closed_seq_min }, None)
            }
            _ => {
                let (counted, recall) = self.serve(call);
                (Answer::Counted(counted), recall)
            }
        }
    }

    fn serve(&mut self, call: &Call) -> (Counted, Option<Recall>) {
        let first_before = self.queue.first().map(|want| want.ticket);
        let taken_before = self.taken;
        let before = self.entry(call.run);
        let overtaken = call.sequence <= before.sequence;

        self.put(call.run, before.heard(call));
        self.recount();
        let lowered =
            self.adopt_ceiling(call.ceiling.fitted()) && self.free() < 0 && self.taken > self.used;
        if lowered {
            self.queue.draw();
        }
        let released = self.taken < taken_before;
        let outcome = match () {
            () if overtaken => Outcome::Overtaken,
            () if !call.epoch.recovered => Outcome::Recovering,
            () => self.lend(call),
        };

        let first = self.queue.first();
        let recall = match first {
            // Also when nothing changed but the first asks again: hints get lost.
            Some(want) => {
                let changed = first_before != Some(want.ticket);
                let repeated = want.run == call.run && outcome == Outcome::First;
                (changed || released || repeated || lowered).then_some(Recall {
                    ticket: if lowered { self.queue.tickets() } else { want.ticket },
                    first: Some(want.run),
                    by: call.run,
                })
            }
            None => {
                let ticket = self.queue.tickets();
                lowered.then_some(Recall { ticket, first: None, by: call.run })
            }
        };
        (self.counted(call, outcome), recall)
    }

    /// Takes over a newer ceiling; whether that lowered it.
    fn adopt_ceiling(&mut self, newer: Ceiling) -> bool {
        let known = self.ceiling;
        if known.is_some_and(|known| known.version >= newer.version) {
            return false;
        }
        self.ceiling = Some(newer);
        let units = |ceiling: Ceiling| ceiling.units.unwrap_or(AMOUNT_MAX);
        known.is_some_and(|known| units(newer) < units(known))
    }

    /// Grants what is asked for if that is possible, else keeps the want or refuses.
    fn lend(&mut self, call: &Call) -> Outcome {
        let (run, ask) = (call.run, &call.ask);
        let mut entry = self.entry(run);
        self.queue.remove_first_if(|first| Some(first.ticket) == call.depose);
        let beyond = |to: u64| to.saturating_sub(entry.totals.granted);
        let need = beyond(ask.need_to);
        let free = self.free();
        self.queue.retain(|want| want.run != run || (need > 0 && want.id == ask.want));
        let place = self.queue.place(run);
        let ahead = place.unwrap_or(self.queue.wants().len()) > 0;
        let fits = |amount: u64| i64::try_from(amount).is_ok_and(|amount| amount <= free);

        let room = AMOUNT_MAX.saturating_sub(entry.totals.granted);
        let outcome = if need > room {
            // The total would leave the numbers that a double holds exactly.
            self.queue.remove(run);
            Outcome::Refused
        } else if need > 0 && (ahead || !fits(need)) {
            let returnable = self.returnable(run, place).cast_signed();
            if ask.last || need.cast_signed() > free + returnable {
                self.queue.remove(run);
                Outcome::Refused
            } else {
                if place.is_none() && self.queue.wants().len() < WANTS_MAX {
                    self.queue.push(run, ask.want);
                }
                match self.queue.first() {
                    Some(first) if first.run == run => Outcome::First,
                    first => Outcome::Behind { first: first.map_or(0, |first| first.ticket) },
                }
            }
        } else {
            self.queue.remove(run);
            Outcome::Met
        };

        let granted = call.totals.fitted().granted;
        let returned_all = call.closed && granted == entry.totals.granted;
        let grant = if outcome == Outcome::Met {
            let wanted = beyond(ask.wanted_to).max(need);
            let exact = if need > 0 && fits(wanted) { wanted } else { need };
            exact + self.prefetch(run, entry, exact, beyond(ask.target))
        } else {
            0
        };
        entry.totals.granted += grant.min(room);
        entry.answered = if returned_all && grant == 0 { self.queue.tickets() } else { 0 };
        self.put(run, entry);
        outcome
    }

    /// What to grant in advance, beyond `exact`: nothing while another run wants something, and
    /// at most remaining ÷ (2 × holders), rounded down, so that near the limit it comes to nothing.
    fn prefetch(&self, run: RunId, entry: Entry, exact: u64, target: u64) -> u64 {
        if self.queue.wants().iter().any(|want| want.run != run) {
            return 0;
        }
        let remaining = (self.free() - exact.cast_signed()).max(0).cast_unsigned();
        let others = u64::from(self.holders) - u64::from(entry.outstanding() > 0);
        target.saturating_sub(exact).min(remaining / (2 * (others + 1)))
    }

    /// Escrow of others that might still come back: all that is outstanding, less what belongs to
    /// runs that have returned everything unspent since the want in `place` was left here.
    fn returnable(&self, run: RunId, place: Option<usize>) -> u64 {
        let Some(want) = place.and_then(|place| self.queue.wants().get(place)) else {
            return self.others_outstanding(run);
        };
        let silent =
            |(other, entry): &(RunId, &Entry)| *other != run && entry.answered < want.ticket;
        let outstanding = self.entries.iter().filter(silent).map(|(_, entry)| entry.outstanding());
        outstanding.fold(0, u64::saturating_add).min(AMOUNT_MAX)
    }

    fn fence(&mut self, call: &CloseCall) -> CloseAnswer {
        let run = call.run;
        self.fences.remember(call, None);
        self.queue.remove(run);
        // An entry that only the floor made says nothing of what the run held.
        let reported = self.entries.get(run).filter(|entry| entry.sequence > 0);
        CloseAnswer::Fenced { taken: reported.map(Entry::taken_gross) }
    }

    fn fold(
        &mut self,
        call: &CloseCall,
        closed_seq: u64,
        settled: i64,
        forfeit: u64,
    ) -> CloseAnswer {
        let run = call.run;
        let folded = self.fences.is_folded(run, closed_seq);
        if let Origin::Floor { closed_seq: in_floor, base } = &mut self.origin
            && *in_floor < closed_seq
            && !folded
        {
            *base = saturated(*base + settled);
            self.forfeited = (self.forfeited + forfeit).min(AMOUNT_MAX);
        }
        // Also when the floor had the closing: then a late call made the entry.
        self.drop_entry(run);
        self.recount();
        self.fences.remember(call, Some(closed_seq));
        self.queue.remove(run);
        CloseAnswer::Folded
    }

    fn counted(&self, call: &Call, outcome: Outcome) -> Counted {
        let entry = self.entry(call.run);
        let free = self.free();
        Counted {
            totals: entry.totals,
            free,
            used: self.used(),
            forfeited: self.forfeited,
            others_outstanding: self.others_outstanding(call.run),
            ceiling: self.ceiling.unwrap_or(call.ceiling),
            outcome,
            recalled: free < 0 || self.queue.first().is_some_and(|first| first.run != call.run),
            answered: entry.answered,
        }
    }

    fn free(&self) -> i64 {
        let Some(units) = self.ceiling.and_then(|ceiling| ceiling.units) else {
            return AMOUNT_MAX.cast_signed();
        };
        let base = self.base();
        let full = AMOUNT_MAX.cast_signed();
        let forfeited = self.forfeited.cast_signed();
        let taken = if self.overflowed || base == full || forfeited == full {
            full
        } else {
            saturated(saturated(base + self.taken) + forfeited)
        };
        saturated(units.cast_signed() - taken)
    }

    fn others_outstanding(&self, run: RunId) -> u64 {
        // The sums include the run's own entry, unless they have overflowed.
        let all = saturated(self.taken - self.used).cast_unsigned();
        all.saturating_sub(self.entry(run).outstanding())
    }

    fn entry(&self, run: RunId) -> Entry {
        self.entries.get(run).copied().unwrap_or_default()
    }

    fn put(&mut self, run: RunId, entry: Entry) {
        if let Some(before) = self.entries.insert(run, entry) {
            self.subtract(before);
        }
        self.holders += u32::from(entry.outstanding() > 0);
        self.overflowed |= entry.is_full();
        self.add(entry.taken(), entry.used());
    }

    fn drop_entry(&mut self, run: RunId) {
        if let Some(entry) = self.entries.remove(run) {
            self.subtract(entry);
        }
    }

    fn subtract(&mut self, entry: Entry) {
        self.holders -= u32::from(entry.outstanding() > 0);
        self.add(-entry.taken(), -entry.used());
    }

    fn add(&mut self, taken: i64, used: i64) {
        let full = AMOUNT_MAX.cast_signed();
        let (taken, used) = (self.taken + taken, self.used + used);
        self.overflowed |= taken.abs() > full || used.abs() > full;
        (self.taken, self.used) = if self.overflowed { (full, full) } else { (taken, used) };
    }

    /// Adds up anew what had overflowed: the run that was too much may have been folded.
    fn recount(&mut self) {
        if !self.overflowed || self.entries.values().any(Entry::is_full) {
            return;
        }
        // Up and down apart, so that the order makes no difference.
        let sum = |part: fn(&Entry) -> i64, sign: i64| {
            let parts = self.entries.values().map(|entry| (sign * part(entry)).max(0));
            parts.fold(0, i64::saturating_add)
        };
        let taken = [sum(Entry::taken, 1), sum(Entry::taken, -1)];
        let used = [sum(Entry::used, 1), sum(Entry::used, -1)];
        if taken.iter().chain(&used).all(|sum| *sum <= AMOUNT_MAX.cast_signed()) {
            (self.taken, self.used) = (taken[0] - taken[1], used[0] - used[1]);
            self.overflowed = false;
        }
    }
}

/// The epoch that outdates `epoch`, if the key knows of one.
fn later_epoch(key: Option<&KeyState>, epoch: u64) -> Option<u64> {
    key.map(|key| key.epoch).filter(|known| *known > epoch)
}
