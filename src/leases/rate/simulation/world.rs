//! One world: sidecars, the shared state, and what was admitted when.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};
use uuid::Uuid;

use super::{
    super::{
        LAPSE_NS,
        message::{Ask, AskFor, Granted, RateCall, RateReply, RateTerms},
        purse::{Era, Offhand, Purse},
        shared::SharedRate,
    },
    bound::{self, Loss, LossKind},
    plan::{Plan, Trouble},
    planted::Planted,
};
use crate::domain::{ids::RunId, rate::RateWindow};

/// Permits that take longer to be paid off than a world lasts.
const OWED_FIRST: u32 = 1_000;
const MS: u64 = 1_000_000;
const START_NS: u64 = 5_000 * MS;
/// Requests of one that takes all that there is.
const SPREE: usize = 12;
/// How much faster or slower a clock runs, in millionths.
const DRIFT_PPM_MAX: i64 = 500;

struct Sidecar {
    run: RunId,
    purse: Purse,
    call: Option<Under>,
    /// Permits of requests that are not sure yet, and when they were granted.
    holds: Vec<(u64, u32, Era)>,
    /// Its clock began there, and runs so much faster.
    clock_ns: u64,
    drift_ppm: i64,
    paused_until_ns: u64,
    /// When the last answer came, by its clock.
    answered_ns: u64,
}

impl Sidecar {
    fn clock(&self, now_ns: u64) -> u64 {
        let drift_ns = now_ns.cast_signed() / 1_000_000 * self.drift_ppm;
        (self.clock_ns + now_ns).saturating_add_signed(drift_ns)
    }
}

/// A call under way.
struct Under {
    call: RateCall,
    reply: Option<(u64, RateReply)>,
}

pub(super) struct World {
    seed: u64,
    plan: Plan,
    planted: Option<Planted>,
    random: StdRng,
    now_ns: u64,
    clock_offset_us: u64,
    shared: SharedRate,
    /// What the tenant is changed to, one after the other.
    terms: Vec<RateTerms>,
    /// Which terms are in force, and since when.
    in_force: Option<RateTerms>,
    regimes: Vec<(u64, RateTerms)>,
    losses: Vec<Loss>,
    sidecars: Vec<Sidecar>,
    runs: u128,
    /// Calls that may arrive once more.
    strays: Vec<RateCall>,
    /// The latest sequence of each run that was heard.
    heard: BTreeMap<RunId, u64>,
    /// Answers that were given up.
    late: Vec<(RateCall, Granted)>,
    /// How many of the holds are kept.
    kept_share: f64,
    /// Sidecars take all that there is.
    is_greedy: bool,
    /// Permits of holds that were not.
    let_go: u64,
    /// When permits were admitted, and how many.
    admitted: Vec<(u64, u32)>,
}

