//! The counters in a Redis that comes, goes, stalls and forgets.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;
use tollgate::{
    dev::Redis,
    domain::{cell_key::CellKey, ids::RunId},
    leases::message::{
        Answer, Ask, Call, Ceiling, CloseAnswer, CloseCall, CloseStep, Counted, Epoch, Floor,
        Recall, Totals,
    },
    store::{
        RedisConfig, RedisCounters, StoreError,
        distinct::{DistinctAnswer, DistinctCall},
        identity::Identity,
        inspect::KeyPage,
        keys::{RECALL_CHANNEL, counter_name},
    },
};
use uuid::Uuid;

const RUN: RunId = RunId(Uuid::from_u128(7));
const PATIENCE: Duration = Duration::from_secs(20);

/// Counters connected to a private Redis.
struct World {
    redis: Redis,
    counters: RedisCounters,
    token: CancellationToken,
    running: JoinHandle<()>,
}

impl World {
    async fn start() -> Self {
        Self::with(RedisConfig::default()).await
    }

    async fn with(config: RedisConfig) -> Self {
        let redis = spawn_blocking(|| Redis::scratch().unwrap()).await.unwrap();
        let counters = RedisCounters::new(RedisConfig { url: redis.url(), ..config }).unwrap();
        let token = CancellationToken::new();
        let running = tokio::spawn({
            let (counters, token) = (counters.clone(), token.clone());
            async move { counters.run(token).await }
        });
        Self { redis, counters, token, running }
    }

    /// Waits for counters other than `known`.
    async fn identity_other_than(&self, known: Option<&Identity>) -> Identity {
        let mut identity = self.counters.identity();
        let changed = identity.wait_for(|seen| seen.is_some() && seen.as_ref() != known);
        tokio::time::timeout(PATIENCE, changed).await.unwrap().unwrap().clone().unwrap()
    }

    async fn command(&self, text: &str) -> String {
        command(&self.redis, text).await
    }

    /// Ends the connections that listen for recalls; how many there were.
    async fn kill_subscriptions(&self) -> u64 {
        let client = redis::Client::open(self.redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg("pubsub");
        kill.query_async(&mut connection).await.unwrap()
    }

    async fn granted(&self, epoch: u64) -> Counted {
        match self.counters.call(&key(), &call(epoch, 5)).await.unwrap() {
            Answer::Counted(counted) => counted,
            other => panic!("{other:?}"),
        }
    }

    /// Calls until the counters answer with an error that `is` the expected one.
    async fn error(&self, epoch: u64, is: impl Fn(&StoreError) -> bool) {
        let asking = async {
            while !matches!(self.counters.call(&key(), &call(epoch, 5)).await, Err(e) if is(&e)) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap();
    }

    async fn stop(self) {
        self.token.cancel();
        self.running.await.unwrap();
        spawn_blocking(move || drop(self.redis)).await.unwrap();
    }
}

async fn command(redis: &Redis, text: &str) -> String {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut words = text.split(' ');
    let mut cmd = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        cmd.arg(word);
    });
    let answer: redis::Value = cmd.query_async(&mut connection).await.unwrap();
    redis::from_redis_value(answer).unwrap_or_default()
}

/// Has the server listen on a free port of this machine: replicas know no Unix socket.
async fn listen_on_tcp(redis: &Redis) -> u16 {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    command(redis, &format!("CONFIG SET port {port}")).await;
    port
}

/// Waits until the replica has what its primary has.
async fn until_in_sync(replica: &Redis) {
    let syncing = async {
        while !command(replica, "INFO replication").await.contains("master_link_status:up") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, syncing).await.unwrap();
}

/// More counters on the same server.
fn connect(redis: &Redis) -> (RedisCounters, CancellationToken, JoinHandle<()>) {
    let config = RedisConfig { heartbeat_ms: 600_000, ..RedisConfig::at(redis.url()) };
    let counters = RedisCounters::new(config).unwrap();
    let token = CancellationToken::new();
    let running = tokio::spawn({
        let (counters, token) = (counters.clone(), token.clone());
        async move { counters.run(token).await }
    });
    (counters, token, running)
}

