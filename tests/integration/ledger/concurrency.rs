//! Several sidecars flush at once.

use std::{sync::Arc, time::Duration};

use tollgate::{
    domain::{
        cell_key::CellKey,
        usage::{Part, UsageEvent},
    },
    ledger::{
        Ledger,
        config::LedgerConfig,
        flush::{FlushBatch, FlushOutcome},
        runs::{ClosedHow, Forfeits},
    },
};

use super::world::{World, batch, event, key, keyed};

/// Every flusher sends the same keys in another order; each must be counted once, and nobody may
/// fail for a deadlock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushers_with_the_same_keys_count_each_once() {
    const FLUSHERS: usize = 6;
    const ROUNDS: u64 = 5;
    const KEYS: u64 = 200;
    let world = World::new().await;
    let mut flushers = Vec::new();
    for flusher in 0..FLUSHERS {
        let run = world.run().await;
        let ledger = world.ledger.clone();
        // A spawned task: the futures of the ledger can move between threads.
        flushers.push(tokio::spawn(async move {
            let (mut counted, mut duplicates, mut position) = (0, 0, 0);
            for round in 0..ROUNDS {
                let mut events: Vec<_> = (0..KEYS)
                    .map(|n| {
                        keyed(
                            &format!("t{}", n % 10),
                            3,
                            &format!("round {round} {n}").replace(' ', "-"),
                        )
                    })
                    .collect();
                let turn = flusher * 31 % events.len();
                events.rotate_left(turn);
                if flusher % 2 == 0 {
                    events.reverse();
                }
                events.push(event("t0", 1));
                let outcome = ledger.flush(&batch(run, position, &events)).await.unwrap();
                let FlushOutcome::Flushed(flushed) = outcome else { panic!("{outcome:?}") };
                counted += flushed.counted;
                duplicates += flushed.duplicates;
                position += events.len() as u64;
            }
            (counted, duplicates)
        }));
    }
    let (mut counted, mut duplicates) = (0, 0);
    for flusher in flushers {
        let (c, d) = flusher.await.unwrap();
        counted += c;
        duplicates += d;
    }
    let unkeyed = FLUSHERS as u64 * ROUNDS;
    assert_eq!(counted, KEYS * ROUNDS + unkeyed);
    assert_eq!(duplicates, KEYS * ROUNDS * (FLUSHERS as u64 - 1));
    let tenth = i64::try_from(KEYS * ROUNDS / 10 * 3).unwrap();
    assert_eq!(world.used(&key("t9", "tokens")).await, tenth);
    assert_eq!(world.used(&key("t0", "tokens")).await, tenth + i64::try_from(unkeyed).unwrap());
    world.check().await;
}

/// Two processes recover the same leftover journal: each batch is taken from one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_flushers_of_one_run_each_stretch_is_taken_once() {
    let world = World::new().await;
    let run = world.run().await;
    let stretch: FlushBatch = batch(run, 0, &[event("t1", 5), keyed("t1", 6, "a")]);
    let both = (0..2).map(|_| {
        let (ledger, stretch) = (world.ledger.clone(), stretch.clone());
        tokio::spawn(async move { ledger.flush(&stretch).await.unwrap() })
    });
    let outcomes = futures::future::join_all(both).await;
    let taken = outcomes
        .iter()
        .filter(|outcome| matches!(outcome.as_ref().unwrap(), FlushOutcome::Flushed(_)))
        .count();
    assert_eq!(taken, 1, "{outcomes:?}");
    assert_eq!(world.used(&key("t1", "tokens")).await, 11);
    world.check().await;
}

const FLUSHES: u64 = 25;

/// A counter that covers usage of `own`.
fn grant(own: &CellKey, id: u64) -> CellKey {
    CellKey { label: format!("grant_{id}:0:0").parse().unwrap(), ..own.clone() }
}

fn part(key: &CellKey, units: u64) -> Part {
    Part { key: key.clone(), units, recorded: 0 }
}

/// The grants, starting elsewhere for each flusher.
fn turned(grants: &[CellKey; 3], number: usize) -> [CellKey; 3] {
    let mut grants = grants.clone();
    grants.rotate_left(number % 3);
    grants
}

