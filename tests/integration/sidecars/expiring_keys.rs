//! Redis evicts nothing: what is not used any more has to expire.

use std::time::{Duration, Instant};

use tollgate::{
    domain::cell_key::CellKey,
    enforcement::retention::KEY_RETENTION,
    proto::v1::{CheckQuotaRequest, Mode},
    store::keys::{counter_name, distinct_head_name, distinct_name},
};

use super::{
    CATALOG,
    cluster::{Cluster, current_key, quota},
};

const PATIENCE: Duration = Duration::from_secs(30);
const MONTH_MAX: Duration = Duration::from_secs(32 * 24 * 3_600);

/// Seconds to live; −1 = for ever, −2 = not there.
async fn ttl_s(cluster: &Cluster, name: &str) -> i64 {
    let client = redis::Client::open(cluster.redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("TTL").arg(name).query_async(&mut connection).await.unwrap()
}

/// Whether it lives through the retention after its month, and no longer.
fn ends_after_its_month(ttl_s: i64) -> bool {
    let least = KEY_RETENTION.as_secs().cast_signed() - 60;
    (least..(KEY_RETENTION + MONTH_MAX).as_secs().cast_signed()).contains(&ttl_s)
}

async fn wait_until_it_ends(cluster: &Cluster, key: &CellKey) {
    let started = Instant::now();
    loop {
        let ttl = ttl_s(cluster, &counter_name(key)).await;
        if ends_after_its_month(ttl) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{key}: {ttl}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_sidecar_uses_any_more_expires_after_its_window() {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.flag("--enforcement-counter-idle-s", "1");
    cluster.world.tenant("acme", "basic").await;
    let (sidecar, user) = (cluster.start("a").await, cluster.start("b").await);
    assert!(sidecar.check(Mode::Consume, "acme", "calls", 1).await.unwrap().allowed);
    let visit = CheckQuotaRequest {
        properties: [("visitor".to_owned(), "ann".to_owned())].into(),
        ..quota(Mode::Consume, "acme", "visitors", 1)
    };
    assert!(sidecar.client.clone().check_quota(visit).await.unwrap().into_inner().allowed);
    let visitors = current_key(&cluster.world, "acme", "visitors").await;
    for name in [distinct_name(&visitors), distinct_head_name(&visitors)] {
        let ttl = ttl_s(&cluster, &name).await;
        assert!(ends_after_its_month(ttl), "{name}: {ttl}");
    }

    // In the middle of the month, when the counter has been idle.
    let calls = current_key(&cluster.world, "acme", "calls").await;
    wait_until_it_ends(&cluster, &calls).await;
    // Who uses it keeps it.
    assert!(user.check(Mode::Consume, "acme", "calls", 1).await.unwrap().allowed);
    assert_eq!(ttl_s(&cluster, &counter_name(&calls)).await, -1);
    user.process.stop();
    // And when the run is closed, which folds it.
    sidecar.process.stop();
    let ttl = ttl_s(&cluster, &counter_name(&calls)).await;
    assert!(ends_after_its_month(ttl), "{ttl}");
}
