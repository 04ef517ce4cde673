//! kill -9 in the middle of the work: nothing acknowledged is lost, nothing unspent is stranded.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use tollgate::proto::v1::{CheckQuotaRequest, Durability, Mode};

use super::{
    CATALOG,
    cluster::{Client, Cluster, current_key, quota},
};

const LIMIT: i64 = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_at_sync_survives_kill_9() {
    acknowledged_survives(Durability::Sync).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_at_written_survives_kill_9() {
    acknowledged_survives(Durability::Written).await;
}

/// Clients consume under keys while their sidecar is killed; afterwards they send again what they
/// do not know the fate of, under the same keys.
async fn acknowledged_survives(durability: Durability) {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let doomed = cluster.start("a").await;
    let other = cluster.start("b").await;
    let sent: Arc<Mutex<BTreeMap<String, bool>>> = Arc::default();
    let is_over = Arc::new(AtomicBool::new(false));
    let clients = (0..16).map(|number| {
        let client = doomed.client.clone();
        let (sent, is_over) = (sent.clone(), is_over.clone());
        tokio::spawn(async move {
            for turn in 0.. {
                let key = format!("{number}-{turn}");
                sent.lock().unwrap().insert(key.clone(), false);
                let request = keyed(&key, durability);
                let answer = client.clone().check_quota(request).await;
                if answer.is_ok_and(|answer| answer.into_inner().allowed) {
                    sent.lock().unwrap().insert(key, true);
                }
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    while sent.lock().unwrap().len() < 300 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    is_over.store(true, Ordering::SeqCst);
    doomed.process.kill();
    join_all(clients).await.into_iter().for_each(|done| done.unwrap());

    let sent = sent.lock().unwrap().clone();
    let acknowledged = sent.values().filter(|acknowledged| **acknowledged).count() as i64;
    assert!(acknowledged > 0);
    let restarted = cluster.start("a").await;
    let key = current_key(&cluster.world, "acme", "calls").await;
    // Everything again, acknowledged or not, half of it through the other sidecar.
    for (number, key) in sent.keys().enumerate() {
        let client = if number % 2 == 0 { &restarted.client } else { &other.client };
        assert!(consume(client, keyed(key, durability)).await, "{key}");
    }
    let total = sent.len() as i64;
    cluster.wait_until_ledger_has(&key, total).await;
    restarted.wait_until_used("acme", "calls", total).await;
    other.wait_until_used("acme", "calls", total).await;
    // What the dead run had not spent can be spent: all the rest, in one piece.
    let rest = restarted.check(Mode::Consume, "acme", "calls", LIMIT - total).await.unwrap();
    assert!(rest.allowed, "{rest:?}");
    assert!(!other.check(Mode::Consume, "acme", "calls", 1).await.unwrap().allowed);
    restarted.process.stop();
    other.process.stop();
}

fn keyed(key: &str, durability: Durability) -> CheckQuotaRequest {
    CheckQuotaRequest {
        idempotency_key: key.to_owned(),
        durability: durability.into(),
        ..quota(Mode::Consume, "acme", "calls", 1)
    }
}

async fn consume(client: &Client, request: CheckQuotaRequest) -> bool {
    client.clone().check_quota(request).await.unwrap().into_inner().allowed
}
