//! Counters that were idle and are used again: what was spent stays spent.

use std::time::{Duration, Instant};

use tollgate::proto::v1::Mode;

use super::{
    CATALOG,
    cluster::{Cluster, Sidecar, current_key, event},
};

const LIMIT: i64 = 10_000;
const EVICTED_MAX: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_comes_back_goes_on_where_it_stood() {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.flag("--enforcement-counter-idle-s", "1");
    cluster.world.tenant("acme", "basic").await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await];
    let key = current_key(&cluster.world, "acme", "calls").await;
    let mut admitted = spend(&sidecars[0], 6_000).await;
    for round in 1..=2 {
        evict(&cluster).await;
        // Late usage of a counter that is not live, a repeat that the ledger finds, and escrow.
        let late = format!("late-{round}");
        sidecars[0].record(vec![event("acme", "calls", 100, &late)]).await.unwrap();
        sidecars[1].record(vec![event("acme", "calls", 100, &late)]).await.unwrap();
        admitted += 100;
        cluster.wait_until_ledger_has(&key, admitted).await;
        admitted += spend(&sidecars[0], 500).await;
    }
    // The repeat is spendable again once the counters have heard of it.
    cluster.wait_until_redis_has(&key, admitted).await;
    for amount in [100, 10, 1] {
        for sidecar in &sidecars {
            while sidecar.check(Mode::Consume, "acme", "calls", amount).await.unwrap().allowed {
                admitted += amount;
            }
        }
    }
    assert_eq!(admitted, LIMIT);
    cluster.wait_until_ledger_has(&key, LIMIT).await;
    for sidecar in &sidecars {
        sidecar.wait_until_used("acme", "calls", LIMIT).await;
    }
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

async fn spend(sidecar: &Sidecar, units: i64) -> i64 {
    for _ in 0..units / 100 {
        assert!(sidecar.check(Mode::Consume, "acme", "calls", 100).await.unwrap().allowed);
    }
    units
}

/// Waits until the first sidecar has seen that its counters are idle, and dropped them.
async fn evict(cluster: &Cluster) {
    for has_counters in [true, false] {
        let started = Instant::now();
        while cluster.get("a", "/metrics").contains("\ntollgate_counters_live 0\n") == has_counters
        {
            assert!(started.elapsed() < EVICTED_MAX, "has counters is not {has_counters}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
