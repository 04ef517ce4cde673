//! The scripts in Redis against the state machine that they mirror.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::Rng;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;
use tollgate::{
    dev::Redis,
    domain::{amount::AMOUNT_MAX, cell_key::CellKey, ids::RunId},
    leases::{
        key::{KeyState, WANTS_MAX},
        message::{
            Answer, Ask, Call, Ceiling, CloseAnswer, CloseCall, CloseStep, Counted, Epoch, Floor,
            Flushed, Outcome, Recall, Totals,
        },
    },
    store::{
        RedisConfig, RedisCounters, identity::Identity, inspect::Inspection, keys::RECALL_CHANNEL,
    },
};
use uuid::Uuid;

use self::draw::Draw;

mod draw;

/// Histories, and steps in each. `TOLLGATE_SEED` replays one.
const HISTORIES: u64 = 30;
const STEPS: usize = 250;
/// Steps of every tenth history, which has a crowd of runs.
const CROWDED_STEPS: usize = 1_000;
/// Steps between two looks at the whole key.
const LOOK_EVERY: usize = 10;

fn key(number: u64) -> CellKey {
    CellKey {
        tenant: "acme".parse().unwrap(),
        meter: "calls".parse().unwrap(),
        subject: number.is_multiple_of(2).then(|| "listing:1".parse().unwrap()),
        label: format!("interval_60s:{number}:1").parse().unwrap(),
    }
}

/// What is tested here is what is answered, not how soon: a busy machine may take its time.
fn patient(url: String) -> RedisConfig {
    RedisConfig { call_timeout_ms: 30_000, ..RedisConfig::at(url) }
}

/// The scripts in a private Redis, and the hints that were heard.
struct Scripts {
    redis: Redis,
    counters: RedisCounters,
    identity: Identity,
    heard: Arc<Mutex<Vec<(CellKey, Recall)>>>,
    token: CancellationToken,
    tasks: [JoinHandle<()>; 2],
}

/// A counter in Redis, and the state machine that is to say the same.
struct Twins<'a> {
    scripts: &'a Scripts,
    key: CellKey,
    state: Option<KeyState>,
    /// The hints that the state machine gave.
    told: Vec<(CellKey, Recall)>,
}

impl Scripts {
    async fn start() -> Self {
        let redis = spawn_blocking(|| Redis::scratch().unwrap()).await.unwrap();
        let counters = RedisCounters::new(patient(redis.url())).unwrap();
        let token = CancellationToken::new();
        let heard = Arc::default();
        let connections = tokio::spawn({
            let (counters, token) = (counters.clone(), token.clone());
            async move { counters.run(token).await }
        });
        let listening = tokio::spawn({
            let (counters, token, heard) = (counters.clone(), token.clone(), Arc::clone(&heard));
            async move {
                let hear = |key, recall| -> () {
                    let heard: &Mutex<Vec<(CellKey, Recall)>> = &heard;
                    heard.lock().unwrap().push((key, recall));
                };
                counters.listen(token, hear).await;
            }
        });
        let mut identities = counters.identity();
        let identity = identities.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        let scripts =
            Self { redis, counters, identity, heard, token, tasks: [connections, listening] };
        scripts.until_listening().await;
        scripts
    }

    /// A hint that comes before the subscription would be lost.
    async fn until_listening(&self) {
        let client = redis::Client::open(self.redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        loop {
            let mut ask = redis::cmd("PUBSUB");
            ask.arg("NUMSUB").arg(RECALL_CHANNEL);
            let (_, listeners): (String, u64) = ask.query_async(&mut connection).await.unwrap();
            if listeners > 0 {
                return;
            }
        }
    }

    fn twins(&self, key: CellKey) -> Twins<'_> {
        Twins { scripts: self, key, state: None, told: Vec::new() }
    }

    async fn stop(self) {
        self.token.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
        spawn_blocking(move || drop(self.redis)).await.unwrap();
    }
}

