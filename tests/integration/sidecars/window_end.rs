//! I1 across the end of a window: per window label.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::future::join_all;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::task::block_in_place;
use tollgate::{
    domain::{cell_key::CellKey, window::WindowLabel},
    proto::v1::Mode,
};

use super::{
    CATALOG,
    cluster::{Cluster, current_key, quota},
};

/// Units per window of 3 seconds.
const LIMIT: i64 = 1_000;
/// Seconds of a window of the meter `steady`.
const STEADY_S: i64 = 20;
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than any hiccup of a busy machine, so that whoever holds something unspent is heard.
const RECALL_WAIT_MS: &str = "1000";

/// What clients know of one window, which its end names.
#[derive(Debug, Default)]
struct Admissions {
    units: i64,
    /// The amount that each client was denied last.
    denied: BTreeMap<u64, i64>,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_window_admits_its_limit_and_no_more() {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.flag("--enforcement-recall-wait-ms", RECALL_WAIT_MS);
    cluster.world.tenant("acme", "basic").await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await, cluster.start("c").await];
    let windows: Arc<Mutex<BTreeMap<i64, Admissions>>> = Arc::default();
    let until = Instant::now() + Duration::from_secs(8);
    let clients = (0..24).map(|number| {
        let mut client = sidecars[number as usize % 3].client.clone();
        let windows = windows.clone();
        tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(number);
            while Instant::now() < until {
                let amount = random.random_range(1..=50);
                let request = quota(Mode::Consume, "acme", "quick", amount);
                let answer = client.check_quota(request).await.unwrap().into_inner();
                {
                    let mut windows = windows.lock().unwrap();
                    let window = windows.entry(answer.resets_at.unwrap().seconds).or_default();
                    if answer.allowed {
                        window.units += amount;
                        continue;
                    }
                    window.denied.insert(number, amount);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    });
    join_all(clients.collect::<Vec<_>>()).await.into_iter().for_each(|done| done.unwrap());
    let windows = windows.lock().unwrap();
    assert!(windows.len() >= 3, "{windows:?}");
    assert!(windows.values().all(|window| window.units <= LIMIT), "{windows:?}");
    // A window that lay wholly within the test was used up, but for less than what anyone was
    // denied last.
    for window in windows.values().skip(1).take(windows.len() - 2) {
        let smallest_denied = *window.denied.values().min().unwrap();
        assert!(LIMIT - window.units < smallest_denied, "{windows:?}");
    }
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_begins_while_postgres_is_away_is_served() {
    let (cluster, mut postgres) = Cluster::with_own_postgres("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecar = cluster.start("a").await;
    let consume = async || {
        let answer = sidecar.check(Mode::Consume, "acme", "steady", 1).await.unwrap();
        assert!(answer.allowed, "{answer:?}");
        answer.resets_at.unwrap().seconds
    };
    let mut ends_at = consume().await;
    let started = Instant::now();
    loop {
        let now = current_key(&cluster.world, "acme", "steady").await;
        let next = WindowLabel { start: now.label.start + STEADY_S, ..now.label };
        if cluster.inspect(&CellKey { label: next, ..now }).await.is_some() {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "the next window is not prepared");
        tokio::time::sleep(Duration::from_millis(100)).await;
        ends_at = consume().await;
    }
    block_in_place(|| postgres.stop()).unwrap();
    while consume().await == ends_at {
        assert!(started.elapsed() < PATIENCE, "the window does not end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    block_in_place(|| postgres.start_again()).unwrap();
    sidecar.process.stop();
}
