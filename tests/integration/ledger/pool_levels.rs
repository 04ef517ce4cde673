//! Levels of pools: each member frees what it drew, in whatever order sidecars flush.

use tollgate::{
    domain::{
        cell_key::CellKey,
        ids::{PoolId, TenantId},
        usage::{Part, UsageEvent},
    },
    ledger::flush::Flushed,
};

use super::world::{World, event, key};

const POOL: PoolId = PoolId(7);

fn common() -> CellKey {
    CellKey { tenant: TenantId::of_pool(POOL, None), ..key("t0", "tokens") }
}

fn kept() -> CellKey {
    CellKey { tenant: TenantId::of_pool(POOL, Some("shop")), ..key("t0", "tokens") }
}

/// `units` more, drawn on `cell`.
fn drawn(tenant: &str, cell: &CellKey, units: u64) -> UsageEvent {
    let part = Part { key: cell.clone(), units, recorded: 0 };
    let amount = i64::try_from(units).unwrap();
    UsageEvent { parts: vec![part], ..event(tenant, amount) }
}

/// `units` less, of what is at home, what the class keeps back and what is in common.
fn lowered(tenant: &str, units: i64) -> UsageEvent {
    let keys = [key(tenant, "tokens"), kept(), common()];
    let parts = keys.map(|key| Part { key, units: 0, recorded: 0 }).to_vec();
    UsageEvent { parts, ..event(tenant, -units) }
}

/// What the pool's cells add up to is what its members stand at above 0; what that is.
async fn pool_used(world: &World) -> i64 {
    let used = world.used(&common()).await + world.used(&kept()).await;
    let database = world.database.pool().await;
    let members: i64 = sqlx::query_scalar(
        "SELECT coalesce(sum(greatest(used, 0)), 0)::bigint FROM pool_usage WHERE pool = $1",
    )
    .bind(i64::try_from(POOL.0).unwrap())
    .fetch_one(&database)
    .await
    .unwrap();
    assert_eq!(used, members);
    world.check().await;
    used
}

fn undone(flushed: &Flushed, cell: &CellKey) -> u64 {
    flushed.undone.iter().find(|(key, _)| key == cell).map_or(0, |(_, totals)| totals.undone)
}

#[tokio::test]
async fn a_member_frees_no_units_that_others_drew() {
    let world = World::new().await;
    let run = world.run().await;
    world.flush(run, 0, &[drawn("t0", &common(), 30), drawn("t1", &common(), 50)]).await;
    // More than it drew: a wrong figure, or the same decrease twice without a key.
    let flushed = world.flush(run, 2, &[lowered("t0", 45)]).await;
    assert_eq!(undone(&flushed, &common()), 30);
    assert_eq!(pool_used(&world).await, 50);
    // What it lowered too much comes off what it draws next.
    let flushed = world.flush(run, 3, &[drawn("t0", &common(), 20)]).await;
    assert_eq!(undone(&flushed, &common()), 45);
    assert_eq!(pool_used(&world).await, 55);
}

#[tokio::test]
async fn a_level_comes_free_also_when_its_decrease_is_flushed_first() {
    let world = World::new().await;
    let (slow, fast) = (world.run().await, world.run().await);
    let flushed = world.flush(fast, 0, &[lowered("t0", 8)]).await;
    assert_eq!((undone(&flushed, &common()), undone(&flushed, &kept())), (0, 0));
    assert_eq!(pool_used(&world).await, 0);
    let late = [drawn("t0", &common(), 5), drawn("t0", &kept(), 3)];
    let flushed = world.flush(slow, 0, &late).await;
    assert_eq!((undone(&flushed, &common()), undone(&flushed, &kept())), (5, 3));
    assert_eq!(pool_used(&world).await, 0);
}

#[tokio::test]
async fn what_stood_at_home_comes_free_before_the_pool() {
    let world = World::new().await;
    let run = world.run().await;
    let before = [event("t0", 10), drawn("t0", &common(), 10), drawn("t0", &kept(), 10)];
    world.flush(run, 0, &before).await;
    world.flush(run, 3, &[lowered("t0", 15)]).await;
    assert_eq!(world.used(&key("t0", "tokens")).await, 0);
    assert_eq!((world.used(&kept()).await, pool_used(&world).await), (5, 15));
    world.flush(run, 4, &[lowered("t0", 9)]).await;
    assert_eq!((world.used(&kept()).await, pool_used(&world).await), (0, 6));
}

#[tokio::test]
async fn what_was_used_at_home_pays_a_decrease_that_was_flushed_before_it() {
    let world = World::new().await;
    let (slow, fast) = (world.run().await, world.run().await);
    let level = |event: UsageEvent| {
        let label = "lifetime:0:0".parse().unwrap();
        let part = |part: Part| Part { key: CellKey { label, ..part.key }, ..part };
        let parts = event.parts.into_iter().map(part).collect();
        UsageEvent { key: CellKey { label, ..event.key }, parts, ..event }
    };
    world.flush(fast, 0, &[level(lowered("t0", 10))]).await;
    let flushed = world.flush(slow, 0, &[level(event("t0", 4)), level(event("t0", 9))]).await;
    let home = level(event("t0", 1)).key;
    assert_eq!((world.used(&home).await, undone(&flushed, &home)), (3, 10));
    assert_eq!(pool_used(&world).await, 0);
    let database = world.database.pool().await;
    let standing: i64 =
        sqlx::query_scalar("SELECT used FROM pool_usage").fetch_one(&database).await.unwrap();
    assert_eq!(standing, 0, "the debt is paid, once");
    let uncovered: i64 =
        sqlx::query_scalar("SELECT sum(amount_sum - covered)::bigint FROM usage_hourly")
            .fetch_one(&database)
            .await
            .unwrap();
    assert_eq!(uncovered, 3, "billing goes by what is at home");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushes_of_one_member_at_once_free_each_unit_once() {
    const ROUNDS: u64 = 40;
    let world = World::new().await;
    let flushers: Vec<_> = (0..4)
        .map(async |flusher| {
            let run = world.run().await;
            for round in 0..ROUNDS {
                // In half of the runs levels go up, in half down by as much.
                let moved = match flusher % 2 {
                    0 => [drawn("t0", &common(), 3), drawn("t1", &kept(), 2)],
                    _ => [lowered("t1", 2), lowered("t0", 3)],
                };
                world.flush(run, round * 2, &moved).await;
            }
        })
        .collect();
    futures::future::join_all(flushers).await;
    assert_eq!(pool_used(&world).await, 0);
    assert_eq!((world.used(&common()).await, world.used(&kept()).await), (0, 0));
}
