//! I1 and I2, through the public interface: never over, and nothing stranded.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use futures::future::join_all;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tollgate::proto::v1::{Mode, QuotaReason};

use super::{
    CATALOG,
    cluster::{Cluster, current_key, quota},
};

const LIMIT: i64 = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_limit_is_admitted_through_three_sidecars() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await, cluster.start("c").await];
    let admitted = Arc::new(AtomicI64::new(0));
    let clients = (0..64).map(|number| {
        let mut client = sidecars[number % 3].client.clone();
        let admitted = admitted.clone();
        tokio::spawn(async move {
            loop {
                let request = quota(Mode::Consume, "acme", "calls", 1);
                let answer = client.check_quota(request).await.unwrap().into_inner();
                if !answer.allowed {
                    assert_eq!(answer.reason(), QuotaReason::LimitExceeded);
                    return;
                }
                admitted.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    join_all(clients.collect::<Vec<_>>()).await.into_iter().for_each(|done| done.unwrap());
    assert_eq!(admitted.load(Ordering::SeqCst), LIMIT);
    let key = current_key(&cluster.world, "acme", "calls").await;
    cluster.wait_until_ledger_has(&key, LIMIT).await;
    for sidecar in &sidecars {
        sidecar.wait_until_used("acme", "calls", LIMIT).await;
    }
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_varied_amounts_what_remains_is_less_than_what_was_denied_last() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await, cluster.start("c").await];
    let admitted = Arc::new(AtomicI64::new(0));
    let clients = (0..64u64).map(|number| {
        let mut client = sidecars[number as usize % 3].client.clone();
        let admitted = admitted.clone();
        tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(number);
            loop {
                let amount = random.random_range(1..=50);
                let request = quota(Mode::Consume, "acme", "calls", amount);
                let answer = client.check_quota(request).await.unwrap().into_inner();
                if !answer.allowed {
                    return amount;
                }
                admitted.fetch_add(amount, Ordering::SeqCst);
            }
        })
    });
    let denied = join_all(clients.collect::<Vec<_>>()).await;
    let smallest_denied = denied.into_iter().map(|done| done.unwrap()).min().unwrap();
    let admitted = admitted.load(Ordering::SeqCst);
    assert!(admitted <= LIMIT, "{admitted} admitted");
    let key = current_key(&cluster.world, "acme", "calls").await;
    cluster.wait_until_ledger_has(&key, admitted).await;
    let remains = LIMIT - admitted;
    assert!(remains < smallest_denied, "{remains} remain, {smallest_denied} was denied");
    // Whatever remains can still be had, wherever it is asked for.
    if remains > 0 {
        let answer = sidecars[0].check(Mode::Consume, "acme", "calls", remains).await.unwrap();
        assert!(answer.allowed, "{answer:?}");
    }
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}
