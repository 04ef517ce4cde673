//! What cannot be counted is kept aside, undone, and in nobody's way.

use tollgate::{
    domain::{amount::AMOUNT_MAX, usage::UsageEvent},
    ledger::quarantine::QuarantineEntry,
};

use super::world::{World, at, event, key, keyed};

async fn entries(world: &World) -> Vec<QuarantineEntry> {
    world.ledger.quarantine(0, 100).await.unwrap()
}

async fn reasons(world: &World) -> Vec<(String, String)> {
    entries(world).await.into_iter().map(|entry| (entry.reason, entry.tenant)).collect()
}

#[tokio::test]
async fn an_unknown_tenants_events_do_not_hold_back_the_others() {
    let world = World::new().await;
    let run = world.run().await;
    let events = [event("nobody", 3), keyed("nobody", 4, "a"), event("t1", 5)];
    let flushed = world.flush(run, 0, &events).await;
    assert_eq!((flushed.counted, flushed.quarantined), (1, 2));
    assert_eq!(world.used(&key("t1", "tokens")).await, 5);
    // The run counted them: the counters take back as much as they were told.
    assert_eq!(flushed.undone.len(), 1);
    assert_eq!((flushed.undone[0].1.recorded, flushed.undone[0].1.undone), (7, 7));
    let nobody = || ("unknown_tenant".to_owned(), "nobody".to_owned());
    assert_eq!(reasons(&world).await, [nobody(), nobody()]);
    world.check().await;
}

#[tokio::test]
async fn a_key_used_for_something_else_is_quarantined_and_says_what_it_was_used_for() {
    let world = World::new().await;
    let run = world.run().await;
    world.flush(run, 0, &[keyed("t1", 7, "a")]).await;
    let mut other_meter = keyed("t1", 7, "a");
    other_meter.key = key("t1", "calls");
    let within_batch = [keyed("t1", 1, "b"), keyed("t1", 2, "b")];
    let mut events = vec![keyed("t1", 8, "a"), other_meter, keyed("t1", 7, "a")];
    events.extend(within_batch);
    let flushed = world.flush(run, 1, &events).await;
    assert_eq!((flushed.counted, flushed.duplicates, flushed.quarantined), (1, 1, 3));
    assert_eq!(world.used(&key("t1", "tokens")).await, 8);
    assert_eq!(world.used(&key("t1", "calls")).await, 0);
    let entries = entries(&world).await;
    assert_eq!(entries.len(), 3);
    let problem = &entries[0].problem;
    assert!(problem.contains("7 of meter \"tokens\""), "{problem}");
    assert_eq!(entries[0].event["amount"], 8);
    assert_eq!((entries[0].run, entries[0].journal_position), (run, 2));
    world.check().await;
}

#[tokio::test]
async fn a_time_that_no_partition_holds_is_quarantined() {
    let world = World::new().await;
    let run = world.run().await;
    let timed = |time: &str| UsageEvent { time: at(time), ..event("t1", 1) };
    let events = [
        timed("1969-12-31T23:59:59Z"),
        timed("2100-01-01T00:00:00Z"),
        timed("2026-03-05T00:00:00Z"),
    ];
    let flushed = world.flush(run, 0, &events).await;
    assert_eq!((flushed.counted, flushed.quarantined), (1, 2));
    assert_eq!(reasons(&world).await[0].0, "out_of_range");
    world.check().await;
}

/// 1,024 of the largest amounts pass 2^63: the batch cannot be added whole.
#[tokio::test]
async fn a_sum_that_overflows_costs_the_events_that_overflow_it_and_no_other() {
    let world = World::new().await;
    let run = world.run().await;
    let largest = i64::try_from(AMOUNT_MAX).unwrap();
    let mut events: Vec<_> = (0..1030).map(|n| keyed("t1", largest, &format!("k{n}"))).collect();
    events.push(keyed("t2", 5, "small"));
    events.push(event("t3", 6));
    let flushed = world.flush(run, 0, &events).await;
    assert_eq!(flushed.counted + flushed.quarantined, 1032);
    assert_eq!(flushed.quarantined, 6);
    assert_eq!(world.used(&key("t2", "tokens")).await, 5);
    assert_eq!(world.used(&key("t3", "tokens")).await, 6);
    assert_eq!(world.used(&key("t1", "tokens")).await, 1024 * largest);
    world.check().await;

    // The mark has moved: what comes next is flushed.
    assert_eq!(world.flush(run, 1032, &[event("t2", 1)]).await.counted, 1);
}

/// Whatever else Postgres may refuse: here a constraint that the code knows nothing of.
#[tokio::test]
async fn an_event_that_postgres_refuses_is_found_and_set_aside() {
    let world = World::new().await;
    let run = world.run().await;
    let pool = world.database.pool().await;
    sqlx::query("ALTER TABLE usage_keys ADD CONSTRAINT odd CHECK (amount % 1000 <> 13)")
        .execute(&pool)
        .await
        .unwrap();
    let events: Vec<_> = (0..200).map(|n| keyed("t1", n, &format!("k{n}"))).collect();
    let flushed = world.flush(run, 0, &events).await;
    assert_eq!((flushed.counted, flushed.quarantined), (199, 1));
    assert_eq!(reasons(&world).await, [("refused".to_owned(), "t1".to_owned())]);
    assert_eq!(world.used(&key("t1", "tokens")).await, (0..200).sum::<i64>() - 13);
    assert_eq!(flushed.undone[0].1.undone, 13);
    world.check().await;
}