impl Twins<'_> {
    async fn call(&mut self, call: &Call, which: &str) -> Answer {
        let Scripts { counters, identity, .. } = self.scripts;
        counters.bind(call.epoch.number, identity.clone());
        let before = self.state.clone();
        let (expected, recall) = KeyState::apply(&mut self.state, true, call);
        let answer = counters.call(&self.key, call).await.unwrap();
        assert_eq!(answer, expected, "{which}: {call:?} on {before:?}");
        self.told.extend(recall.map(|recall| (self.key.clone(), recall)));
        answer
    }

    async fn close(&mut self, close: &CloseCall, which: &str) -> CloseAnswer {
        let Scripts { counters, identity, .. } = self.scripts;
        counters.bind(close.epoch, identity.clone());
        let expected = KeyState::close(&mut self.state, true, close);
        let answer = counters.close(&self.key, close).await.unwrap();
        assert_eq!(answer, expected, "{which}: {close:?}");
        answer
    }

    async fn look(&self, which: &str) {
        let seen = self.scripts.counters.inspect(&self.key).await.unwrap();
        assert_eq!(seen, self.state.as_ref().and_then(Inspection::of), "{which}");
    }
}

#[tokio::test]
async fn the_scripts_answer_as_the_state_machine_does_through_random_histories() {
    let scripts = Scripts::start().await;
    let seed = std::env::var("TOLLGATE_SEED").ok().map(|seed| seed.parse().unwrap());
    let first_seed: u64 = seed.unwrap_or_else(|| rand::rng().random());
    let histories = if seed.is_some() { 1 } else { HISTORIES };
    let mut told: Vec<(CellKey, Recall)> = Vec::new();
    for history in 0..histories {
        let seed = first_seed.wrapping_add(history);
        let mut draw = Draw::new(seed);
        let mut twins = scripts.twins(key(history));
        let (steps, epochs, closings) = match draw.crowded {
            true => (CROWDED_STEPS, 2_000, 8),
            false => (STEPS, 80, 25),
        };
        for step in 0..steps {
            let which = format!("step {step}; replay with TOLLGATE_SEED={seed}");
            if step % LOOK_EVERY == 0 {
                twins.look(&which).await;
            }
            if draw.one_in(epochs) {
                draw.epoch += 1;
            }
            if draw.one_in(closings) {
                twins.close(&draw.close(), &which).await;
                continue;
            }
            let call = draw.call();
            if let Answer::Counted(counted) = twins.call(&call, &which).await {
                // Runs learn what they were granted.
                if let Some(run) = draw.runs.iter().position(|run| *run == call.run) {
                    draw.totals[run] = draw.totals[run].merged(counted.totals);
                }
            }
        }
        told.extend(twins.told);
    }
    assert!(
        seed.is_some() || told.len() as u64 > 15 * histories,
        "the histories have to bring about recalls: {}",
        told.len()
    );
    tokio::time::timeout(Duration::from_secs(10), async {
        while scripts.heard.lock().unwrap().len() < told.len() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("every hint arrives");
    assert_eq!(*scripts.heard.lock().unwrap(), told);
    scripts.stop().await;
}

/// A call of run `number` that needs `need` units beyond nothing.
fn plain(number: u64, need: u64, units: Option<u64>) -> Call {
    Call {
        run: RunId(Uuid::from_u128(u128::from(number))),
        sequence: 1,
        epoch: Epoch { number: 1, recovered: true },
        totals: Totals::default(),
        ceiling: Ceiling { units, version: 1 },
        ask: Ask { want: 1, need_to: need, wanted_to: need, target: need, last: false },
        closed: false,
        depose: None,
        retention: None,
        floor: Some(Box::default()),
    }
}

#[tokio::test]
async fn a_full_queue_leaves_out_those_who_come_later_and_takes_them_in_turn() {
    let scripts = Scripts::start().await;
    let mut twins = scripts.twins(key(0));
    let all = Some(WANTS_MAX as u64);
    twins.call(&plain(1, WANTS_MAX as u64, all), "the holder").await;
    for run in 2..WANTS_MAX as u64 + 10 {
        twins.call(&plain(run, 1, all), "a want").await;
    }
    let queued = |twins: &Twins<'_>| format!("{:?}", twins.state).matches("Want {").count();
    assert_eq!(queued(&twins), WANTS_MAX);
    // The holder returns everything; those in the queue, and those left out, ask again in turn.
    let returned =
        Totals { granted: WANTS_MAX as u64, returned: WANTS_MAX as u64, ..Totals::default() };
    let back = Call { sequence: 2, totals: returned, closed: true, ..plain(1, 0, all) };
    twins.call(&back, "the return").await;
    for run in (2..WANTS_MAX as u64 + 10).rev().chain(2..WANTS_MAX as u64 + 10) {
        let again = Call { sequence: 1_000 - run, ..plain(run, 1, all) };
        twins.call(&again, "again").await;
    }
    twins.look("the end").await;
    assert!(queued(&twins) < WANTS_MAX);
    scripts.stop().await;
}

#[tokio::test]
async fn nothing_is_granted_beyond_what_a_double_holds_exactly() {
    let scripts = Scripts::start().await;
    let mut twins = scripts.twins(key(0));
    let held = AMOUNT_MAX - 10;
    let mut call = plain(1, held, None);
    twins.call(&call, "nearly all").await;
    call.totals = Totals { granted: held, consumed: held, ..Totals::default() };
    for (sequence, to) in [(2, AMOUNT_MAX + 1), (3, 2 * AMOUNT_MAX), (4, u64::MAX)] {
        call.sequence = sequence;
        call.ask = Ask { want: 1, need_to: to, wanted_to: to, target: to, last: false };
        let answer = twins.call(&call, "too much").await;
        let refused = |answer: &Answer| match answer {
            Answer::Counted(counted) => counted.outcome == Outcome::Refused,
            _ => false,
        };
        assert!(refused(&answer), "{answer:?}");
    }
    call.sequence = 5;
    call.ask = Ask { want: 1, need_to: 0, wanted_to: 0, target: u64::MAX, last: false };
    twins.call(&call, "as much as there is").await;
    twins.look("the end").await;
    scripts.stop().await;
}

#[tokio::test]
async fn usage_past_all_that_can_be_counted_denies_until_its_run_is_folded() {
    let scripts = Scripts::start().await;
    let ceiling = Some(AMOUNT_MAX);
    let totals = |recorded, undone| Totals { recorded, undone, ..Totals::default() };
    // Of one run alone; and of two that could be counted each.
    let (past, most) = (3 * AMOUNT_MAX, AMOUNT_MAX - 1);
    for (number, recorded) in [(0, [past, 0]), (1, [most, most])] {
        let mut twins = scripts.twins(key(number));
        for (run, recorded) in (1..).zip(recorded) {
            let told = Call { totals: totals(recorded, 0), ..plain(run, 0, ceiling) };
            twins.call(&told, "the usage").await;
        }
        let undone = Call { sequence: 2, totals: totals(recorded[0], 9), ..plain(1, 0, ceiling) };
        twins.call(&undone, "some of it taken back").await;
        let ask = |sequence| Call { sequence, ..plain(7, 1, ceiling) };
        let denied = twins.call(&ask(1), "a need").await;
        assert!(
            matches!(denied, Answer::Counted(Counted { outcome: Outcome::Refused, .. })),
            "{denied:?}"
        );
        twins.look("full").await;
        for (run, used) in (1..).zip(recorded) {
            let step = CloseStep::Fold {
                closed_seq: run,
                used,
                undone: used.saturating_sub(100),
                forfeit: 0,
            };
            let run = RunId(Uuid::from_u128(u128::from(run)));
            let close = CloseCall {
                epoch: 1,
                run,
                step,
                folded_through: 0,
                fenced_max: 64,
                retention: None,
            };
            twins.close(&close, "the fold").await;
        }
        twins.look("folded").await;
        let base = recorded.into_iter().filter(|used| *used > 0).count() as u64 * 100;
        match twins.call(&ask(2), "a need").await {
            Answer::Counted(Counted { outcome: Outcome::Met, free, .. }) => {
                assert_eq!(free.cast_unsigned(), AMOUNT_MAX - base - 1);
            }
            other => panic!("{other:?}"),
        }
    }
    scripts.stop().await;
}

#[tokio::test]
async fn a_crowded_key_lets_the_closing_in_that_all_others_wait_for() {
    let scripts = Scripts::start().await;
    let mut twins = scripts.twins(key(0));
    let close = |closed_seq: u64, folded_through| CloseCall {
        epoch: 1,
        run: RunId(Uuid::from_u128(u128::from(closed_seq))),
        step: CloseStep::Fold { closed_seq, used: 0, undone: 0, forfeit: 0 },
        folded_through,
        fenced_max: 1,
        retention: None,
    };
    for later in 2..18 {
        twins.close(&close(later, 0), "a closing before which one is not folded").await;
    }
    let late = twins.close(&close(18, 0), "one too many").await;
    assert_eq!(late, CloseAnswer::Crowded);
    let awaited = twins.close(&close(1, 0), "the one that is not").await;
    assert_eq!(awaited, CloseAnswer::Absent);
    let late = twins.close(&close(18, 17), "and then the others").await;
    assert_eq!(late, CloseAnswer::Absent);
    scripts.stop().await;
}

#[tokio::test]
async fn a_rebuilt_key_takes_no_ceiling_that_has_been_replaced() {
    let scripts = Scripts::start().await;
    let mut twins = scripts.twins(key(0));
    let floor = Floor { ceiling_version: 6, ..Floor::default() };
    let replaced = Call {
        ceiling: Ceiling { units: Some(10), version: 5 },
        floor: Some(Box::new(floor)),
        ..plain(1, 1, None)
    };
    let answer = twins.call(&replaced, "a limit that has been lowered since").await;
    assert!(
        matches!(answer, Answer::Counted(Counted { outcome: Outcome::Refused, .. })),
        "{answer:?}"
    );
    let current = Call { ceiling: Ceiling { units: Some(5), version: 6 }, ..plain(2, 5, None) };
    match twins.call(&current, "the limit that holds").await {
        Answer::Counted(counted) => {
            assert_eq!((counted.outcome, counted.totals.granted), (Outcome::Met, 5));
        }
        other => panic!("{other:?}"),
    }
    twins.look("the end").await;
    scripts.stop().await;
}

#[tokio::test]
async fn a_floor_past_all_that_can_be_counted_founds_a_key_that_denies() {
    let scripts = Scripts::start().await;
    let run = RunId(Uuid::from_u128(9));
    let open = |used, undone| vec![Flushed { run, used, undone }];
    let floors = [
        Floor { base_used: i64::MAX, ..Floor::default() },
        Floor { base_used: i64::MAX, open_runs: open(0, 50), ..Floor::default() },
        Floor { base_forfeited: u64::MAX, open_runs: open(0, 50), ..Floor::default() },
        Floor { open_runs: open(u64::MAX, u64::MAX / 2), ..Floor::default() },
    ];
    for (number, floor) in (0..).zip(floors) {
        let mut twins = scripts.twins(key(number));
        let call = Call { floor: Some(Box::new(floor)), ..plain(1, 1, Some(AMOUNT_MAX)) };
        let answer = twins.call(&call, "a need").await;
        assert!(
            matches!(answer, Answer::Counted(Counted { outcome: Outcome::Refused, .. })),
            "{answer:?}"
        );
        twins.look("full").await;
    }
    scripts.stop().await;
}
