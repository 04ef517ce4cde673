//! Several sidecars flush at once.

use tollgate::ledger::flush::{FlushBatch, FlushOutcome};

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
