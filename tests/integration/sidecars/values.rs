//! Meters that are not plain counters: levels, distinct counts, maxima, and reservations.

use tollgate::proto::v1::{
    CheckQuotaRequest, Mode, QuotaReason, ReleaseReservationRequest, UsageEvent,
};

use super::{
    CATALOG,
    cluster::{Cluster, Sidecar, current_key, event, quota},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_levels_decrease_is_free_again_everywhere() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await];
    assert!(consume(&sidecars[0], "seats", 10).await);
    assert!(!consume(&sidecars[1], "seats", 1).await);
    let lowered = sidecars[1].check(Mode::Consume, "acme", "seats", -4).await.unwrap();
    assert!(lowered.allowed, "a decrease is always taken");
    let look = sidecars[1].check(Mode::Check, "acme", "seats", 0).await.unwrap();
    assert!(look.remaining >= lowered.remaining, "{lowered:?} promises more than {look:?}");
    let key = current_key(&cluster.world, "acme", "seats").await;
    cluster.wait_until_ledger_has(&key, 6).await;
    sidecars[0].wait_until_used("acme", "seats", 6).await;
    sidecars[1].wait_until_used("acme", "seats", 6).await;
    assert!(!consume(&sidecars[0], "seats", 5).await);
    assert!(consume(&sidecars[0], "seats", 4).await);
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_that_was_lowered_too_far_shows_it() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecar = cluster.start("a").await;
    assert!(consume(&sidecar, "seats", 2).await);
    sidecar.record(vec![event("acme", "seats", -5, "")]).await.unwrap();
    sidecar.wait_until_used("acme", "seats", -3).await;
    assert_eq!(sidecar.usage("acme", "seats").await.remaining, 13);
    assert!(consume(&sidecar, "seats", 13).await);
    assert!(!consume(&sidecar, "seats", 1).await);
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_distinct_count_admits_its_limit_of_values_across_sidecars() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await];
    let visit = async |sidecar: &Sidecar, visitor: &str| {
        let request = CheckQuotaRequest {
            properties: [("visitor".to_owned(), visitor.to_owned())].into(),
            ..quota(Mode::Consume, "acme", "visitors", 1)
        };
        sidecar.client.clone().check_quota(request).await.unwrap().into_inner().allowed
    };
    assert!(visit(&sidecars[0], "ann").await);
    assert!(visit(&sidecars[1], "bob").await);
    assert!(visit(&sidecars[0], "bob").await, "known elsewhere");
    assert!(visit(&sidecars[0], "cat").await);
    assert!(!visit(&sidecars[1], "dan").await);
    assert!(visit(&sidecars[1], "ann").await, "no new one");
    let key = current_key(&cluster.world, "acme", "visitors").await;
    sidecars[1].wait_until_used("acme", "visitors", 3).await;
    let totals = cluster.world.ledger.window_totals(&[key]).await.unwrap();
    let distinct = totals[0].as_ref().unwrap().tally.distinct.as_ref().unwrap().count();
    assert_eq!(distinct, 3);
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_distinct_value_that_was_recorded_takes_a_place_in_the_limit() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await];
    let visited = |visitor: &str| UsageEvent {
        properties: [("visitor".to_owned(), visitor.to_owned())].into(),
        ..event("acme", "visitors", 1, "")
    };
    sidecars[0].record(["ann", "bob", "cat"].map(visited).into()).await.unwrap();
    sidecars[1].wait_until_used("acme", "visitors", 3).await;
    let consume = |visitor: &str| CheckQuotaRequest {
        properties: [("visitor".to_owned(), visitor.to_owned())].into(),
        ..quota(Mode::Consume, "acme", "visitors", 1)
    };
    let mut client = sidecars[1].client.clone();
    assert!(!client.check_quota(consume("dan")).await.unwrap().into_inner().allowed);
    assert!(client.check_quota(consume("bob")).await.unwrap().into_inner().allowed);
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maximum_is_compared_and_nothing_is_taken() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecar = cluster.start("a").await;
    assert!(consume(&sidecar, "upload", 400).await);
    assert!(consume(&sidecar, "upload", 300).await);
    assert!(!consume(&sidecar, "upload", 501).await);
    assert!(consume(&sidecar, "upload", 500).await);
    sidecar.wait_until_used("acme", "upload", 500).await;
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_that_settles_a_reservation_may_have_its_key() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecar = cluster.start("a").await;
    let reserve = CheckQuotaRequest {
        idempotency_key: "req-7".into(),
        ..quota(Mode::Reserve, "acme", "calls", 100)
    };
    let held = sidecar.client.clone().check_quota(reserve.clone()).await.unwrap().into_inner();
    let again = sidecar.client.clone().check_quota(reserve).await.unwrap().into_inner();
    assert_eq!(held.reservation, again.reservation);
    let used = UsageEvent {
        reservation_id: held.reservation.unwrap().id,
        ..event("acme", "calls", 70, "req-7")
    };
    assert_eq!(sidecar.record(vec![used.clone()]).await.unwrap().accepted, 1);
    assert_eq!(sidecar.record(vec![used]).await.unwrap().duplicates, 1);
    let key = current_key(&cluster.world, "acme", "calls").await;
    cluster.wait_until_ledger_has(&key, 70).await;
    sidecar.wait_until_used("acme", "calls", 70).await;
    assert_eq!(sidecar.usage("acme", "calls").await.reserved, 0);
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_holds_settles_and_is_released_once() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await];
    let held = sidecars[0].check(Mode::Reserve, "acme", "calls", 9_000).await.unwrap();
    let held = held.reservation.unwrap();
    let second = sidecars[0].check(Mode::Reserve, "acme", "calls", 1_000).await.unwrap();
    let second = second.reservation.unwrap();
    let denied = sidecars[1].check(Mode::Consume, "acme", "calls", 1).await.unwrap();
    assert_eq!(denied.reason(), QuotaReason::LimitExceeded, "all of it is held");
    let settled = UsageEvent { reservation_id: held.id, ..event("acme", "calls", 40, "job-1") };
    assert_eq!(sidecars[0].record(vec![settled]).await.unwrap().accepted, 1);
    let release = ReleaseReservationRequest { tenant: "acme".into(), reservation_id: second.id };
    let released = sidecars[0].client.clone().release_reservation(release.clone()).await.unwrap();
    assert_eq!(released.into_inner().released, 1_000);
    let again = sidecars[0].client.clone().release_reservation(release).await.unwrap();
    assert_eq!(again.into_inner().released, 0);
    // The denial may be repeated from memory for a second.
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let rest = sidecars[1].check(Mode::Consume, "acme", "calls", 9_960).await.unwrap();
    assert!(rest.allowed, "{rest:?}");
    let key = current_key(&cluster.world, "acme", "calls").await;
    cluster.wait_until_ledger_has(&key, 10_000).await;
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

async fn consume(sidecar: &Sidecar, meter: &str, amount: i64) -> bool {
    sidecar.check(Mode::Consume, "acme", meter, amount).await.unwrap().allowed
}
