//! Amounts past what the shared counters can count.

use std::time::{Duration, Instant};

use tollgate::{
    domain::amount::AMOUNT_MAX,
    proto::v1::{DecidedBy, Mode, QuotaReason},
};

use super::{
    CATALOG,
    cluster::{Cluster, Sidecar, current_key, event},
};

/// Longest that a test waits for counters that Redis lost.
const DECIDED_MAX: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn one_tenants_amounts_keep_no_other_from_its_limit_after_redis_lost_its_data() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenants([("vast", "basic"), ("acme", "basic")]).await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await];
    for meter in ["tokens", "calls"] {
        let most = AMOUNT_MAX.cast_signed();
        let events = vec![event("vast", meter, most, ""), event("vast", meter, most, "")];
        assert_eq!(sidecars[0].record(events).await.unwrap().accepted, 2);
        let key = current_key(&cluster.world, "vast", meter).await;
        cluster.wait_until_ledger_has(&key, 2 * most).await;
    }
    let empty = redis::cmd("FLUSHALL");
    let client = redis::Client::open(cluster.redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let () = empty.query_async(&mut connection).await.unwrap();

    for (name, sidecar) in ["a", "b"].into_iter().zip(&sidecars) {
        sidecar.wait_until_serving(&cluster.log(name)).await;
        assert_eq!(until_decided(sidecar, "acme").await, QuotaReason::WithinLimit);
        assert_eq!(until_decided(sidecar, "vast").await, QuotaReason::LimitExceeded);
    }
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

/// Asks until it is no outage that decides: the shared counters are built up again first.
async fn until_decided(sidecar: &Sidecar, tenant: &str) -> QuotaReason {
    let started = Instant::now();
    loop {
        let answer = sidecar.check(Mode::Consume, tenant, "calls", 1).await.unwrap();
        if answer.decided_by() != DecidedBy::Fallback {
            return answer.reason();
        }
        assert!(started.elapsed() < DECIDED_MAX, "an outage still decides: {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
