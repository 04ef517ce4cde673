//! I3, the part about retries: what is sent twice under one key is counted once.

use tollgate::proto::v1::{DecidedBy, Mode};

use super::{
    CATALOG,
    cluster::{Cluster, current_key, event, quota},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_event_sent_again_counts_once_whichever_sidecar_it_reaches() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let first = cluster.start("a").await;
    let second = cluster.start("b").await;
    let usage = || vec![event("acme", "calls", 7, "once")];
    assert_eq!(first.record(usage()).await.unwrap().accepted, 1);
    let repeated = first.record(usage()).await.unwrap();
    assert_eq!((repeated.accepted, repeated.duplicates), (0, 1), "the same sidecar knows");
    assert_eq!(second.record(usage()).await.unwrap().accepted, 1, "the other one does not");
    first.process.stop();
    let restarted = cluster.start("a").await;
    assert_eq!(restarted.record(usage()).await.unwrap().accepted, 1, "nor does a new run");
    // Something else, so that all of the above is known to be flushed when it arrives.
    restarted.record(vec![event("acme", "calls", 1, "last")]).await.unwrap();
    second.record(vec![event("acme", "calls", 1, "last of the other")]).await.unwrap_err();
    second.record(vec![event("acme", "calls", 1, "last-of-the-other")]).await.unwrap();
    let key = current_key(&cluster.world, "acme", "calls").await;
    cluster.wait_until_ledger_has(&key, 9).await;
    restarted.wait_until_used("acme", "calls", 9).await;
    second.wait_until_used("acme", "calls", 9).await;
    restarted.process.stop();
    second.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consume_sent_again_gets_the_first_answer() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecar = cluster.start("a").await;
    let mut request = quota(Mode::Consume, "acme", "calls", 10);
    request.idempotency_key = "order-1".into();
    let first = sidecar.client.clone().check_quota(request.clone()).await.unwrap().into_inner();
    sidecar.check(Mode::Consume, "acme", "calls", 5).await.unwrap();
    let again = sidecar.client.clone().check_quota(request.clone()).await.unwrap().into_inner();
    assert!(first.allowed && again.allowed);
    assert_eq!(again.decided_by(), DecidedBy::Replay);
    assert_eq!((first.used, again.used), (10, 10), "the first answer, not a new one");
    request.amount = Some(11);
    let conflict = sidecar.client.clone().check_quota(request).await.unwrap_err();
    assert_eq!(conflict.code(), tonic::Code::AlreadyExists, "{conflict}");
    let key = current_key(&cluster.world, "acme", "calls").await;
    cluster.wait_until_ledger_has(&key, 15).await;
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_another_amount_elsewhere_is_quarantined_and_given_back() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let first = cluster.start("a").await;
    let second = cluster.start("b").await;
    first.record(vec![event("acme", "calls", 7, "order-1")]).await.unwrap();
    let key = current_key(&cluster.world, "acme", "calls").await;
    cluster.wait_until_ledger_has(&key, 7).await;
    second.record(vec![event("acme", "calls", 8, "order-1")]).await.unwrap();
    second.record(vec![event("acme", "calls", 1, "order-2")]).await.unwrap();
    cluster.wait_until_ledger_has(&key, 8).await;
    second.wait_until_used("acme", "calls", 8).await;
    let quarantined = cluster.world.ledger.quarantine(0, 10).await.unwrap();
    assert_eq!(quarantined.len(), 1, "{quarantined:?}");
    first.process.stop();
    second.process.stop();
}
