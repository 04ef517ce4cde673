//! Redis and Postgres away, and Redis emptied: served from memory, never over, and exact at the
//! end.

use std::time::{Duration, Instant};

use tollgate::proto::v1::{Mode, QuotaReason};

use super::{
    CATALOG,
    cluster::{Cluster, Sidecar, current_key, event},
};

const LIMIT: i64 = 10_000;
const RECOVERY_MAX: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn redis_started_again_empty_knows_what_was_used() {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await];
    let mut admitted = 0;
    for sidecar in &sidecars {
        admitted += spend(sidecar, 50, 40).await;
    }
    cluster.redis.kill().unwrap();
    // Escrow in hand goes on being spent; beyond it the policy of a hard limit denies.
    for sidecar in &sidecars {
        admitted += spend(sidecar, 50, 40).await;
    }
    let denied = sidecars[0].check(Mode::Consume, "acme", "calls", LIMIT).await.unwrap();
    assert_eq!(denied.reason(), QuotaReason::DeniedByOutagePolicy);
    // Readiness says so for as long as it lasts.
    wait_until_logged(&cluster, "Redis is out of reach").await;
    cluster.redis.start_again().unwrap();
    for sidecar in &sidecars {
        wait_until_leasing(sidecar).await;
    }
    admitted += spend_all(&sidecars).await;
    assert_eq!(admitted, LIMIT);
    let key = current_key(&cluster.world, "acme", "calls").await;
    cluster.wait_until_ledger_has(&key, LIMIT).await;
    for sidecar in &sidecars {
        sidecar.wait_until_used("acme", "calls", LIMIT).await;
    }
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_loss_nothing_is_granted_before_a_dead_run_is_closed() {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let survivor = cluster.start("a").await;
    let dead = cluster.start("b").await;
    let mut admitted = spend(&survivor, 50, 40).await + spend(&dead, 50, 40).await;
    dead.process.kill();
    cluster.redis.kill().unwrap();
    cluster.redis.start_again().unwrap();
    // The survivor may spend what it has in hand and nothing beyond: the dead run has not reported.
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(3) {
        let answer = survivor.check(Mode::Consume, "acme", "calls", LIMIT / 2).await.unwrap();
        assert!(!answer.allowed, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let back = cluster.start("b").await;
    wait_until_leasing(&survivor).await;
    let sidecars = [survivor, back];
    admitted += spend_all(&sidecars).await;
    // Two probes of the start go to another tenant; of this one every unit was counted here.
    assert_eq!(admitted, LIMIT);
    let key = current_key(&cluster.world, "acme", "calls").await;
    cluster.wait_until_ledger_has(&key, LIMIT).await;
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_waits_in_the_journal_while_the_ledger_is_away() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecar = cluster.start("a").await;
    let key = current_key(&cluster.world, "acme", "calls").await;
    let mut admitted = spend(&sidecar, 10, 3).await;
    cluster.wait_until_ledger_has(&key, admitted).await;
    cluster.world.refuse_connections(true).await;
    admitted += spend(&sidecar, 10, 3).await;
    sidecar.record(vec![event("acme", "calls", 5, "while-away")]).await.unwrap();
    cluster.world.refuse_connections(false).await;
    cluster.wait_until_ledger_has(&key, admitted + 5).await;
    sidecar.wait_until_used("acme", "calls", admitted + 5).await;
    sidecar.process.stop();
}

/// Consumes `amount` at most `times` times; stops at the first denial. The units admitted.
async fn spend(sidecar: &Sidecar, amount: i64, times: usize) -> i64 {
    let mut admitted = 0;
    for _ in 0..times {
        if !sidecar.check(Mode::Consume, "acme", "calls", amount).await.unwrap().allowed {
            break;
        }
        admitted += amount;
    }
    admitted
}

/// Consumes by turns until nobody gets a single unit any more.
async fn spend_all(sidecars: &[Sidecar]) -> i64 {
    let mut admitted = 0;
    for amount in [100, 10, 1] {
        loop {
            let mut round = 0;
            for sidecar in sidecars {
                round += spend(sidecar, amount, 20).await;
            }
            admitted += round;
            if round == 0 {
                break;
            }
        }
    }
    admitted
}

async fn wait_until_leasing(sidecar: &Sidecar) {
    let started = Instant::now();
    loop {
        // A tenant of its own, so that nothing of what is measured is spent.
        let answer = sidecar.check(Mode::Consume, "probe", "calls", 1).await.unwrap();
        if answer.allowed {
            return;
        }
        assert!(started.elapsed() < RECOVERY_MAX, "not leasing again: {answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn wait_until_logged(cluster: &Cluster, what: &str) {
    let started = Instant::now();
    while !cluster.logged("a").contains(what) {
        assert!(started.elapsed() < RECOVERY_MAX, "never logged: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
