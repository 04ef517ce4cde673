//! What is deleted, and what has to stay.

use std::time::Duration;

use tollgate::ledger::runs::{ClosedHow, Forfeits};

use super::world::{World, event, keyed};

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn keys_stay_as_long_as_an_open_run_may_hold_a_retry() {
    let world = World::new().await;
    let (run, lost) = (world.run().await, world.run().await);
    let pool = world.database.pool().await;
    world.flush(run, 0, &[keyed("t1", 7, "old"), keyed("t1", 8, "new")]).await;
    sqlx::query(
        "UPDATE usage_keys SET received_at = now() - interval '3 days'
         WHERE idempotency_key = 'old'",
    )
    .execute(&pool)
    .await
    .unwrap();
    for (run, age) in [(run, "0 seconds"), (lost, "2 days 12 hours")] {
        sqlx::query("UPDATE runs SET mark_at = now() - make_interval(secs => $2) WHERE run = $1")
            .bind(run.0)
            .bind(if age == "0 seconds" { 0.0 } else { 2.5 * 86_400.0 })
            .execute(&pool)
            .await
            .unwrap();
    }
    assert_eq!(world.ledger.purge_usage_keys(DAY).await.unwrap(), 0);
    world.ledger.close_run(lost, ClosedHow::Forfeited, Forfeits::NONE, None).await.unwrap();
    assert_eq!(world.ledger.purge_usage_keys(DAY).await.unwrap(), 1);
    assert_eq!(world.flush(run, 2, &[keyed("t1", 8, "new")]).await.duplicates, 1);
}

#[tokio::test]
async fn raw_events_go_when_their_time_has_come_and_their_partitions_with_them() {
    let world = World::new().await;
    let run = world.run().await;
    let pool = world.database.pool().await;
    let mut kept = event("t1", 1);
    kept.event_retention_days = 30;
    world.flush(run, 0, &[kept]).await;
    assert_eq!(world.ledger.purge_events().await.unwrap(), 0);
    // A day long past, with an event whose time has come.
    sqlx::raw_sql(
        "CREATE TABLE usage_events_2020_01_01 PARTITION OF usage_events
             FOR VALUES FROM ('2020-01-01 00:00:00+00') TO ('2020-01-02 00:00:00+00');
         INSERT INTO usage_events SELECT tenant, meter, subject, label, event_at, amount,
             distinct_value, idempotency_key, properties, run, journal_position,
             '2020-01-01 10:00:00+00', '2020-02-01 00:00:00+00' FROM usage_events",
    )
    .execute(&pool)
    .await
    .unwrap();
    assert!(world.ledger.drop_empty_event_partitions().await.unwrap().is_empty());
    assert_eq!(world.ledger.purge_events().await.unwrap(), 1);
    let dropped = world.ledger.drop_empty_event_partitions().await.unwrap();
    assert_eq!(dropped, ["usage_events_2020_01_01"]);
}

#[tokio::test]
async fn a_partition_that_was_dropped_is_made_again_when_events_come() {
    let world = World::new().await;
    let run = world.run().await;
    world.flush(run, 0, &[event("t1", 1)]).await;
    sqlx::query("DROP TABLE usage_hourly_2026_03")
        .execute(&world.database.pool().await)
        .await
        .unwrap();
    let flushed = world.flush(run, 1, &[event("t1", 2)]).await;
    assert_eq!((flushed.counted, flushed.quarantined), (1, 0));
}
