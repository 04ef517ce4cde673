//! A stretch of a journal becomes part of the ledger once.

use tollgate::{
    domain::{
        cell_key::CellKey,
        usage::{Part, UsageEvent},
    },
    ledger::{
        floors::FlushedTotals,
        flush::{FlushOutcome, Flushed},
        runs::{ClosedHow, Forfeits, RunStanding},
    },
};

use super::world::{World, at, batch, event, key, keyed, properties, tenant};

#[tokio::test]
async fn events_are_added_to_their_window_with_and_without_keys() {
    let world = World::new().await;
    let run = world.run().await;
    let mut leased = event("t1", 30);
    leased.from_lease = 20;
    let events = [event("t1", 5), leased, keyed("t1", 7, "a"), keyed("t2", 0, "b")];
    let flushed = world.flush(run, 0, &events).await;
    assert_eq!(flushed, Flushed { counted: 4, ..Flushed::default() });
    let tokens = key("t1", "tokens");
    assert_eq!(world.used(&tokens).await, 42);
    let floors = world.ledger.floors(&[key("t2", "tokens"), tokens], run).await.unwrap();
    assert_eq!(floors[0].base_used, 0);
    assert_eq!(floors[1].base_used, 0);
    let totals = FlushedTotals { run, consumed: 20, recorded: 22, undone: 0 };
    assert_eq!(floors[1].open_runs, [totals]);
    world.check().await;
}

#[tokio::test]
async fn a_batch_that_is_flushed_again_changes_nothing_and_learns_where_the_mark_stands() {
    let world = World::new().await;
    let run = world.run().await;
    let batch = batch(run, 0, &[event("t1", 5), keyed("t1", 7, "a"), keyed("t1", 7, "a")]);
    assert!(matches!(world.ledger.flush(&batch).await.unwrap(), FlushOutcome::Flushed(_)));
    let again = world.ledger.flush(&batch).await.unwrap();
    assert_eq!(again, FlushOutcome::NotHere(RunStanding::Open { flushed_position: 3 }));
    assert_eq!(world.used(&key("t1", "tokens")).await, 12);
    let totals = world.ledger.run_totals(run).await.unwrap();
    let expected = FlushedTotals { run, consumed: 0, recorded: 19, undone: 7 };
    assert_eq!(totals, [(key("t1", "tokens"), expected)]);
    world.check().await;
}

#[tokio::test]
async fn a_key_counts_once_within_a_batch_across_batches_and_across_runs() {
    let world = World::new().await;
    let (one, other) = (world.run().await, world.run().await);
    let flushed = world.flush(one, 0, &[keyed("t1", 7, "a"), keyed("t1", 7, "a")]).await;
    assert_eq!((flushed.counted, flushed.duplicates), (1, 1));
    let flushed = world.flush(one, 2, &[keyed("t1", 7, "a"), keyed("t1", 1, "b")]).await;
    assert_eq!((flushed.counted, flushed.duplicates), (1, 1));
    // The run's undone grows: settlement carries the total back to the counters.
    assert_eq!(flushed.undone[0].1.undone, 14);

    let flushed = world.flush(other, 0, &[keyed("t1", 7, "a"), keyed("t2", 7, "a")]).await;
    assert_eq!((flushed.counted, flushed.duplicates), (1, 1));
    let totals = FlushedTotals { run: other, consumed: 0, recorded: 7, undone: 7 };
    assert_eq!(flushed.undone, [(key("t1", "tokens"), totals)]);
    assert_eq!(world.used(&key("t1", "tokens")).await, 8);
    assert_eq!(world.used(&key("t2", "tokens")).await, 7);
    world.check().await;
}

#[tokio::test]
async fn a_level_that_goes_down_is_undone_once() {
    let world = World::new().await;
    let (one, other) = (world.run().await, world.run().await);
    let events = [keyed("t1", 10, "up"), keyed("t1", -4, "down"), keyed("t1", -4, "down")];
    let flushed = world.flush(one, 0, &events).await;
    assert_eq!((flushed.counted, flushed.duplicates), (2, 1));
    assert_eq!(flushed.undone[0].1.undone, 4);
    // Lowered by another run than raised it: that run's part is below 0.
    world.flush(other, 0, &[event("t1", -5)]).await;
    assert_eq!(world.used(&key("t1", "tokens")).await, 1);
    world.ledger.close_run(other, ClosedHow::Stopped, Forfeits::NONE, None).await.unwrap();
    let floor = world.ledger.floors(&[key("t1", "tokens")], one).await.unwrap().remove(0);
    assert_eq!(floor.base_used, -5);
    world.check().await;
}

#[tokio::test]
async fn an_empty_stretch_moves_the_mark() {
    let world = World::new().await;
    let run = world.run().await;
    let mut empty = batch(run, 0, &[]);
    assert!(empty.is_empty());
    empty.advance(17, at("2026-03-05T11:00:00Z"));
    assert!(!empty.is_empty());
    let outcome = world.ledger.flush(&empty).await.unwrap();
    assert_eq!(outcome, FlushOutcome::Flushed(Flushed::default()));
    let stored = world.ledger.run(run).await.unwrap().unwrap();
    assert_eq!(stored.flushed_position, 17);
    assert_eq!(stored.mark_at, at("2026-03-05T11:00:00Z"));
}

