//! Redis and Postgres away under running load, and Redis emptied: served as each limit's policy
//! says, never over, and exact at the end: what clients know, the ledger and Redis agree.

use std::time::{Duration, Instant};

use tokio::task::block_in_place;
use tollgate::proto::v1::{Mode, QuotaReason, UsageEvent};

use super::{
    CATALOG,
    cluster::{Cluster, Sidecar, current_key, event},
    load::{Fate, Load, Tally, Used},
};

const LIMIT: i64 = 10_000;
const REDIS_AWAY: Duration = Duration::from_secs(10);
const POSTGRES_AWAY: Duration = Duration::from_secs(30);
/// Longest that a client may wait for any answer, whatever is away; a busy machine included. Less
/// than anything is away: nobody waits for its return.
const ANSWER_MAX: Duration = Duration::from_secs(9);
const SEEN_MAX: Duration = Duration::from_secs(30);
/// Longer than a hiccup of a busy machine, so that a denial at the end is a proof: whoever holds
/// something unspent is heard.
const RECALL_WAIT_MS: &str = "2000";

/// Hard and soft limits of a tenant in the middle of its month, and one that has used up its own.
const HARD: Used = ("acme", "calls");
const SOFT: Used = ("acme", "tokens");
const FULL: Used = ("full", "calls");