/// Some flushes lower levels, which locks rows beforehand; some raise, on plans and grants of two
/// tenants; and runs are closed that forfeit units of the same counters. All lock in one order: a
/// transaction that loses against others is tried again, which would hide a circle, so Postgres is
/// told to break none. The rows are there beforehand: two that insert one at a time may meet in a
/// circle once, since what is not there cannot be locked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushes_that_raise_and_lower_and_closings_wait_for_one_another_in_no_circle() {
    let world = World::new().await;
    let pool = world.database.pool().await;
    let unbroken = "DO $$ BEGIN EXECUTE format(
        'ALTER DATABASE %I SET deadlock_timeout = 2000000', current_database()); END $$";
    sqlx::raw_sql(unbroken).execute(&pool).await.unwrap();
    // New connections, which know of it, and wait for locks for as long as it takes.
    let patient = LedgerConfig {
        lock_timeout_ms: 600_000,
        statement_timeout_ms: 600_000,
        acquire_timeout_ms: 600_000,
        ..LedgerConfig::at(&world.database.url)
    };
    let ledger = Ledger::new(&patient).unwrap();
    let world = Arc::new(World { ledger, ..world });

    let [own, other] = ["t1", "t2"].map(|tenant| key(tenant, "tokens"));
    let grants = [1, 2, 3].map(|id| grant(&own, id));
    let first = world.run().await;
    let parts = grants.iter().map(|key| part(key, 1_000)).collect();
    let up = UsageEvent { parts, from_lease: 7_000, ..event("t1", 10_000) };
    world.flush(first, 0, &[up, event("t2", 1)]).await;

    let lowering = |number: usize| {
        let (world, own, grants) = (world.clone(), own.clone(), turned(&grants, number));
        tokio::spawn(async move {
            let run = world.run().await;
            for flush in 0..FLUSHES {
                let places = grants.iter().chain([&own]).map(|key| part(key, 0)).collect();
                let down = UsageEvent { parts: places, ..event("t1", -12) };
                let up = UsageEvent { parts: vec![part(&grants[0], 2)], ..event("t1", 2) };
                world.flush(run, flush * 3, &[down, up, event("t2", 1)]).await;
            }
        })
    };
    let raising = |number: usize| {
        let (world, grants) = (world.clone(), turned(&grants, number));
        tokio::spawn(async move {
            let run = world.run().await;
            for flush in 0..FLUSHES {
                let parts = grants.iter().map(|key| part(key, 1)).collect();
                let covered = UsageEvent { parts, from_lease: 2, ..event("t1", 5) };
                world.flush(run, flush * 2, &[event("t2", 1), covered]).await;
            }
        })
    };
    let closing = |number: usize| {
        let (world, other) = (world.clone(), other.clone());
        let [a, b, c] = turned(&grants, number);
        tokio::spawn(async move {
            for _ in 0..FLUSHES {
                let run = world.run().await;
                // Not the counter that every flush begins with, which would keep all others out.
                let forfeited = [&a, &other, &c, &b].map(|key| (key.clone(), 1));
                let how = ClosedHow::Forfeited;
                world
                    .ledger
                    .close_run(run, how, Forfeits { units: &forfeited, epoch: None }, None)
                    .await
                    .unwrap();
            }
        })
    };
    let tasks: Vec<_> =
        (0..3).flat_map(|number| [lowering(number), raising(number), closing(number)]).collect();
    let all = futures::future::join_all(tasks);
    let ended = tokio::time::timeout(Duration::from_secs(120), all).await;
    let ended = ended.expect("some wait for one another in a circle");
    ended.into_iter().for_each(|end| end.unwrap());

    let mut left = world.used(&own).await;
    for grant in &grants {
        let used = world.used(grant).await;
        assert!(used >= 0, "{grant} stands at {used}");
        left += used;
    }
    let flushes = i64::try_from(3 * FLUSHES).unwrap();
    assert_eq!(left, 10_000 - flushes * 10 + flushes * 5);
    assert_eq!(world.used(&other).await, flushes * 2 + 1);
    world.check().await;
}