impl World {
    pub fn new(seed: u64, plan: &Plan, planted: Option<Planted>) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let versions = 1..=random.random_range(1..=4);
        let terms = versions.map(|version| RateTerms { version, windows: windows(&mut random) });
        let mut world = Self {
            seed,
            plan: plan.clone(),
            planted,
            terms: terms.collect(),
            random,
            now_ns: START_NS,
            clock_offset_us: 1 << 40,
            shared: SharedRate::default(),
            in_force: None,
            regimes: vec![],
            losses: vec![],
            sidecars: vec![],
            runs: 0,
            strays: vec![],
            heard: BTreeMap::new(),
            late: vec![],
            kept_share: 0.5,
            is_greedy: !seed.is_multiple_of(3),
            let_go: 0,
            admitted: vec![],
        };
        world.sidecars = (0..plan.sidecars).map(|_| world.sidecar()).collect();
        world
    }

    /// A world with a rate so slow that nothing is lent in advance, that owes for the first permits
    /// until the end, and that never runs out.
    pub fn calm(seed: u64, plan: &Plan) -> Self {
        let mut world = Self::new(seed, plan, None);
        let window = RateWindow::new(1_000_000, Duration::from_secs(864_000), 1_000_000);
        world.terms = vec![RateTerms { version: 1, windows: [window].into() }];
        world.is_greedy = false;
        world.kept_share = if seed.is_multiple_of(2) { 1.0 } else { 0.5 };
        world.sidecars = (0..plan.sidecars).map(|_| world.sidecar()).collect();
        let first = Ask { permits: OWED_FIRST, how: AskFor::Good };
        world.send(0, vec![first]);
        world.deliver(0);
        world.answer(0);
        world
    }

    /// A new run.
    fn sidecar(&mut self) -> Sidecar {
        self.runs += 1;
        let run = RunId(Uuid::from_u128(self.runs));
        let drift_ppm = self.random.random_range(-DRIFT_PPM_MAX..=DRIFT_PPM_MAX);
        let mut sidecar = Sidecar {
            run,
            purse: Purse::new(run, self.terms[0].clone(), 0),
            call: None,
            holds: vec![],
            clock_ns: self.random.random_range(0..10_000 * MS),
            drift_ppm: if self.may(Trouble::Drift) { drift_ppm } else { 0 },
            paused_until_ns: 0,
            answered_ns: 0,
        };
        let clock = sidecar.clock(self.now_ns);
        sidecar.purse = Purse::new(run, self.terms[0].clone(), clock);
        sidecar
    }

    fn may(&self, trouble: Trouble) -> bool {
        !self.plan.off.contains(&trouble)
    }

    fn is(&self, planted: Planted) -> bool {
        self.planted == Some(planted)
    }

    pub fn admissions(&self) -> usize {
        self.admitted.len()
    }

    /// Permits that were admitted, and that were let go.
    pub fn counted(&self) -> (u64, u64) {
        (self.admitted.iter().map(|(_, permits)| u64::from(*permits)).sum(), self.let_go)
    }

    pub fn step(&mut self) {
        let which = self.random.random_range(0..self.sidecars.len());
        let is_paused = self.now_ns < self.sidecars[which].paused_until_ns;
        match self.random.random_range(0..1_000) {
            0..200 => {
                let pause_us = *[1, 100, 1_000, 10_000, 100_000].get(which).unwrap_or(&10);
                self.now_ns += self.random.random_range(0..pause_us) * 1_000;
            }
            200..450 if !is_paused => self.request(which),
            450..500 if !is_paused && self.is_greedy => self.spree(which),
            500..650 => self.deliver(which),
            650..800 if !is_paused => self.answer(which),
            800..840 if self.may(Trouble::Lost) => self.lose(which),
            840..920 if !is_paused => self.end_hold(which),
            920..950 if self.may(Trouble::Doubled) => self.repeat(),
            950..955 if self.may(Trouble::Changed) => {
                let version = self.random.random_range(0..self.terms.len());
                let terms = self.terms[version].clone();
                self.sidecars[which].purse.change(terms);
            }
            955..980 => self.now_ns += self.random.random_range(0..200 * MS),
            980..983 if self.may(Trouble::Paused) => {
                let until_ns = self.now_ns + self.random.random_range(0..300 * MS);
                self.sidecars[which].paused_until_ns = until_ns;
            }
            983..986 if self.may(Trouble::Killed) => {
                let under = self.sidecars[which].call.take();
                self.strays.extend(under.map(|under| under.call));
                self.sidecars[which] = self.sidecar();
            }
            986..990 if self.may(Trouble::Dropped) => {
                let clock = self.sidecars[which].clock(self.now_ns);
                let Sidecar { run, purse, .. } = &mut self.sidecars[which];
                if purse.is_unused(clock) {
                    *purse = Purse::new(*run, self.terms[0].clone(), clock);
                }
            }
            990..992 if self.may(Trouble::ClockBack) => {
                self.clock_offset_us -= self.random.random_range(0..1_000_000);
            }
            992..994 if self.may(Trouble::ClockAhead) => {
                let ahead_us = self.random.random_range(0..1_000_000);
                self.clock_offset_us += ahead_us;
                self.loses(LossKind::Ahead { ns: ahead_us * 1_000 });
            }
            994..996 if self.may(Trouble::Forgotten) => {
                self.shared = SharedRate::default();
                self.in_force = None;
                self.loses(LossKind::Forgotten);
            }
            _ => {}
        }
    }

    /// Takes what there is, at once.
    fn spree(&mut self, which: usize) {
        for _ in 0..SPREE {
            self.request(which);
            self.deliver(which);
            self.answer(which);
        }
    }

    fn loses(&mut self, kind: LossKind) {
        self.losses.push(Loss { at_ns: self.now_ns, kind });
    }

    fn apply(&mut self, mut call: RateCall) -> RateReply {
        if self.in_force.as_ref().is_none_or(|known| known.version < call.terms.version) {
            self.in_force = Some(call.terms.clone());
            if self.regimes.last().is_none_or(|(_, terms)| *terms != call.terms) {
                self.regimes.push((self.now_ns, call.terms.clone()));
            }
        }
        if self.is(Planted::OlderTermsHeard) {
            call.terms.version = self.heard.values().sum();
        }
        let caller = self.sidecars.iter().find(|sidecar| sidecar.run == call.run);
        let ahead_us = match caller {
            Some(caller) if self.is(Planted::CallersClock) => caller.clock_ns / 1_000,
            _ => 0,
        };
        let heard = self.heard.entry(call.run).or_default();
        *heard = call.sequence.max(*heard);
        self.shared.apply(&call, self.now_ns / 1_000 + self.clock_offset_us + ahead_us)
    }

    fn ask(&mut self) -> Ask {
        let burst = self.terms[0].windows[0].burst;
        let is_large = self.is_greedy && self.random.random_bool(0.2);
        let most = if is_large { (burst / 3).max(1) } else { burst.min(4) };
        let permits = self.random.random_range(1..=most);
        let how = if self.random.random_bool(0.4) { AskFor::Keeping } else { AskFor::Good };
        Ask { permits, how }
    }

    fn send(&mut self, which: usize, asks: Vec<Ask>) {
        let sidecar = &mut self.sidecars[which];
        let clock = sidecar.clock(self.now_ns);
        if let Some(call) = sidecar.purse.call(asks, clock) {
            sidecar.call = Some(Under { call, reply: None });
        }
    }

    fn request(&mut self, which: usize) {
        let (ask, others) = (self.ask(), self.random.random_range(0..3));
        let others: Vec<_> = (0..others).map(|_| self.ask()).collect();
        let is_late = self.is(Planted::LapseIgnored);
        let sidecar = &mut self.sidecars[which];
        let clock = sidecar.clock(self.now_ns);
        sidecar.purse.count(ask, clock);
        let seen = if is_late { sidecar.answered_ns } else { clock };
        match sidecar.purse.offhand(ask, seen) {
            Offhand::Taken | Offhand::TakenLow if ask.how == AskFor::Good => {
                self.admitted.push((self.now_ns, ask.permits));
            }
            Offhand::Taken | Offhand::TakenLow => {
                sidecar.holds.push((self.now_ns, ask.permits, sidecar.purse.era()));
            }
            Offhand::Ask => self.send(which, [vec![ask], others].concat()),
            Offhand::Short { .. } | Offhand::Away => {}
        }
        if self.sidecars[which].purse.wants_more(clock) {
            self.send(which, vec![]);
        }
    }

    fn deliver(&mut self, which: usize) {
        let under = self.sidecars[which].call.as_ref().filter(|under| under.reply.is_none());
        let Some(call) = under.map(|under| under.call.clone()) else { return };
        let reply = Some((self.now_ns, self.apply(call.clone())));
        if self.random.random_bool(0.1) {
            self.strays.push(call.clone());
        }
        self.sidecars[which].call = Some(Under { call, reply });
    }

    /// A call arrives once more, any of them.
    fn repeat(&mut self) {
        if self.strays.is_empty() {
            return;
        }
        let number = self.random.random_range(0..self.strays.len());
        let mut stray = self.strays.swap_remove(number);
        if self.is(Planted::OvertakenHeard) {
            stray.sequence = self.heard.get(&stray.run).map_or(stray.sequence, |last| last + 1);
        }
        self.apply(stray);
    }

    fn answer(&mut self, which: usize) {
        if self.is(Planted::LateAnswerUsed) {
            for (call, granted) in std::mem::take(&mut self.late) {
                let met = call.asks.iter().enumerate().filter(|(n, _)| granted.is_met(*n));
                self.admitted.extend(met.map(|(_, ask)| (self.now_ns, ask.permits)));
            }
        }
        let sidecar = &mut self.sidecars[which];
        let Some(Under { call, reply: Some((granted_at_ns, reply)) }) =
            sidecar.call.take_if(|under| under.reply.is_some())
        else {
            return;
        };
        let clock = sidecar.clock(self.now_ns);
        let RateReply::Granted(granted) = reply else { return sidecar.purse.failed(clock) };
        sidecar.purse.answered(&call, &granted, clock);
        sidecar.answered_ns = clock;
        for (_, ask) in call.asks.iter().enumerate().filter(|(n, _)| granted.is_met(*n)) {
            match ask.how {
                // A request counts at an instant while it is under way.
                AskFor::Good => self.admitted.push((granted_at_ns, ask.permits)),
                AskFor::Keeping => {
                    sidecar.holds.push((granted_at_ns, ask.permits, sidecar.purse.era()));
                }
            }
        }
    }

    fn lose(&mut self, which: usize) {
        let sidecar = &mut self.sidecars[which];
        let Some(under) = sidecar.call.take() else { return };
        sidecar.purse.failed(sidecar.clock(self.now_ns));
        if let Some((_, RateReply::Granted(granted))) = under.reply {
            self.late.push((under.call.clone(), granted));
        }
        if self.random.random_bool(0.5) {
            self.strays.push(under.call);
        }
    }

    fn end_hold(&mut self, which: usize) {
        let sidecar = &mut self.sidecars[which];
        if sidecar.holds.is_empty() {
            return;
        }
        let (at_ns, permits, era) = sidecar.holds.swap_remove(0);
        if self.random.random_bool(self.kept_share) {
            sidecar.purse.keep(permits, era);
            self.admitted.push((at_ns, permits));
        } else {
            sidecar.purse.let_go(permits, era, sidecar.clock(self.now_ns));
            self.let_go += u64::from(permits);
        }
    }

    /// All messages arrive, all holds end, and all of it is reported: what has been charged.
    pub fn settle(&mut self) -> u64 {
        for which in 0..self.sidecars.len() {
            self.deliver(which);
            self.answer(which);
            while !self.sidecars[which].holds.is_empty() {
                self.end_hold(which);
            }
            self.send(which, vec![]);
            self.deliver(which);
            self.answer(which);
        }
        self.now_ns += 2 * LAPSE_NS.end();
        let window = self.terms[0].windows[0];
        let clock = self.sidecars[0].clock(self.now_ns);
        let call = self.sidecars[0].purse.call(vec![], clock).unwrap();
        let RateReply::Granted(granted) = self.apply(call) else { panic!("overtaken") };
        // It was owed something throughout, so that time has paid for it throughout.
        let paid_ns = self.now_ns - START_NS;
        (granted.debts_ns[0] + paid_ns) / window.interval_ns()
    }

    /// Holds each time in which the same terms were in force against their bound.
    pub fn check(&mut self) -> Result<(), String> {
        self.admitted.sort_unstable();
        for (number, (since_ns, terms)) in self.regimes.iter().enumerate() {
            // What was lent under the terms before is spent or has lapsed by then.
            let from_ns = if number == 0 { 0 } else { since_ns + LAPSE_NS.end() };
            let until_ns = self.regimes.get(number + 1).map_or(u64::MAX, |(next_ns, _)| *next_ns);
            let admitted = self.admitted.iter().copied();
            let meanwhile: Vec<_> =
                admitted.filter(|(at_ns, _)| (from_ns..until_ns).contains(at_ns)).collect();
            bound::check(terms, &meanwhile, &self.losses)
                .map_err(|said| format!("seed {}, version {}: {said}", self.seed, terms.version))?;
        }
        Ok(())
    }
}

/// Draws a plan's windows.
fn windows(random: &mut StdRng) -> Arc<[RateWindow]> {
    let permits = random.random_range(1..2_000);
    let burst = random.random_range(1..=permits.max(5));
    let mut windows = vec![RateWindow::new(permits, Duration::from_secs(1), burst)];
    if random.random_bool(0.3) {
        windows.push(RateWindow::new(permits * 20, Duration::from_secs(60), permits * 2));
    }
    windows.into()
}