#[tokio::test(flavor = "multi_thread")]
async fn redis_emptied_under_load_forgets_nothing_and_grants_nothing_twice() {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    prepare(&mut cluster).await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await];
    use_up(&sidecars[0], FULL).await;
    let load = Load::start("load", &[(&sidecars[0], Fate::Lives), (&sidecars[1], Fate::Lives)]);
    load.tally().add(FULL, LIMIT);
    load.until_more(HARD).await;
    load.until_answered(FULL, QuotaReason::LimitExceeded).await;
    let (tenant, meter) = HARD;
    let held = sidecars[0].check(Mode::Reserve, tenant, meter, 500).await.unwrap();

    cluster.redis.kill().unwrap();
    let back_at = tokio::time::Instant::now() + REDIS_AWAY;
    // Escrow goes on being spent; beyond it each limit's policy decides.
    let id = held.reservation.unwrap().id;
    let settled = UsageEvent { reservation_id: id, ..event(tenant, meter, 400, "held") };
    sidecars[0].record(vec![settled]).await.unwrap();
    load.tally().add(HARD, 400);
    for hard in [HARD, FULL] {
        load.until_answered(hard, QuotaReason::DeniedByOutagePolicy).await;
    }
    load.until_more(SOFT).await;
    wait_until_ready_says(&cluster, "Redis is out of reach").await;
    tokio::time::sleep_until(back_at).await;
    load.until_more(SOFT).await;
    cluster.redis.start_again().unwrap();

    load.until_answered(FULL, QuotaReason::LimitExceeded).await;
    let tally = load.stop().await;
    all_agree_at_the_limit(&cluster, tally, &sidecars).await;
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_loss_nothing_is_granted_before_a_dead_run_is_closed() {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    prepare(&mut cluster).await;
    let survivor = cluster.start("a").await;
    let dead = cluster.start("b").await;
    use_up(&dead, FULL).await;
    let load = Load::start("load", &[(&survivor, Fate::Lives), (&dead, Fate::Dies)]);
    load.tally().add(FULL, LIMIT);
    load.until_more(HARD).await;
    dead.process.kill();
    cluster.redis.kill().unwrap();
    tokio::time::sleep(REDIS_AWAY).await;
    cluster.redis.start_again().unwrap();
    wait_until_ready_says(&cluster, "waits for all runs to report").await;
    // The dead run has not reported: whatever the survivor is asked for, it is not granted.
    let (tenant, meter) = HARD;
    for _ in 0..50 {
        let answer = survivor.check(Mode::Consume, tenant, meter, LIMIT / 4).await.unwrap();
        assert_eq!(answer.reason(), QuotaReason::DeniedByOutagePolicy, "{answer:?}");
    }
    load.until_more(SOFT).await;
    load.until_answered(HARD, QuotaReason::DeniedByOutagePolicy).await;

    let back = cluster.start("b").await;
    load.until_more(HARD).await;
    load.until_answered(FULL, QuotaReason::LimitExceeded).await;
    let tally = load.stop().await;
    let sidecars = [survivor, back];
    all_agree_at_the_limit(&cluster, tally, &sidecars).await;
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_postgres_stopped_under_load_all_is_served_and_nothing_lost() {
    let (mut cluster, mut postgres) = Cluster::with_own_postgres("proving", CATALOG).await;
    prepare(&mut cluster).await;
    let survivor = cluster.start("a").await;
    let dead = cluster.start("b").await;
    use_up(&survivor, FULL).await;
    let load = Load::start("load", &[(&survivor, Fate::Lives), (&dead, Fate::Dies)]);
    load.tally().add(FULL, LIMIT);
    load.until_more(HARD).await;
    // Known when it stops: the snapshot on disk is written every few seconds.
    wait_until_saved(&cluster, "b", HARD.0).await;

    block_in_place(|| postgres.stop()).unwrap();
    let back_at = tokio::time::Instant::now() + POSTGRES_AWAY;
    wait_until_ready_says(&cluster, "usage waits in the journal").await;
    for used in [HARD, SOFT] {
        load.until_more(used).await;
    }
    load.until_answered(FULL, QuotaReason::LimitExceeded).await;
    let stranger = survivor.check(Mode::Consume, "stranger", "calls", 1).await.unwrap_err();
    assert_eq!(stranger.code(), tonic::Code::Unavailable, "{stranger:?}");
    // One that starts now knows its tenants from the snapshot, and has no part in hard limits yet.
    dead.process.kill();
    let back = cluster.start_unready("b");
    wait_until_answering(&back).await;
    let again = Load::start("again", &[(&back, Fate::Lives)]);
    again.until_more(SOFT).await;
    again.until_answered(HARD, QuotaReason::DeniedByOutagePolicy).await;
    tokio::time::sleep_until(back_at).await;
    for used in [HARD, SOFT] {
        load.until_more(used).await;
    }
    again.until_more(SOFT).await;
    block_in_place(|| postgres.start_again()).unwrap();

    again.until_more(HARD).await;
    let mut tally = load.stop().await;
    tally.merge(again.stop().await);
    let sidecars = [survivor, back];
    all_agree_at_the_limit(&cluster, tally, &sidecars).await;
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

async fn prepare(cluster: &mut Cluster) {
    cluster.world.tenants([(HARD.0, "basic"), (FULL.0, "basic")]).await;
    cluster.flag("--enforcement-recall-wait-ms", RECALL_WAIT_MS);
}

async fn use_up(sidecar: &Sidecar, (tenant, meter): Used) {
    assert!(sidecar.check(Mode::Consume, tenant, meter, LIMIT).await.unwrap().allowed);
}

/// Once all lease again, clears up what clients do not know and takes what is left of the hard
/// limit, to the last unit; then what clients know, the ledger, Redis and the sidecars' own answers
/// are compared.
async fn all_agree_at_the_limit(cluster: &Cluster, mut tally: Tally, sidecars: &[Sidecar]) {
    for sidecar in sidecars {
        wait_until_leasing(sidecar).await;
    }
    tally.settle(sidecars).await;
    let left = LIMIT - tally.counted(HARD);
    assert!(left >= 0, "{left} left of the limit: {tally:?}");
    assert!(tally.slowest < ANSWER_MAX, "an answer took {:?}", tally.slowest);
    tally.add(HARD, spend_all(sidecars, HARD).await);
    assert_eq!(tally.counted(HARD), LIMIT);
    assert_eq!(tally.counted(FULL), LIMIT);
    for used @ (tenant, meter) in [HARD, SOFT, FULL] {
        let counted = tally.counted(used);
        let key = current_key(&cluster.world, tenant, meter).await;
        cluster.wait_until_ledger_has(&key, counted).await;
        cluster.wait_until_redis_has(&key, counted).await;
        for sidecar in sidecars {
            sidecar.wait_until_used(tenant, meter, counted).await;
        }
    }
}

/// Consumes by turns until nobody gets a single unit any more; the units admitted.
async fn spend_all(sidecars: &[Sidecar], (tenant, meter): Used) -> i64 {
    let mut admitted = 0;
    for amount in [500, 50, 5, 1] {
        let mut turn = 0;
        let mut denied_in_a_row = 0;
        while denied_in_a_row < sidecars.len() {
            let sidecar = &sidecars[turn % sidecars.len()];
            turn += 1;
            let answer = sidecar.check(Mode::Consume, tenant, meter, amount).await.unwrap();
            if answer.allowed {
                denied_in_a_row = 0;
                admitted += amount;
            } else {
                assert_eq!(answer.reason(), QuotaReason::LimitExceeded, "{answer:?}");
                denied_in_a_row += 1;
            }
        }
    }
    admitted
}

/// With a tenant of its own, so that nothing of what is measured is spent.
async fn wait_until_leasing(sidecar: &Sidecar) {
    let started = Instant::now();
    loop {
        let answer = sidecar.check(Mode::Consume, "probe", "calls", 1).await.unwrap();
        if answer.allowed {
            return;
        }
        assert!(started.elapsed() < SEEN_MAX, "not leasing again: {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn wait_until_answering(sidecar: &Sidecar) {
    let started = Instant::now();
    let (tenant, meter) = SOFT;
    while let Err(status) = sidecar.check(Mode::Check, tenant, meter, 1).await {
        assert!(started.elapsed() < SEEN_MAX, "does not answer: {status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the sidecar of this name has the tenant in its snapshot.
async fn wait_until_saved(cluster: &Cluster, name: &str, tenant: &str) {
    let snapshot = cluster.data_dir(name).join("tenants.json");
    let wanted = format!("\"{tenant}\"");
    wait_until(&wanted, || std::fs::read_to_string(&snapshot).is_ok_and(|it| it.contains(&wanted)))
        .await;
}

/// Readiness of the sidecar that lives says so, for as long as it lasts.
async fn wait_until_ready_says(cluster: &Cluster, what: &str) {
    wait_until(what, || cluster.get("a", "/readyz").contains(what)).await;
}

async fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < SEEN_MAX, "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
