//! The scripts in Redis against the state machine that they mirror.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tollgate::{
    dev::Redis,
    domain::{cell_key::CellKey, ids::RunId},
    leases::{
        key::KeyState,
        message::{
            Answer, Ask, Call, Ceiling, CloseCall, CloseStep, Epoch, Floor, Flushed, Recall, Totals,
        },
    },
    store::{RedisConfig, RedisCounters},
};
use uuid::Uuid;

/// Histories, and steps in each. `TOLLGATE_SEED` replays one.
const HISTORIES: u64 = 30;
const STEPS: usize = 250;

/// Draws messages that a protocol gone mad could send: every field at random, most of them small.
struct Draw {
    rng: StdRng,
    runs: Vec<RunId>,
    totals: Vec<Totals>,
    sequence: u64,
    epoch: u64,
    ceiling: Ceiling,
    past: Vec<Call>,
}

impl Draw {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let runs: Vec<_> = (0..4).map(|_| RunId(Uuid::from_u128(rng.random()))).collect();
        let totals = vec![Totals::default(); runs.len()];
        let ceiling = Ceiling { units: Some(50), version: 1 };
        Self { rng, runs, totals, sequence: 1, epoch: 1, ceiling, past: Vec::new() }
    }

    fn up_to(&mut self, most: u64) -> u64 {
        self.rng.random_range(0..=most)
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_ratio(1, n)
    }

    fn call(&mut self) -> Call {
        if self.one_in(10) && !self.past.is_empty() {
            return self.past.choose(&mut self.rng).unwrap().clone();
        }
        let run = self.rng.random_range(0..self.runs.len());
        self.sequence += 1;
        let totals = self.totals[run];
        let grown = Totals {
            granted: totals.granted + self.up_to(6),
            returned: totals.returned + self.up_to(4),
            consumed: totals.consumed + self.up_to(4),
            recorded: totals.recorded + self.up_to(2),
            undone: totals.undone + self.up_to(1),
        };
        self.totals[run] = grown;
        let need_to = grown.granted + self.up_to(20).saturating_sub(10);
        let wanted_to = need_to + self.up_to(10);
        if self.one_in(6) {
            // Around what is taken, so that wants come and go.
            let taken: u64 =
                self.totals.iter().map(|t| t.granted - t.returned.min(t.granted)).sum();
            let units = (!self.one_in(20)).then(|| taken + self.up_to(60));
            self.ceiling = Ceiling { units, version: self.ceiling.version + 1 };
        }
        let stale = Ceiling { units: Some(self.up_to(99)), version: self.ceiling.version - 1 };
        let call = Call {
            run: self.runs[run],
            sequence: if self.one_in(12) { self.up_to(self.sequence) } else { self.sequence },
            epoch: Epoch { number: self.epoch, recovered: !self.one_in(10) },
            totals: grown,
            ceiling: if self.one_in(8) { stale } else { self.ceiling },
            ask: Ask {
                want: 1 + self.up_to(2),
                need_to,
                wanted_to,
                target: wanted_to + self.up_to(200),
                last: self.one_in(8),
            },
            closed: self.one_in(3),
            depose: self.one_in(6).then(|| self.up_to(12)),
            retention: self.one_in(20).then_some(Duration::from_secs(1_000)),
            floor: self.one_in(4).then(|| Box::new(self.floor())),
        };
        self.past.push(call.clone());
        call
    }

    fn floor(&mut self) -> Floor {
        Floor {
            closed_seq: self.up_to(3),
            base_used: self.up_to(12).cast_signed() - 2,
            base_forfeited: self.up_to(3),
            open_runs: (0..self.up_to(3) as usize)
                .map(|run| Flushed {
                    run: self.runs[run],
                    used: self.up_to(9),
                    undone: self.up_to(3),
                })
                .collect(),
        }
    }

    fn close(&mut self) -> CloseCall {
        let step = if self.one_in(2) {
            CloseStep::Fence
        } else {
            CloseStep::Fold {
                closed_seq: self.up_to(4),
                used: self.up_to(20),
                undone: self.up_to(3),
                forfeit: self.up_to(5),
            }
        };
        let retention = self.one_in(5).then_some(Duration::from_secs(1_000));
        let run = self.rng.random_range(0..self.runs.len());
        let closed = self.runs[run];
        if self.one_in(2) {
            self.runs[run] = RunId(Uuid::from_u128(self.rng.random()));
            self.totals[run] = Totals::default();
        }
        CloseCall { epoch: self.epoch, run: closed, step, retention }
    }
}