async fn found(counters: &RedisCounters) -> Identity {
    let mut identity = counters.identity();
    let found = identity.wait_for(Option::is_some);
    tokio::time::timeout(PATIENCE, found).await.unwrap().unwrap().clone().unwrap()
}

fn key() -> CellKey {
    CellKey {
        tenant: "acme".parse().unwrap(),
        meter: "calls".parse().unwrap(),
        subject: None,
        label: "lifetime:0:1".parse().unwrap(),
    }
}

fn call(epoch: u64, need_to: u64) -> Call {
    Call {
        run: RUN,
        sequence: 1,
        epoch: Epoch { number: epoch, recovered: true },
        totals: Totals::default(),
        ceiling: Ceiling { units: Some(10), version: 1 },
        ask: Ask { want: 1, need_to, wanted_to: need_to, target: need_to, last: false },
        closed: false,
        depose: None,
        retention: None,
        floor: Some(Box::default()),
    }
}

#[tokio::test]
async fn nothing_is_served_before_the_ledger_has_named_the_epoch() {
    let world = World::start().await;
    let identity = world.identity_other_than(None).await;
    world.error(1, |error| matches!(error, StoreError::NotServed { epoch: 1 })).await;
    world.counters.bind(1, identity);
    assert_eq!(world.granted(1).await.totals.granted, 5);
    world.error(2, |error| matches!(error, StoreError::NotServed { epoch: 2 })).await;
    let seen = world.counters.inspect(&key()).await.unwrap().unwrap();
    assert_eq!((seen.epoch, seen.used, seen.outstanding, seen.taken()), (1, 0, 5, 5));
    assert_eq!(world.counters.keys(None).await.unwrap(), KeyPage { keys: vec![key()], next: None });
    assert_eq!(world.counters.keys_of_run(RUN).await.unwrap(), [key()]);
    assert_eq!(world.counters.keys_of_run(RunId(Uuid::nil())).await.unwrap(), []);
    world.stop().await;
}

#[tokio::test]
async fn an_emptied_redis_is_other_counters() {
    let world = World::start().await;
    let before = world.identity_other_than(None).await;
    world.counters.bind(1, before.clone());
    world.granted(1).await;
    world.command("FLUSHALL").await;
    // Even with a floor at hand: the epoch is over, whatever the call brings.
    match world.counters.call(&key(), &call(1, 10)).await {
        Ok(Answer::EpochLost) | Err(StoreError::Unreachable | StoreError::NotServed { .. }) => {}
        other => panic!("{other:?}"),
    }
    let after = world.identity_other_than(Some(&before)).await;
    assert_eq!(after.run_id, before.run_id, "the same server");
    world.error(1, |error| matches!(error, StoreError::NotServed { .. })).await;
    world.counters.bind(2, after);
    let mut without_floor = call(2, 5);
    without_floor.floor = None;
    let answer = world.counters.call(&key(), &without_floor).await.unwrap();
    assert_eq!(answer, Answer::NeedFloor { closed_seq_min: 0 });
    world.stop().await;
}

