//! What a sidecar knows of its tenants, while they change in the ledger.

use std::{sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::{task::JoinSet, time::timeout};
use tollgate::{
    domain::ids::TenantId,
    enforcement::{
        directory::{Directory, Source},
        error::EngineError,
    },
};

use crate::overages::world::{World, at};

const PATIENCE: Duration = Duration::from_secs(20);
/// A page of changes that waits for nothing is in by then.
const PAGE_WAIT: Duration = Duration::from_secs(2);
/// Calls that ask for what is not known yet.
const CALLS_AT_ONCE: usize = 100;
/// How often it is counted who waits.
const LOOKS: usize = 200;

/// How many wait for a lock of this database.
async fn waiting(pool: &PgPool) -> i64 {
    sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event_type = 'Lock'",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

/// Until somebody waits for a lock of this database.
async fn until_one_waits(pool: &PgPool) {
    let one_waits = async { while waiting(pool).await == 0 {} };
    timeout(PATIENCE, one_waits).await.unwrap();
}

fn directory(world: &World) -> Arc<Directory> {
    Arc::new(Directory::new(Source::Ledger(world.ledger.clone()), None))
}

/// Looks each tenant up many times, all at once.
fn find_at_once(directory: &Arc<Directory>, tenants: &[&str]) -> JoinSet<Result<(), EngineError>> {
    let find = |tenant: &&str| {
        let (directory, tenant) = (directory.clone(), TenantId::new(*tenant).unwrap());
        async move { directory.find(&tenant, "tenant").await.map(drop) }
    };
    tenants.iter().cycle().take(CALLS_AT_ONCE).map(find).collect()
}

#[tokio::test]
async fn many_who_ask_for_new_tenants_at_once_cost_one_query_for_each_thing_that_is_read() {
    let world = World::with_catalog("hosting").await;
    world.tenant("acme", "starter").await;
    world.tenant("globex", "starter").await;
    for (table, queries) in [("tenants", 2), ("plan_versions", 1), ("catalog_versions", 1)] {
        let directory = directory(&world);
        // Whoever reads it waits, and can be counted.
        let mut barrier = world.pool.begin().await.unwrap();
        let lock = sqlx::AssertSqlSafe(format!("LOCK TABLE {table}"));
        sqlx::query(lock).execute(&mut *barrier).await.unwrap();
        let mut finding = find_at_once(&directory, &["acme", "globex"]);
        let all_wait = async { while waiting(&world.pool).await < queries {} };
        timeout(PATIENCE, all_wait).await.unwrap();
        let mut most = 0;
        for _ in 0..LOOKS {
            most = waiting(&world.pool).await.max(most);
        }
        assert_eq!(most, queries, "queries of {table} at once");
        barrier.rollback().await.unwrap();
        while let Some(found) = timeout(PATIENCE, finding.join_next()).await.unwrap() {
            found.unwrap().unwrap();
        }
        let mut strangers = find_at_once(&directory, &["nobody"]);
        while let Some(found) = timeout(PATIENCE, strangers.join_next()).await.unwrap() {
            assert!(matches!(found.unwrap(), Err(EngineError::Unknown(_))));
        }
    }
}

#[tokio::test]
async fn a_change_that_commits_while_its_tenant_is_being_loaded_is_not_missed() {
    let world = World::with_catalog("hosting").await;
    world.tenant("acme", "starter").await;
    let tenant = TenantId::new("acme").unwrap();
    let directory = directory(&world);
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
