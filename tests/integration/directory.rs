//! What a sidecar knows of its tenants, while they change in the ledger.

use std::{sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::time::timeout;
use tollgate::{
    domain::ids::{RunId, TenantId},
    enforcement::{
        counter::CounterSeed,
        directory::{Directory, Source},
    },
    leases::holder::LeaseTimes,
};
use uuid::Uuid;

use crate::overages::world::{World, at};

const PATIENCE: Duration = Duration::from_secs(20);
/// A page of changes that waits for nothing is in by then.
const PAGE_WAIT: Duration = Duration::from_secs(2);

/// Until somebody waits for a lock of this database.
async fn until_one_waits(pool: &PgPool) {
    let waiting = async {
        loop {
            let waiting: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'",
            )
            .fetch_one(pool)
            .await
            .unwrap();
            if waiting > 0 {
                return;
            }
        }
    };
    timeout(PATIENCE, waiting).await.unwrap();
}

#[tokio::test]
async fn a_change_that_commits_while_its_tenant_is_being_loaded_is_not_missed() {
    let world = World::with_catalog("hosting").await;
    world.tenant("acme", "starter").await;
    let tenant = TenantId::new("acme").unwrap();
    let seed = CounterSeed { run: RunId(Uuid::new_v4()), times: LeaseTimes::default() };
    let directory = Arc::new(Directory::new(Source::Ledger(world.ledger.clone()), seed, None));
    while directory.follow().await.unwrap().1 {}

    // The tenant is read, and then the plan cannot be.
    let mut barrier = world.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE plan_versions").execute(&mut *barrier).await.unwrap();
    let finding = tokio::spawn({
        let (directory, tenant) = (directory.clone(), tenant.clone());
        async move { directory.find(&tenant, "tenant").await.map(drop) }
    });
    until_one_waits(&world.pool).await;
    let later = at("2015-06-01T00:00:00Z");
    world.set_clock("acme", later, later).await;
    let bump = "UPDATE tenants SET change_version = change_version + 1 WHERE tenant = 'acme'";
    sqlx::query(bump).execute(&world.pool).await.unwrap();
    let mut following = tokio::spawn({
        let directory = directory.clone();
        async move { directory.follow().await.map(drop) }
    });
    let page = timeout(PAGE_WAIT, &mut following).await;
    barrier.rollback().await.unwrap();
    timeout(PATIENCE, finding).await.unwrap().unwrap().unwrap();
    if page.is_err() {
        timeout(PATIENCE, following).await.unwrap().unwrap().unwrap();
    }

    while directory.follow().await.unwrap().1 {}
    let known = directory.known(&tenant).unwrap();
    assert_eq!(known.terms().tenant.test_clock, Some(later));
}