#[tokio::test]
async fn no_script_serves_an_emptied_redis_under_the_old_epoch() {
    // Nothing but the scripts themselves finds out.
    let config = || RedisConfig { heartbeat_ms: 60_000, ..RedisConfig::default() };
    let (key, epoch) = (key(), Epoch { number: 1, recovered: true });
    for script in ["lease", "close", "distinct"] {
        let world = World::with(config()).await;
        world.counters.bind(1, world.identity_other_than(None).await);
        world.granted(1).await;
        world.command("FLUSHALL").await;
        let counters = &world.counters;
        let is_lost = match script {
            "lease" => counters.call(&key, &call(1, 10)).await.unwrap() == Answer::EpochLost,
            "close" => {
                let step = CloseStep::Fold { closed_seq: 1, used: 0, undone: 0, forfeit: 0 };
                let (epoch, run, folded_through, fenced_max, retention) = (1, RUN, 0, 1, None);
                let close = CloseCall { epoch, run, step, folded_through, fenced_max, retention };
                counters.close(&key, &close).await.unwrap() == CloseAnswer::EpochLost
            }
            _ => {
                let floor = Some(Box::default());
                let admit = DistinctCall { floor, ..DistinctCall::admit(epoch, "value", 5) };
                counters.distinct(&key, &admit).await.unwrap() == DistinctAnswer::EpochLost
            }
        };
        assert!(is_lost, "{script}");
        assert_eq!(counters.inspect(&key).await.unwrap(), None, "{script} wrote");
        world.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_was_started_again_is_other_counters_and_serves_its_new_epoch() {
    let mut world = World::start().await;
    let before = world.identity_other_than(None).await;
    world.counters.bind(1, before.clone());
    world.granted(1).await;
    world.redis.kill().unwrap();
    world.error(1, |error| matches!(error, StoreError::Unreachable)).await;
    let started = Instant::now();
    world.error(1, |error| matches!(error, StoreError::Unreachable)).await;
    assert!(started.elapsed() < Duration::from_secs(10), "without a server it fails at once");
    world.redis.start_again().unwrap();
    let after = world.identity_other_than(Some(&before)).await;
    assert_ne!(after.run_id, before.run_id);
    world.counters.bind(2, after);
    let mut floor = call(2, 5);
    floor.floor = Some(Box::new(Floor { base_used: 8, ..Floor::default() }));
    match world.counters.call(&key(), &floor).await.unwrap() {
        Answer::Counted(counted) => assert_eq!((counted.totals.granted, counted.free), (0, 2)),
        other => panic!("{other:?}"),
    }
    world.stop().await;
}

#[tokio::test]
async fn a_server_that_stalls_is_given_up_and_taken_back_with_its_data() {
    let world = World::start().await;
    let identity = world.identity_other_than(None).await;
    world.counters.bind(1, identity.clone());
    world.granted(1).await;
    let pid = Pid::from_raw(world.redis.pid().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    world.error(1, |error| matches!(error, StoreError::Unreachable)).await;
    kill_process(pid, Signal::CONT).unwrap();
    let answering = async {
        loop {
            match world.counters.call(&key(), &call(1, 5)).await {
                Ok(Answer::Counted(counted)) => break counted,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    let counted = tokio::time::timeout(PATIENCE, answering).await.unwrap();
    assert_eq!(counted.totals.granted, 5);
    assert_eq!(world.counters.identity().borrow().as_ref(), Some(&identity));
    world.stop().await;
}

#[tokio::test]
async fn a_server_that_may_evict_counters_is_not_used() {
    let world = World::start().await;
    let before = world.identity_other_than(None).await;
    world.counters.bind(1, before);
    world.granted(1).await;
    world.command("CONFIG SET maxmemory-policy allkeys-lru").await;
    world.command("CLIENT KILL TYPE normal SKIPME yes").await;
    world.error(1, |error| matches!(error, StoreError::Unreachable)).await;
    world.stop().await;
}

#[tokio::test]
async fn a_silent_subscription_is_looked_after_and_goes_on_hearing() {
    let world = World::with(RedisConfig { heartbeat_ms: 10, ..RedisConfig::default() }).await;
    let (heard, mut hints) = tokio::sync::mpsc::unbounded_channel();
    let listening = tokio::spawn({
        let (counters, token) = (world.counters.clone(), world.token.clone());
        async move {
            counters.listen(token, |key, recall| heard.send((key, recall)).unwrap()).await;
        }
    });
    // Besides the first one, that of the fixture, only the subscription pings.
    let pinged = async {
        let pings = |stats: &str| -> Option<u64> {
            stats.split_once("cmdstat_ping:calls=")?.1.split(',').next()?.parse().ok()
        };
        while pings(&world.command("INFO commandstats").await).is_none_or(|pings| pings < 5) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, pinged).await.unwrap();
    let hint = format!("7 - {} {}", Uuid::from_u128(3).simple(), counter_name(&key()));
    let client = redis::Client::open(world.redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut publish = redis::cmd("PUBLISH");
    publish.arg(RECALL_CHANNEL).arg(hint);
    let listeners: u64 = publish.query_async(&mut connection).await.unwrap();
    assert_eq!(listeners, 1);
    let heard = tokio::time::timeout(PATIENCE, hints.recv()).await.unwrap().unwrap();
    assert_eq!(heard, (key(), Recall { ticket: 7, first: None, by: RunId(Uuid::from_u128(3)) }));
    // A subscription that ends is made anew.
    let ended: u64 = world.kill_subscriptions().await;
    assert_eq!(ended, 1);
    let mut listeners = 0;
    let again = async {
        while listeners == 0 {
            listeners = publish.query_async(&mut connection).await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, hints.recv()).await.unwrap().unwrap().1.ticket, 7);
    world.stop().await;
    listening.await.unwrap();
}

#[tokio::test]
async fn every_counter_is_in_some_page_of_a_listing() {
    let world = World::start().await;
    world.counters.bind(1, world.identity_other_than(None).await);
    let mut expected: Vec<_> = (0..2_500)
        .map(|window| CellKey { label: format!("day:{window}:1").parse().unwrap(), ..key() })
        .collect();
    for key in &expected {
        world.counters.call(key, &call(1, 1)).await.unwrap();
    }
    let (mut found, mut pages, mut from) = (Vec::new(), 0, None);
    loop {
        let page = world.counters.keys(from).await.unwrap();
        pages += 1;
        found.extend(page.keys);
        match page.next {
            Some(_) => from = page.next,
            None => break,
        }
    }
    found.sort();
    found.dedup();
    expected.sort();
    assert_eq!(found, expected);
    assert!(pages > 2, "{pages}");
    world.stop().await;
}

#[tokio::test]
async fn a_primary_that_was_a_replica_meanwhile_is_other_counters() {
    let world = World::start().await;
    let before = world.identity_other_than(None).await;
    world.counters.bind(1, before.clone());
    world.granted(1).await;
    let mut trouble = world.counters.trouble();
    assert_eq!(*trouble.borrow_and_update(), None);
    // Nobody is there to copy from, but the server does not know that yet.
    world.command("REPLICAOF 127.0.0.1 1").await;
    world.error(1, |error| matches!(error, StoreError::Unreachable)).await;
    let is_told = trouble
        .wait_for(|why| why.as_ref().is_some_and(|why| why.contains("address of the primary")));
    tokio::time::timeout(PATIENCE, is_told).await.unwrap().unwrap();
    world.command("REPLICAOF NO ONE").await;
    let after = world.identity_other_than(Some(&before)).await;
    assert_eq!(after.run_id, before.run_id, "the same server");
    world.error(1, |error| matches!(error, StoreError::NotServed { .. })).await;
    world.counters.bind(2, after.clone());
    world.granted(2).await;
    assert_eq!(*world.counters.trouble().borrow(), None);
    // Nobody else takes the old life for his own.
    let others = RedisCounters::new(RedisConfig::at(world.redis.url())).unwrap();
    let token = CancellationToken::new();
    let running = tokio::spawn({
        let (others, token) = (others.clone(), token.clone());
        async move { others.run(token).await }
    });
    let mut seen = others.identity();
    assert_eq!(*seen.wait_for(Option::is_some).await.unwrap(), Some(after));
    token.cancel();
    running.await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn a_primary_that_failed_over_and_back_unnoticed_is_other_counters() {
    // Nobody looks at the connections meanwhile.
    let world = World::with(RedisConfig { heartbeat_ms: 600_000, ..RedisConfig::default() }).await;
    let replica = spawn_blocking(|| Redis::scratch().unwrap()).await.unwrap();
    let port = listen_on_tcp(&world.redis).await;
    let replica_port = listen_on_tcp(&replica).await;
    command(&replica, &format!("REPLICAOF 127.0.0.1 {port}")).await;
    until_in_sync(&replica).await;
    // The first replica gives the primary another replication id, so these look anew.
    let (counters, token, running) = connect(&world.redis);
    let before = found(&counters).await;
    counters.bind(1, before.clone());
    let granted = |answer: Result<Answer, StoreError>| match answer {
        Ok(Answer::Counted(counted)) => counted.totals.granted,
        other => panic!("{other:?}"),
    };
    assert_eq!(granted(counters.call(&key(), &call(1, 5)).await), 5);
    // A new connection to the same primary finds the same counters.
    let (others, others_token, others_running) = connect(&world.redis);
    assert_eq!(found(&others).await, before);
    others_token.cancel();
    others_running.await.unwrap();

    command(&replica, "REPLICAOF NO ONE").await;
    let lost = Call { sequence: 2, ..call(1, 10) };
    assert_eq!(granted(counters.call(&key(), &lost).await), 10);
    command(&world.redis, &format!("REPLICAOF 127.0.0.1 {replica_port}")).await;
    until_in_sync(&world.redis).await;
    command(&world.redis, "REPLICAOF NO ONE").await;
    command(&world.redis, "CLIENT KILL TYPE normal SKIPME yes").await;

    let refused = async {
        loop {
            match counters.call(&key(), &call(1, 10)).await {
                Err(StoreError::NotServed { .. }) => break,
                // On the connections that were killed.
                Err(_) => tokio::task::yield_now().await,
                Ok(answer) => panic!("what was lost is served: {answer:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.unwrap();
    let after = counters.identity().borrow().clone().unwrap();
    assert_eq!((&after.run_id, &after.life), (&before.run_id, &before.life));
    assert_ne!(after, before);
    token.cancel();
    running.await.unwrap();
    world.stop().await;
    spawn_blocking(move || drop(replica)).await.unwrap();
}

#[tokio::test]
async fn no_more_calls_wait_for_a_stalled_server_than_are_allowed_to() {
    const WAITING_MAX: usize = 16;
    const CALL_TIMEOUT_MS: u64 = 4_000;
    let world = World::with(RedisConfig {
        connections: 1,
        calls_in_flight_max: WAITING_MAX,
        // It stays in service throughout.
        timeouts_max: u32::MAX,
        call_timeout_ms: CALL_TIMEOUT_MS,
        connect_timeout_ms: 60_000,
        ..RedisConfig::default()
    })
    .await;
    world.counters.bind(1, world.identity_other_than(None).await);
    world.granted(1).await;
    let pid = Pid::from_raw(world.redis.pid().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let key = key();
    let call = call(1, 5);
    let calls = (0..1_000).map(|_| async {
        let started = Instant::now();
        (world.counters.call(&key, &call).await, started.elapsed())
    });
    let results = futures::future::join_all(calls).await;
    kill_process(pid, Signal::CONT).unwrap();
    let timed_out =
        results.iter().filter(|(result, _)| matches!(result, Err(StoreError::Timeout(_))));
    assert_eq!(timed_out.count(), WAITING_MAX);
    let mut refused: Vec<_> = results
        .iter()
        .filter(|(result, _)| matches!(result, Err(StoreError::Overloaded)))
        .map(|(_, took)| *took)
        .collect();
    assert_eq!(refused.len(), 1_000 - WAITING_MAX);
    refused.sort();
    // Nearly all: this machine may take the processor away from any of them.
    let usual = refused[refused.len() * 9 / 10];
    assert!(usual < Duration::from_millis(CALL_TIMEOUT_MS / 2), "{usual:?}");
    world.stop().await;
}