fn key(number: u64) -> CellKey {
    CellKey {
        tenant: "acme".parse().unwrap(),
        meter: "calls".parse().unwrap(),
        subject: number.is_multiple_of(2).then(|| "listing:1".parse().unwrap()),
        label: format!("interval_60s:{number}:1").parse().unwrap(),
    }
}

#[tokio::test]
async fn the_scripts_answer_as_the_state_machine_does_through_random_histories() {
    let redis = spawn_blocking(|| Redis::scratch().unwrap()).await.unwrap();
    let counters = RedisCounters::new(RedisConfig::at(redis.url())).unwrap();
    let token = CancellationToken::new();
    let connections = tokio::spawn({
        let (counters, token) = (counters.clone(), token.clone());
        async move { counters.run(token).await }
    });
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listening = tokio::spawn({
        let (counters, token, heard) = (counters.clone(), token.clone(), Arc::clone(&heard));
        async move {
            counters.listen(token, |key, recall| heard.lock().unwrap().push((key, recall))).await;
        }
    });
    let mut identities = counters.identity();
    let identity = identities.wait_for(Option::is_some).await.unwrap().clone().unwrap();

    let seed = std::env::var("TOLLGATE_SEED").ok().map(|seed| seed.parse().unwrap());
    let first_seed: u64 = seed.unwrap_or_else(|| rand::rng().random());
    let histories = if seed.is_some() { 1 } else { HISTORIES };
    let mut told: Vec<(CellKey, Recall)> = Vec::new();
    for history in 0..histories {
        let seed = first_seed.wrapping_add(history);
        let replay = format!("history {history}; replay with TOLLGATE_SEED={seed}");
        let mut draw = Draw::new(seed);
        let key = key(history);
        let mut state: Option<KeyState> = None;
        counters.bind(1, identity.clone());
        for step in 0..STEPS {
            if draw.one_in(80) {
                draw.epoch += 1;
            }
            if draw.one_in(25) {
                let close = draw.close();
                counters.bind(close.epoch, identity.clone());
                let expected = KeyState::close(&mut state, true, &close);
                let answer = counters.close(&key, &close).await.unwrap();
                assert_eq!(answer, expected, "step {step} of {replay}: {close:?}");
                continue;
            }
            let call = draw.call();
            counters.bind(call.epoch.number, identity.clone());
            let before = state.clone();
            let (expected, recall) = KeyState::apply(&mut state, true, &call);
            let answer = counters.call(&key, &call).await.unwrap();
            assert_eq!(answer, expected, "step {step} of {replay}: {call:?} on {before:?}");
            told.extend(recall.map(|recall| (key.clone(), recall)));
            if let Answer::Counted(counted) = expected {
                // Runs learn what they were granted.
                if let Some(run) = draw.runs.iter().position(|run| *run == call.run) {
                    draw.totals[run] = draw.totals[run].merged(counted.totals);
                }
            }
        }
    }
    assert!(
        told.len() as u64 > 20 * histories,
        "the histories have to bring about recalls: {}",
        told.len()
    );
    tokio::time::timeout(Duration::from_secs(10), async {
        while heard.lock().unwrap().len() < told.len() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("every hint arrives");
    assert_eq!(*heard.lock().unwrap(), told);

    token.cancel();
    connections.await.unwrap();
    listening.await.unwrap();
    spawn_blocking(move || drop(redis)).await.unwrap();
}
