//! I1 across the end of a window: per window label.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::future::join_all;
use tollgate::proto::v1::Mode;

use super::{
    CATALOG,
    cluster::{Cluster, quota},
};

/// Units per window of 3 seconds.
const LIMIT: i64 = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn every_window_admits_its_limit_and_no_more() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await, cluster.start("c").await];
    let admitted: Arc<Mutex<BTreeMap<i64, i64>>> = Arc::default();
    let until = Instant::now() + Duration::from_secs(8);
    let clients = (0..24).map(|number| {
        let mut client = sidecars[number % 3].client.clone();
        let admitted = admitted.clone();
        tokio::spawn(async move {
            while Instant::now() < until {
                let request = quota(Mode::Consume, "acme", "quick", 10);
                let answer = client.check_quota(request).await.unwrap().into_inner();
                if answer.allowed {
                    let window = answer.resets_at.unwrap().seconds;
                    *admitted.lock().unwrap().entry(window).or_default() += 10;
                } else {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        })
    });
    join_all(clients.collect::<Vec<_>>()).await.into_iter().for_each(|done| done.unwrap());
    let admitted = admitted.lock().unwrap().clone();
    assert!(admitted.len() >= 3, "{admitted:?}");
    assert!(admitted.values().all(|units| *units <= LIMIT), "{admitted:?}");
    // A window that lay wholly within the test was used up.
    let whole = admitted.values().skip(1).take(admitted.len() - 2);
    whole.for_each(|units| assert_eq!(*units, LIMIT, "{admitted:?}"));
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}
