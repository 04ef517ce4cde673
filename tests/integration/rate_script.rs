//! The rates' script, held against its state machine by random histories.

use std::{sync::Arc, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tollgate::{
    dev::Redis,
    domain::{
        catalog::names::RateName,
        ids::RunId,
        rate::{RateKeyName, RateWindow},
    },
    leases::rate::{
        message::{Ask, AskFor, RateCall, RateReply, RateTerms},
        shared::SharedRate,
    },
    store::{RedisConfig, RedisCounters},
};
use uuid::Uuid;

const HISTORIES: u64 = 40;
const STEPS: usize = 80;
/// Some time in 2026, in microseconds.
const BEGIN_US: u64 = 1_790_000_000_000_000;

/// Draws the calls of one history.
struct Draw {
    random: StdRng,
    now_us: u64,
    /// What the tenant has now and had before: some runs are late to learn.
    terms: [RateTerms; 2],
    /// What each run knows: sequence, granted, spent.
    runs: [(u64, u64, u64); 3],
}

impl Draw {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let terms = RateTerms { version: 1, windows: windows(&mut random) };
        let terms = [terms.clone(), terms];
        Self { random, now_us: BEGIN_US, terms, runs: [(0, 0, 0); 3] }
    }

    fn call(&mut self) -> (usize, RateCall) {
        self.now_us += self.random.random_range(0..50_000);
        if self.random.random_ratio(1, 20) {
            self.now_us += self.random.random_range(0..100_000_000);
        }
        if self.random.random_ratio(1, 40) {
            self.now_us -= self.random.random_range(0..1_000_000);
        }
        if self.random.random_ratio(1, 25) {
            let version = self.terms[0].version + 1;
            // Not every change of a tenant is one of its rates.
            let windows = match self.random.random_bool(0.7) {
                true => windows(&mut self.random),
                false => self.terms[0].windows.clone(),
            };
            let new = RateTerms { version, windows };
            self.terms = [new, self.terms[0].clone()];
        }
        let which = self.random.random_range(0..self.runs.len());
        let (sequence, granted, spent) = &mut self.runs[which];
        *sequence += 1;
        *spent += self.random.random_range(0..=*granted - *spent);
        if self.random.random_ratio(1, 3) {
            *granted -= self.random.random_range(0..=*granted - *spent);
        }
        let late = if self.random.random_ratio(1, 15) { 2 } else { 0 };
        let (sequence, granted, spent) = (sequence.saturating_sub(late), *granted, *spent);
        let asks = (0..self.random.random_range(0..5)).map(|_| Ask {
            permits: self.random.random_range(1..4),
            how: if self.random.random_bool(0.5) { AskFor::Good } else { AskFor::Keeping },
        });
        let asks = asks.collect();
        let call = RateCall {
            run: RunId(Uuid::from_u128(which as u128 + 1)),
            sequence,
            granted,
            spent,
            lapse_us: self.random.random_range(1_000..100_000),
            terms: self.terms[usize::from(self.random.random_ratio(1, 4))].clone(),
            asks,
            ahead: self.random.random_range(0..10),
        };
        (which, call)
    }

    /// The run learns what it was lent, unless the answer is lost.
    fn learn(&mut self, which: usize, reply: &RateReply) {
        if let RateReply::Granted(granted) = reply
            && self.random.random_ratio(9, 10)
        {
            self.runs[which].1 = granted.granted;
        }
    }
}

fn windows(random: &mut StdRng) -> Arc<[RateWindow]> {
    let periods = [1, 60, 3_600, 86_400];
    let first = random.random_range(0..periods.len());
    let count = random.random_range(1..=periods.len() - first);
    let window = |period: &u64| {
        let permits = random.random_range(1..500);
        let burst = random.random_range(1..=2 * permits);
        RateWindow::new(permits, Duration::from_secs(*period), burst)
    };
    periods[first..first + count].iter().map(window).collect()
}

#[tokio::test]
async fn the_rate_script_answers_as_its_state_machine_does_through_random_histories() {
    let redis = spawn_blocking(|| Redis::scratch().unwrap()).await.unwrap();
    // What is tested here is what is answered, not how soon: a busy machine may take its time.
    let config = RedisConfig { call_timeout_ms: 30_000, ..RedisConfig::at(redis.url()) };
    let counters = RedisCounters::new(config).unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (counters, stop) = (counters.clone(), stop.clone());
        async move { counters.run(stop).await }
    });
    counters.trouble().wait_for(Option::is_none).await.unwrap();
    let mut met = 0;
    for seed in 0..HISTORIES {
        let key = RateKeyName {
            tenant: "acme".parse().unwrap(),
            rate: RateName::new("api").unwrap(),
            subject: (seed % 2 == 0).then(|| format!("user:{seed}").parse().unwrap()),
        };
        let key = RateKeyName { tenant: format!("acme-{seed}").parse().unwrap(), ..key };
        let (mut draw, mut state) = (Draw::new(seed), SharedRate::default());
        for step in 0..STEPS {
            let (which, call) = draw.call();
            let expected = state.apply(&call, draw.now_us);
            let reply = counters.rate(&key, &call, Some(draw.now_us)).await.unwrap();
            assert_eq!(reply, expected, "seed {seed}, step {step}: {call:?}");
            draw.learn(which, &reply);
            if let RateReply::Granted(granted) = &reply {
                met += granted.met.count_ones();
            }
        }
    }
    assert!(met > 500, "the histories did too little: {met}");
    stop.cancel();
    running.await.unwrap();
}
