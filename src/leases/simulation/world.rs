//! The simulated world: its clock, its events, and the order of things.

use std::{collections::BTreeMap, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    closing::Closing,
    event::{Event, Seen},
    ledger::Ledger,
    plan::Plan,
    server::Redis,
    sidecar::Sidecar,
    terms::{Key, Terms},
    trace::Trace,
};
use crate::domain::{
    ids::RunId,
    window::{Window, WindowLabel},
};

/// A world that is not over after so many events for each run goes on for ever.
const EVENTS_MAX_PER_RUN: u64 = 200_000;
/// Longest time until quiet after the last fault, in microseconds.
const SETTLING_US_MAX: u64 = 3_000_000;
/// How often it is looked whether it is quiet.
const SETTLING_LOOK_US: u64 = 10_000;

/// Runs that may all have to find out which epoch the first is; of more it would take all the time.
const NEW_TOGETHER_MAX: u64 = 20;

pub(super) struct World {
    pub plan: Plan,
    pub rng: StdRng,
    /// Microseconds.
    pub now: u64,
    /// From here on nothing new happens and the network is whole.
    pub quiet: bool,
    /// What is to come, by its time; what is due at one time comes in the order of its making.
    events: BTreeMap<(u64, u64), Event>,
    number: u64,
    pub redis: Redis,
    pub ledger: Ledger,
    pub sidecars: BTreeMap<RunId, Sidecar>,
    /// Runs that have ended: only their journals are left.
    pub dead: BTreeMap<RunId, Sidecar>,
    pub closings: Vec<Closing>,
    /// The tenant's plan data as it is now.
    pub terms: Terms,
    /// All counters that were ever used.
    pub keys: Vec<Key>,
    by_label: BTreeMap<(usize, WindowLabel), usize>,
    /// What may have been admitted per key: the ceiling in force at the key, or what was taken
    /// when it was lowered to that.
    pub allowed: Vec<i64>,
    /// Taken by living runs and not yet acknowledged, per key.
    pub held: Vec<u64>,
    /// Requests that wait in living runs.
    pub waiting: u64,
    /// Acknowledged against escrow, per key.
    pub admitted: Vec<u64>,
    /// Acknowledged without escrow, per key.
    pub recorded: Vec<u64>,
    /// Taken back by the ledger, per key.
    pub undone: Vec<u64>,
    /// Acknowledged and then lost with a torn journal, per key.
    pub torn: Vec<u64>,
    /// The same of what was acknowledged against escrow, per run.
    pub unknown: BTreeMap<(RunId, usize), u64>,
    /// What was admitted without a trace by runs whose escrow an operator has released, per key.
    pub released: Vec<u64>,
    /// Recorded in windows that are past for the run, so that only the ledger knows of it, per key.
    pub uncounted: Vec<u64>,
    pub event_ids: u64,
    /// Requests so far.
    pub arrived: u64,
    pub seen: Seen,
    /// Where events are noted, if anywhere.
    trace: Option<Trace>,
}

impl World {
    pub(super) fn new(seed: u64, plan: Plan, trace: Option<Trace>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let limits = plan.keys * (1 + plan.grants);
        let limits = (0..limits).map(|_| rng.random_range(0..=plan.ceiling_max)).collect();
        Self {
            rng,
            now: 0,
            quiet: false,
            events: BTreeMap::new(),
            number: 0,
            redis: Redis::default(),
            ledger: Ledger::default(),
            sidecars: BTreeMap::new(),
            dead: BTreeMap::new(),
            closings: Vec::new(),
            terms: Terms::new(&plan, limits),
            keys: Vec::new(),
            by_label: BTreeMap::new(),
            allowed: Vec::new(),
            held: Vec::new(),
            waiting: 0,
            admitted: Vec::new(),
            recorded: Vec::new(),
            undone: Vec::new(),
            torn: Vec::new(),
            unknown: BTreeMap::new(),
            released: Vec::new(),
            uncounted: Vec::new(),
            event_ids: 0,
            arrived: 0,
            seen: Seen::default(),
            trace,
            plan,
        }
    }

