//! Amounts past what the shared counters can count.

use tollgate::{
    domain::amount::AMOUNT_MAX,
    proto::v1::{Mode, QuotaReason},
};

use super::{
    CATALOG,
    cluster::{Cluster, current_key, event},
};

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
        assert!(sidecar.check(Mode::Consume, "acme", "calls", 1).await.unwrap().allowed);
        let denied = sidecar.check(Mode::Consume, "vast", "calls", 1).await.unwrap();
        assert_eq!(denied.reason(), QuotaReason::LimitExceeded, "{denied:?}");
    }
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}
