//! The distinct counts' script, held against its state machine by random histories.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tollgate::{
    dev::Redis,
    domain::{
        cell_key::CellKey,
        distinct::{DistinctCount, EXACT_VALUES_MAX, hash},
    },
    leases::message::Epoch,
    store::{
        RedisConfig, RedisCounters,
        distinct::{Admit, DistinctAnswer, DistinctCall, DistinctState},
    },
};

const HISTORIES: u64 = 30;
const STEPS: usize = 120;

/// Draws the messages of one history.
struct Draw {
    rng: StdRng,
    epoch: u64,
    /// Values are drawn below this: few, so that they meet, or around the exact size.
    values: u64,
}

impl Draw {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let large = rng.random_ratio(1, 10);
        let values = if large { EXACT_VALUES_MAX as u64 + 200 } else { 40 };
        Self { rng, epoch: 1, values }
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_ratio(1, n)
    }

    fn value(&mut self) -> u64 {
        self.rng.random_range(0..self.values)
    }

    fn count(&mut self) -> Box<DistinctCount> {
        let mut count = DistinctCount::new();
        let (from, few) = (self.value(), self.rng.random_range(0..=self.values / 3));
        // Now and then more than the exact size.
        let length = if self.one_in(12) { EXACT_VALUES_MAX as u64 + 50 } else { few };
        for value in from..from + length {
            count.insert(&value.to_string());
        }
        Box::new(count)
    }

    fn call(&mut self) -> DistinctCall {
        let ceiling = self.rng.random_range(0..=self.values.min(EXACT_VALUES_MAX as u64));
        let hash = hash(&self.value().to_string());
        let number = if self.one_in(30) { (self.epoch - 1).max(1) } else { self.epoch };
        DistinctCall {
            epoch: Epoch { number, recovered: !self.one_in(8) },
            admit: (!self.one_in(4)).then_some(Admit { hash, ceiling }),
            known: self.one_in(6).then(|| self.count()),
            floor: self.one_in(3).then(|| self.count()),
            retention: self.one_in(20).then_some(Duration::from_secs(1_000)),
        }
    }
}

fn key(number: u64) -> CellKey {
    CellKey {
        tenant: "acme".parse().unwrap(),
        meter: "visitors".parse().unwrap(),
        subject: number.is_multiple_of(2).then(|| "listing:1".parse().unwrap()),
        label: format!("interval_60s:{number}:1").parse().unwrap(),
    }
}

/// What is tested here is what is answered, not how soon: a busy machine may take its time.
fn patient(url: String) -> RedisConfig {
    RedisConfig { call_timeout_ms: 30_000, ..RedisConfig::at(url) }
}

#[tokio::test]
async fn the_distinct_script_answers_as_its_state_machine_does_through_random_histories() {
    let redis = spawn_blocking(|| Redis::scratch().unwrap()).await.unwrap();
    let counters = RedisCounters::new(patient(redis.url())).unwrap();
    let token = CancellationToken::new();
    let connections = tokio::spawn({
        let (counters, token) = (counters.clone(), token.clone());
        async move { counters.run(token).await }
    });
    let mut identities = counters.identity();
    let identity = identities.wait_for(Option::is_some).await.unwrap().clone().unwrap();

    let seed = std::env::var("TOLLGATE_SEED").ok().map(|seed| seed.parse().unwrap());
    let first_seed: u64 = seed.unwrap_or_else(|| rand::rng().random());
    let histories = if seed.is_some() { 1 } else { HISTORIES };
    let mut admissions = [0; 2];
    for history in 0..histories {
        let seed = first_seed.wrapping_add(history);
        let replay = format!("history {history}; replay with TOLLGATE_SEED={seed}");
        let mut draw = Draw::new(seed);
        let key = key(history);
        let mut state = None;
        for step in 0..STEPS {
            draw.epoch += u64::from(draw.one_in(40));
            let call = draw.call();
            counters.bind(call.epoch.number, identity.clone());
            let before = state.clone();
            let expected = DistinctState::apply(&mut state, true, &call);
            let answer = counters.distinct(&key, &call).await.unwrap();
            let asked = call.admit;
            assert_eq!(answer, expected, "step {step} of {replay}: {call:?} on {before:?}");
            if let (Some(_), DistinctAnswer::Counted { admitted, .. }) = (asked, answer) {
                admissions[usize::from(admitted)] += 1;
            }
        }
    }
    let [denied, admitted] = admissions;
    assert!(denied > 5 * histories && admitted > 5 * histories, "{denied} and {admitted}");

    token.cancel();
    connections.await.unwrap();
    spawn_blocking(move || drop(redis)).await.unwrap();
}
