//! How long it takes until all is right again, once a store is back. The figures are printed; only
//! what no machine is too busy for is asserted.

use std::time::{Duration, Instant};

use tollgate::{
    domain::ids::TenantId,
    proto::v1::{CheckQuotaResponse, Mode, QuotaReason},
};

use super::{settling::unwell, stage::Stage};
use crate::sidecars::cluster::{Client, quota};

const SIDECARS: usize = 3;
/// On a machine that is busy with other tests a sidecar answers a recall late, and Redis a call: a
/// denial that did not wait for them proves nothing.
const PATIENT: [(&str, &str); 2] =
    [("--enforcement-recall-wait-ms", "1000"), ("--redis-call-timeout-ms", "5000")];
/// The hard limit of `calls` on the plan `larger`: as `catalog.yaml` says.
const LIMIT: i64 = 250;
/// Far beyond what is promised, for a machine that is busy with other tests.
const RIGHT_WITHIN: Duration = Duration::from_secs(60);
const POSTGRES_AWAY: Duration = Duration::from_secs(5);
/// How often each loss is measured.
const TIMES: usize = 3;
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub async fn consume(client: &Client, tenant: &str, amount: i64) -> CheckQuotaResponse {
    let request = quota(Mode::Consume, tenant, "calls", amount);
    client.clone().check_quota(request).await.unwrap().into_inner()
}

/// Sidecars at work, and a client of each.
async fn at_work(tenants: &[String]) -> (Stage, Vec<Client>) {
    let stage = Stage::set(SIDECARS, &PATIENT).await;
    stage.world.tenants(tenants.iter().map(|tenant| (tenant.as_str(), "larger"))).await;
    stage.start_programs();
    until_well(&stage).await;
    let clients = (0..SIDECARS).map(|number| stage.client(number, RIGHT_WITHIN)).collect();
    (stage, clients)
}

/// Until every sidecar says that it is well; how long that took.
pub async fn until_well(stage: &Stage) -> Duration {
    let started = Instant::now();
    loop {
        let unwell = unwell(stage);
        if unwell.is_empty() {
            return started.elapsed();
        }
        assert!(started.elapsed() < RIGHT_WITHIN, "{unwell:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_redis_that_lost_everything_is_right_again_once_all_sidecars_have_told_it() {
    let tenants: Vec<_> = (0..TIMES).map(|time| format!("tenant-{time}")).collect();
    let (stage, clients) = at_work(&tenants).await;
    for tenant in &tenants {
        // Every sidecar knows something that Redis has to be told again.
        for client in &clients {
            assert!(consume(client, tenant, 10).await.allowed);
        }
        let killed = Instant::now();
        stage.kill_redis();
        stage.wipe_redis();
        stage.start_redis();
        let back = Instant::now();
        // More than any sidecar holds in escrow, and all that is left: right only if nothing of what
        // was used is forgotten and nothing that is held is missing.
        let left = LIMIT - 10 * i64::try_from(SIDECARS).unwrap();
        loop {
            let answer = consume(&clients[1], tenant, left).await;
            if answer.allowed {
                break;
            }
            assert!(back.elapsed() < RIGHT_WITHIN, "{answer:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        println!(
            "Redis lost: the first right answer {:.2?} after it was back, {:.2?} after it was killed",
            back.elapsed(),
            killed.elapsed()
        );
        for client in &clients {
            // Another sidecar may hear a moment later that all have told.
            loop {
                let answer = consume(client, tenant, 1).await;
                assert!(!answer.allowed && back.elapsed() < RIGHT_WITHIN, "{answer:?}");
                if answer.reason() == QuotaReason::LimitExceeded {
                    break;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
    stage.programs().for_each(|program| program.stop().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_postgres_that_is_back_gets_what_was_recorded_meanwhile() {
    let tenants: Vec<_> = (0..TIMES).map(|time| format!("tenant-{time}")).collect();
    let (stage, clients) = at_work(&tenants).await;
    for tenant in &tenants {
        let mut consumed = 0;
        for client in &clients {
            assert!(consume(client, tenant, 1).await.allowed);
            consumed += 1;
        }
        flushed(&stage, tenant, |used| used == consumed).await;
        stage.kill_postgres();
        let (killed, mut slowest) = (Instant::now(), Duration::ZERO);
        let before = consumed;
        while killed.elapsed() < POSTGRES_AWAY {
            for client in &clients {
                let asked = Instant::now();
                assert!(consume(client, tenant, 1).await.allowed, "nothing here needs Postgres");
                slowest = slowest.max(asked.elapsed());
                consumed += 1;
            }
            tokio::time::sleep(10 * LOOK_EVERY).await;
        }
        stage.start_postgres();
        let back = Instant::now();
        flushed(&stage, tenant, |used| used > before).await;
        let first = back.elapsed();
        flushed(&stage, tenant, |used| used == consumed).await;
        let all = back.elapsed();
        until_well(&stage).await;
        println!(
            "Postgres away for {:.1?}: {} checks meanwhile, the slowest {slowest:.2?}; once it was \
             back the first of it was flushed after {first:.2?}, all after {all:.2?}, all well \
             after {:.2?}",
            back - killed,
            consumed - before,
            back.elapsed()
        );
    }
    stage.programs().for_each(|program| program.stop().unwrap());
}

/// Until the ledger has such a figure of the tenant's calls.
async fn flushed(stage: &Stage, tenant: &str, is_it: impl Fn(i64) -> bool) {
    let started = Instant::now();
    let tenant = TenantId::new(tenant).unwrap();
    loop {
        // While Postgres comes back it may refuse.
        let windows = stage.world.ledger.tenant_windows(&tenant, None, 10).await;
        let used: i64 = windows.iter().flatten().map(|window| window.used).sum();
        if is_it(used) {
            return;
        }
        assert!(started.elapsed() < RIGHT_WITHIN, "the ledger has {used}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