    /// Plays the world to its quiet end.
    pub(super) fn play(mut self) -> Seen {
        if self.plan.runs > NEW_TOGETHER_MAX || self.share(500) {
            // The counters were there before all of the runs.
            self.ledger.epoch_of(self.redis.identity);
        }
        for _ in 0..self.plan.runs {
            self.start_run();
        }
        self.later(1_000, Event::CloseTick);
        let end = self.plan.length_ms * 1_000;
        for (rate, fault) in [
            (self.plan.kills_per_s, (|| Event::Kill) as fn() -> Event),
            (self.plan.stops_per_s, || Event::Stop),
            (self.plan.pauses_per_s, || Event::Pause),
            (self.plan.copies_per_s, || Event::Copy),
            (self.plan.operated_per_s, || Event::Operate),
            (self.plan.jumps_per_s, || Event::Jump),
            (self.plan.wipes_per_s, || Event::Wipe),
            (self.plan.moves_per_s, || Event::Move),
        ] {
            for _ in 0..(rate * self.plan.length_ms).div_ceil(1_000) {
                let at = self.rng.random_range(0..end);
                self.later(at, fault());
            }
        }
        self.until(end);
        self.quiet = true;
        // The last of the late messages.
        self.until(end + self.plan.slow_us);
        while !self.is_settled() {
            assert!(
                self.now < end + self.plan.slow_us + SETTLING_US_MAX,
                "I4: {}",
                self.unsettled()
            );
            self.until(self.now + SETTLING_LOOK_US);
        }
        self.check_quiet();
        self.seen
    }

    pub(super) fn until(&mut self, end: u64) {
        while let Some(next) = self.events.first_entry()
            && next.key().0 <= end
        {
            let ((at, _), event) = next.remove_entry();
            self.now = at;
            self.seen.events += 1;
            let events_max = EVENTS_MAX_PER_RUN * self.plan.runs;
            assert!(self.seen.events < events_max, "I2: the world does not come to rest");
            if let Some(trace) = &self.trace {
                trace.note(format!("{at} µs: {event:?}"));
            }
            match event.inside().and_then(|run| self.sidecars.get(&run)) {
                Some(sidecar) if sidecar.paused_until > at => {
                    self.later(sidecar.paused_until - at, event);
                    continue;
                }
                _ => self.happen(event),
            }
            self.check_always();
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { run } => self.arrive(run),
            Event::Journalled { run, key, amount, event } => {
                self.journalled(run, key, amount, event);
            }
            Event::Refused { run, key, amount } => self.refused(run, key, amount),
            Event::Settle { run, key, number, used } => self.settle(run, key, number, used),
            Event::CallArrives { to, call, key } => self.call_arrives(to, &call, key),
            Event::AnswerArrives { call, key, answer } => self.answer_arrives(&call, key, &answer),
            Event::CallTimesOut { run, key, sequence } => self.timed_out(run, key, sequence),
            Event::CloseArrives { to, closing, call, key } => {
                self.close_arrives(to, closing, call, key);
            }
            Event::CloseAnswered { closing, call, key, answer } => {
                self.close_answered(closing, call, key, answer);
            }
            Event::Hint { run, key, recall } => self.hinted(run, key, &recall),
            Event::Wake { run, key } => self.woken(run, key),
            Event::Tick { run } => self.tick(run),
            Event::CloseTick => self.close_tick(),
            Event::Kill => self.kill(),
            Event::Stop => self.stop(),
            Event::End { run } => self.end(run),
            Event::Wipe => self.wipe(),
            Event::Pause => self.pause(),
            Event::Copy => self.copy(),
            Event::Operate => self.operate(),
            Event::Jump => self.jump(),
            Event::Expire { key } => self.expire(key),
            Event::Move => self.move_terms(),
        }
    }

    pub(super) fn later(&mut self, delay: u64, event: Event) {
        self.number += 1;
        self.events.insert((self.now + delay, self.number), event);
    }

    /// What was to come inside of a run does not come.
    pub(super) fn forget_inside(&mut self, run: RunId) {
        self.events.retain(|_, event| event.inside() != Some(run));
    }

    pub(super) fn clock(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    pub(super) fn up_to(&mut self, most: u64) -> u64 {
        self.rng.random_range(0..=most)
    }

    /// Whether something with this share per thousand happens.
    pub(super) fn share(&mut self, share: u64) -> bool {
        self.rng.random_range(0..1_000) < share
    }

    fn move_terms(&mut self) {
        let resets = self.plan.resets;
        self.terms.version += 1;
        if self.share(resets) {
            return self.terms.reset();
        }
        let limit = self.rng.random_range(0..self.terms.limits.len());
        self.terms.limits[limit] = self.up_to(self.plan.ceiling_max);
    }

    /// The number of a counter.
    pub(super) fn key_of(&mut self, limit: usize, window: Window) -> usize {
        let next = self.keys.len();
        let key = *self.by_label.entry((limit, window.label)).or_insert(next);
        if key == next {
            self.seen.keys += 1;
            self.keys.push(Key { limit, window });
            self.allowed.push(0);
            for sum in [
                &mut self.held,
                &mut self.admitted,
                &mut self.recorded,
                &mut self.undone,
                &mut self.torn,
                &mut self.released,
                &mut self.uncounted,
            ] {
                sum.push(0);
            }
        }
        key
    }
}
