//! A sidecar with a ledger and without a Redis: its counters are its own.

use std::time::{Duration, Instant};

use tollgate::proto::v1::{Mode, QuotaReason};

use super::{
    CATALOG,
    cluster::{Cluster, current_key},
};

const LIMIT: i64 = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_acknowledged_counts_before_anything_is_granted() {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.without_redis();
    // So that the ledger has nothing of it when it is killed.
    cluster.flag("--enforcement-flush-interval-ms", "60000");
    cluster.world.tenant("acme", "basic").await;
    let killed = cluster.start("a").await;
    let mut admitted = 0;
    for _ in 0..20 {
        assert!(killed.check(Mode::Consume, "acme", "calls", 50).await.unwrap().allowed);
        admitted += 50;
    }
    killed.process.kill();
    let back = cluster.start("a").await;
    admitted += back.spend_all("acme", "calls").await;
    assert_eq!(admitted, LIMIT);
    back.process.stop();
    let key = current_key(&cluster.world, "acme", "calls").await;
    cluster.wait_until_ledger_has(&key, LIMIT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sidecar_is_granted_nothing_while_the_first_lives() {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.without_redis();
    cluster.world.tenant("acme", "basic").await;
    let first = cluster.start("a").await;
    assert!(first.check(Mode::Consume, "acme", "calls", 50).await.unwrap().allowed);
    let second = cluster.start_unready("b");
    wait_until_logged(&cluster, "b", "need a Redis").await;
    let denied = second.check(Mode::Consume, "acme", "calls", 1).await.unwrap();
    assert_eq!(denied.reason(), QuotaReason::DeniedByOutagePolicy);
    assert!(first.check(Mode::Consume, "acme", "calls", 50).await.unwrap().allowed);
    first.process.stop();
    second.wait_until_serving(&cluster.log("b")).await;
    assert_eq!(second.spend_all("acme", "calls").await, LIMIT - 100);
    second.process.stop();
}

async fn wait_until_logged(cluster: &Cluster, name: &str, what: &str) {
    let started = Instant::now();
    while !cluster.logged(name).contains(what) {
        assert!(started.elapsed() < Duration::from_secs(20), "never logged: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
