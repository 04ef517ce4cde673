//! Sidecars that share a rate, in random interleavings: calls are lost, repeated and late, answers
//! are lost, the shared clock goes back, what is lent lapses, and in some worlds the tenant gets
//! other limits, which sidecars learn at different times or never. After each world, every interval
//! is held against the bound, for each window. In worlds where messages are late and nothing worse,
//! what was charged is held against what was admitted.

use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};
use uuid::Uuid;

use super::{
    LAPSE_NS,
    message::{Ask, AskFor, RateCall, RateReply, RateTerms},
    purse::{Era, Offhand, Purse},
    shared::SharedRate,
};
use crate::domain::{ids::RunId, rate::RateWindow};

const WORLDS: u64 = 400;
const STEPS: usize = 600;
/// Permits that take longer to be paid off than a world lasts.
const OWED_FIRST: u32 = 1_000;
const MS: u64 = 1_000_000;
const START_NS: u64 = 5_000 * MS;

struct Sidecar {
    purse: Purse,
    call: Option<Under>,
    /// Permits of requests that are not sure yet, and when they were granted.
    holds: Vec<(u64, u32, Era)>,
}

/// A call under way.
struct Under {
    call: RateCall,
    reply: Option<(u64, RateReply)>,
}

struct World {
    random: StdRng,
    now_ns: u64,
    clock_offset_us: u64,
    clock_went_back: bool,
    shared: SharedRate,
    terms: RateTerms,
    /// What the tenant is changed to, and when the shared state first heard of it.
    next: Option<RateTerms>,
    changed_at_ns: Option<u64>,
    sidecars: Vec<Sidecar>,
    /// Calls that may arrive once more.
    strays: Vec<RateCall>,
    /// Messages are late and nothing worse, and the shared clock runs on.
    is_calm: bool,
    /// How many of the holds are kept.
    kept_share: f64,
    /// Permits of holds that were not.
    let_go: u64,
    /// When permits were admitted, and how many.
    admitted: Vec<(u64, u32)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let terms = RateTerms { version: 1, windows: windows(&mut random) };
        let next = random.random_bool(0.5);
        let next = next.then(|| RateTerms { version: 2, windows: windows(&mut random) });
        let now_ns = START_NS;
        let sidecar = |number| Sidecar {
            purse: Purse::new(RunId(Uuid::from_u128(number)), terms.clone(), now_ns),
            call: None,
            holds: vec![],
        };
        Self {
            sidecars: (0..random.random_range(1..5)).map(sidecar).collect(),
            random,
            now_ns,
            clock_offset_us: 1 << 40,
            clock_went_back: false,
            shared: SharedRate::default(),
            terms,
            next,
            changed_at_ns: None,
            strays: vec![],
            is_calm: false,
            kept_share: 0.5,
            let_go: 0,
            admitted: vec![],
        }
    }

    /// A calm world with a rate so slow that nothing is lent in advance, that owes for the first
    /// permits until the end, and that never runs out.
    fn calm(seed: u64) -> Self {
        let mut world = Self::new(seed);
        let window = RateWindow::new(1_000_000, Duration::from_secs(864_000), 1_000_000);
        world.terms = RateTerms { version: 1, windows: [window].into() };
        (world.next, world.is_calm) = (None, true);
        world.kept_share = if seed.is_multiple_of(2) { 1.0 } else { 0.5 };
        for (number, sidecar) in world.sidecars.iter_mut().enumerate() {
            let run = RunId(Uuid::from_u128(number as u128));
            sidecar.purse = Purse::new(run, world.terms.clone(), START_NS);
        }
        let first = Ask { permits: OWED_FIRST, how: AskFor::Good };
        let call = world.sidecars[0].purse.call(vec![first], START_NS).unwrap();
        world.sidecars[0].call = Some(Under { call, reply: None });
        world.deliver(0);
        world.answer(0);
        world
    }

    fn redis_now_us(&self) -> u64 {
        self.now_ns / 1_000 + self.clock_offset_us
    }

    fn step(&mut self) {
        let which = self.random.random_range(0..self.sidecars.len());
        match self.random.random_range(0..100) {
            0..20 => {
                let pause = *[1, 100, 1_000, 10_000, 100_000].get(which).unwrap_or(&10);
                self.now_ns += self.random.random_range(0..pause) * 1_000;
            }
            20..50 => self.request(which),
            50..65 => self.deliver(which),
            65..80 => self.answer(which),
            80..84 if !self.is_calm => self.lose(which),
            84..92 => self.end_hold(which),
            92..95 if !self.is_calm => {
                if let Some(stray) = self.strays.pop() {
                    self.apply(&stray);
                }
            }
            95 if self.random.random_bool(0.1) => {
                if let Some(next) = &self.next {
                    self.sidecars[which].purse.change(next.clone());
                }
            }
            95..98 => self.now_ns += self.random.random_range(0..200 * MS),
            _ => {
                if !self.is_calm && self.random.random_bool(0.05) {
                    self.clock_offset_us -= self.random.random_range(0..1_000_000);
                    self.clock_went_back = true;
                }
            }
        }
    }

    fn apply(&mut self, call: &RateCall) -> RateReply {
        if call.terms.version == 2 {
            self.changed_at_ns.get_or_insert(self.now_ns);
        }
        self.shared.apply(call, self.redis_now_us())
    }

    fn ask(&mut self) -> Ask {
        let most = self.terms.windows[0].burst.clamp(1, 4);
        let permits = self.random.random_range(1..=most);
        let how = if self.random.random_bool(0.4) { AskFor::Keeping } else { AskFor::Good };
        Ask { permits, how }
    }

    fn request(&mut self, which: usize) {
        let (ask, others) = (self.ask(), self.random.random_range(0..3));
        let others: Vec<_> = (0..others).map(|_| self.ask()).collect();
        let sidecar = &mut self.sidecars[which];
        sidecar.purse.count(ask, self.now_ns);
        match sidecar.purse.offhand(ask, self.now_ns) {
            Offhand::Taken | Offhand::TakenLow if ask.how == AskFor::Good => {
                self.admitted.push((self.now_ns, ask.permits));
            }
            Offhand::Taken | Offhand::TakenLow => {
                sidecar.holds.push((self.now_ns, ask.permits, sidecar.purse.era()));
            }
            Offhand::Ask => {
                let asks = [vec![ask], others].concat();
                if let Some(call) = sidecar.purse.call(asks, self.now_ns) {
                    sidecar.call = Some(Under { call, reply: None });
                }
            }
            Offhand::Short { .. } | Offhand::Away => {}
        }
        if sidecar.purse.wants_more(self.now_ns)
            && let Some(call) = sidecar.purse.call(vec![], self.now_ns)
        {
            sidecar.call = Some(Under { call, reply: None });
        }
    }

    fn deliver(&mut self, which: usize) {
        let under = self.sidecars[which].call.as_ref().filter(|under| under.reply.is_none());
        let Some(call) = under.map(|under| under.call.clone()) else { return };
        let reply = Some((self.now_ns, self.apply(&call)));
        if self.random.random_bool(0.1) {
            self.strays.push(call.clone());
        }
        self.sidecars[which].call = Some(Under { call, reply });
    }

    fn answer(&mut self, which: usize) {
        let sidecar = &mut self.sidecars[which];
        let Some(Under { call, reply: Some((granted_at_ns, reply)) }) =
            sidecar.call.take_if(|under| under.reply.is_some())
        else {
            return;
        };
        let RateReply::Granted(granted) = reply else { return sidecar.purse.failed(self.now_ns) };
        sidecar.purse.answered(&call, &granted, self.now_ns);
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
        if let Some(under) = sidecar.call.take() {
            sidecar.purse.failed(self.now_ns);
            if self.random.random_bool(0.5) {
                self.strays.push(under.call);
            }
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
            sidecar.purse.let_go(permits, era, self.now_ns);
            self.let_go += u64::from(permits);
        }
    }

    /// All messages arrive, all holds end, and all of it is reported: what has been charged.
    fn settle(&mut self) -> u64 {
        for which in 0..self.sidecars.len() {
            self.deliver(which);
            self.answer(which);
            while !self.sidecars[which].holds.is_empty() {
                self.end_hold(which);
            }
            let call = self.sidecars[which].purse.call(vec![], self.now_ns).unwrap();
            self.sidecars[which].call = Some(Under { call, reply: None });
            self.deliver(which);
            self.answer(which);
        }
        self.now_ns += 2 * LAPSE_NS.end();
        let window = self.terms.windows[0];
        let call = self.sidecars[0].purse.call(vec![], self.now_ns).unwrap();
        let RateReply::Granted(granted) = self.apply(&call) else { panic!("overtaken") };
        // It was owed something throughout, so that time has paid for it throughout.
        let paid_ns = self.now_ns - START_NS;
        (granted.debts_ns[0] + paid_ns) / window.interval_ns()
    }

    fn check(&mut self, seed: u64) {
        self.admitted.sort_unstable();
        let changed_ns = self.changed_at_ns.unwrap_or(u64::MAX);
        let (before, later): (Vec<_>, Vec<_>) =
            self.admitted.iter().partition(|(at_ns, _)| *at_ns < changed_ns);
        check(seed, &self.terms, &before);
        // What was lent under the old terms is spent or has lapsed by then.
        let settled_ns = changed_ns.saturating_add(*LAPSE_NS.end());
        let later: Vec<_> = later.into_iter().filter(|(at_ns, _)| *at_ns > settled_ns).collect();
        if let Some(next) = &self.next {
            check(seed, next, &later);
        }
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

/// Fails if some interval has more than the bound.
fn check(seed: u64, terms: &RateTerms, admitted: &[(u64, u32)]) {
    for window in terms.windows.iter() {
        // debt(after) − debt(before) of a bucket that never overflows, over all intervals at
        // once: the least sum up to any point is where the worst interval begins.
        let (mut before_ns, mut least_ns) = (0_i128, 0_i128);
        let began_ns = admitted.first().map_or(0, |first| first.0);
        for (at_ns, permits) in admitted {
            let passed_ns = i128::from(at_ns - began_ns);
            least_ns = least_ns.min(before_ns - passed_ns);
            before_ns += i128::from(window.cost_ns(*permits));
            let worst_ns = before_ns - passed_ns - least_ns;
            assert!(
                worst_ns <= i128::from(window.capacity_ns()),
                "seed {seed}: {worst_ns} ns in an interval of a capacity of {window:?}"
            );
        }
    }
}

#[test]
fn no_interval_has_more_than_the_rate_and_the_burst_whatever_becomes_of_messages() {
    let mut admitted = 0;
    for seed in 0..WORLDS {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.check(seed);
        admitted += world.admitted.len();
    }
    assert!(admitted > 10_000, "the worlds did too little: {admitted}");
}

#[test]
fn what_is_admitted_is_charged_once_however_late_messages_are_and_however_long_it_is_held() {
    let mut let_go = 0;
    for seed in 0..WORLDS {
        let mut world = World::calm(seed);
        for _ in 0..STEPS {
            world.step();
        }
        let charged = world.settle();
        let admitted: u64 = world.admitted.iter().map(|(_, permits)| u64::from(*permits)).sum();
        let counted = admitted..=admitted + world.let_go;
        assert!(counted.contains(&charged), "seed {seed}: {charged} charged, {counted:?} counted");
        let_go += charged - admitted;
    }
    println!("{let_go} lapsed before they were let go");
}
