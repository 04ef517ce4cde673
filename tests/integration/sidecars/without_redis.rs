//! A sidecar with a ledger and without a Redis: its counters are its own.

use std::time::{Duration, Instant};

use tollgate::proto::v1::{Mode, QuotaReason};

use super::{
    CATALOG,
    closed_runs::{WAIT_MAX, open_run_but},
    cluster::{Cluster, current_key},
    unfinished_closings::age,
};

const LIMIT: i64 = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_acknowledged_counts_before_anything_is_granted() {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.without_redis(true);
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
    cluster.without_redis(true);
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

/// The counters of the first are its own, and those of the second were founded while it had used 5,000.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_sidecar_without_a_redis_used_counts_for_those_that_have_one_by_then() {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let key = current_key(&cluster.world, "acme", "calls").await;
    cluster.without_redis(true);
    let first = cluster.start("a").await;
    let run = open_run_but(&cluster, &[]);
    assert!(first.check(Mode::Consume, "acme", "calls", 5_000).await.unwrap().allowed);
    cluster.wait_until_ledger_has(&key, 5_000).await;
    cluster.without_redis(false);
    let second = cluster.start_unready("b");
    // Its call founds the counter.
    let founded = Instant::now();
    while cluster.inspect(&key).await.is_none() {
        let denied = second.check(Mode::Consume, "acme", "calls", 1).await;
        assert!(!denied.is_ok_and(|answer| answer.allowed));
        assert!(founded.elapsed() < WAIT_MAX, "nothing founds the counter");
    }
    assert!(first.check(Mode::Consume, "acme", "calls", 3_000).await.unwrap().allowed);
    first.process.stop();
    cluster.wait_until_ledger_has(&key, 8_000).await;
    // Nobody has told Redis of its closing, which is taken for cut off after a while.
    age(&cluster, &run).await;
    second.wait_until_serving(&cluster.log("b")).await;
    assert_eq!(second.spend_all("acme", "calls").await, LIMIT - 8_000);
    second.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_closes_a_run_of_a_fleet_with_a_redis_has_to_name_it() {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let dead = cluster.start("a").await;
    assert!(dead.check(Mode::Consume, "acme", "calls", 5).await.unwrap().allowed);
    let run = open_run_but(&cluster, &[]);
    dead.process.kill();
    cluster.without_redis(true);
    let refused = cluster.refused(&["run", "close", &run, "--force", "--forfeit"]);
    assert!(refused.contains("no redis.url is set"), "{refused}");
    assert_eq!(open_run_but(&cluster, &[]), run, "nothing was changed");
}

async fn wait_until_logged(cluster: &Cluster, name: &str, what: &str) {
    let started = Instant::now();
    while !cluster.logged(name).contains(what) {
        assert!(started.elapsed() < Duration::from_secs(20), "never logged: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