#[tokio::test]
async fn a_closed_run_and_an_unknown_one_are_told_so() {
    let world = World::new().await;
    let run = world.run().await;
    let closing =
        world.ledger.close_run(run, ClosedHow::Recovered, Forfeits::NONE, None).await.unwrap();
    let outcome = world.ledger.flush(&batch(run, 0, &[event("t1", 5)])).await.unwrap();
    let closed = RunStanding::Closed { seq: closing.seq, flushed_position: 0 };
    assert_eq!(outcome, FlushOutcome::NotHere(closed));
    let stranger = tollgate::domain::ids::RunId(uuid::Uuid::new_v4());
    let outcome = world.ledger.flush(&batch(stranger, 0, &[event("t1", 5)])).await.unwrap();
    assert_eq!(outcome, FlushOutcome::NotHere(RunStanding::Unknown));
    assert_eq!(world.used(&key("t1", "tokens")).await, 0);
}

#[tokio::test]
async fn raw_events_are_kept_where_the_meter_says_so_and_only_those_that_count() {
    let world = World::new().await;
    let run = world.run().await;
    let kept = |mut event: tollgate::domain::usage::UsageEvent| {
        event.event_retention_days = 30;
        event.properties = properties(&[("model", "small")]);
        event
    };
    let events = [
        kept(event("t1", 1)),
        kept(event("t1", 1)),
        kept(keyed("t1", 2, "a")),
        kept(keyed("t1", 2, "a")),
        keyed("t1", 4, "b"),
        kept(event("nobody", 8)),
    ];
    world.flush(run, 0, &events).await;
    let pool = world.database.pool().await;
    let row: (i64, i64) = sqlx::query_as(
        "SELECT count(*), sum(amount)::bigint FROM usage_events
         WHERE properties ->> 'model' = 'small' AND keep_until > now() + interval '29 days'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(row, (3, 4));
    assert_eq!(world.used(&key("t1", "tokens")).await, 8);
    world.check().await;
}

#[tokio::test]
async fn events_of_any_year_find_their_partition() {
    let world = World::new().await;
    let run = world.run().await;
    let times = ["2015-05-17T10:05:03Z", "1970-01-01T00:00:00Z", "2099-12-31T23:59:59Z"];
    let events: Vec<_> = times
        .iter()
        .map(|time| {
            let mut event = event("t1", 1);
            event.time = at(time);
            event
        })
        .collect();
    let flushed = world.flush(run, 0, &events).await;
    assert_eq!(flushed.counted, 3);
    world.check().await;
}

#[tokio::test]
async fn a_hundred_thousand_keyed_events_of_one_record_are_one_batch() {
    let world = World::new().await;
    let run = world.run().await;
    let mut batch = tollgate::ledger::flush::FlushBatch::new(run, 0);
    for n in 0..100_000 {
        batch.push(9, keyed(&format!("t{}", n % 10), 1, &format!("key-{}", n % 99_990)));
    }
    assert!(batch.is_full());
    let outcome = world.ledger.flush(&batch).await.unwrap();
    let FlushOutcome::Flushed(flushed) = outcome else { panic!("{outcome:?}") };
    assert_eq!((flushed.counted, flushed.duplicates), (99_990, 10));
    let listed = world.ledger.tenant_windows(&tenant("t3"), None, 10).await.unwrap();
    assert_eq!(listed[0].used, 9_999);
    world.check().await;
}

#[tokio::test]
async fn a_level_comes_free_where_it_is_covered_whoever_says_it_and_no_unit_twice() {
    let world = World::new().await;
    let (one, other) = (world.run().await, world.run().await);
    let own = key("t1", "tokens");
    let grant = CellKey { label: "grant_7:0:0".parse().unwrap(), ..own.clone() };
    let part = |key: &CellKey, units| Part { key: key.clone(), units, recorded: 0 };
    let up = UsageEvent { parts: vec![part(&grant, 3)], from_lease: 10, ..event("t1", 13) };
    world.flush(one, 0, &[up]).await;
    let down = |key: &str, amount| UsageEvent {
        parts: vec![part(&grant, 0), part(&own, 0)],
        ..keyed("t1", amount, key)
    };
    // Both runs have seen 3 units on the grant. The second finds 1 left of them.
    world.flush(one, 1, &[down("a", -2)]).await;
    let flushed = world.flush(other, 0, &[down("a", -2), down("b", -3), down("c", -4)]).await;
    assert_eq!((flushed.counted, flushed.duplicates), (2, 1));
    assert_eq!((world.used(&grant).await, world.used(&own).await), (0, 4));
    let undone: Vec<_> =
        flushed.undone.iter().map(|(key, totals)| (key.clone(), totals.undone)).collect();
    assert_eq!(undone, [(own.clone(), 6), (grant.clone(), 1)]);
    // What no row covers is a debt of the last.
    world.flush(other, 3, &[down("d", -5)]).await;
    assert_eq!((world.used(&grant).await, world.used(&own).await), (0, -1));
    world.check().await;
}
