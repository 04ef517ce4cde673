//! Members of pools: who may be one, what denials tell them, and that a pool is kept to by operations,
//! by late usage and across outages.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use jiff::Timestamp;
use serde_json::Value;
use tokio::task::block_in_place;
use tollgate::{
    dev::Postgres,
    domain::{cell_key::CellKey, ids::TenantId},
    ledger::changes::Author,
    proto::v1::{
        CheckRequest, CheckResponse, DecidedBy, DeniedBy, Mode, QuotaReason, Remedy, RemedyKind,
        UsageEvent,
    },
};

use super::cluster::{Client, Cluster, Sidecar, current_key, event};

/// `work` takes 10 of the pooled traffic and a job of the tenant's own.
const CATALOG: &str = r"
catalog: pooled
currency: USD
meters:
  - { name: calls, kind: counter, unit: call, period: month }
  - { name: traffic, kind: counter, unit: byte, period: month }
  - { name: jobs, kind: counter, unit: job, period: month }
  - { name: disk, kind: level, unit: byte }
operations:
  - { name: work, meters: [{ meter: traffic, amount: 10 }, { meter: jobs, amount: 1 }] }
plans:
  - name: basic
    prices: { monthly: 0 }
    limits: { calls: 10000, traffic: 100, jobs: 100, disk: 10 }
  - name: plus
    prices: { monthly: 9 }
    limits: { calls: 10000, traffic: 1000000, jobs: 1000, disk: 10000 }
  - name: solo
    prices: { monthly: 19 }
    limits: { calls: 10000, traffic: 2000000, jobs: 1000, disk: 20000 }
pools:
  - name: shared_traffic
    meter: traffic
    size: 3500
    plans: [basic, plus]
    priorities:
      - { name: shop, keeps_back_percent: 20 }
      - { name: site }
  - { name: shared_disk, meter: disk, size: 50, plans: [basic, plus] }
";
const COMMON: i64 = 2_800;
const KEPT_BACK: i64 = 700;
/// Jobs in a month on the plan of the sites.
const JOBS: i64 = 100;
const SITES: [&str; 2] = ["site1", "site2"];
const SHOPS: [&str; 2] = ["shop1", "shop2"];
/// Clients of each member at each sidecar.
const CLIENTS: usize = 4;
/// Longer than any hiccup of a busy machine, so that a denial is a proof.
const RECALL_WAIT_MS: &str = "8000";
const PATIENCE: Duration = Duration::from_secs(60);
const AUTHOR: Author<'_> = Author { actor: "test", reason: "" };

fn clock() -> Timestamp {
    "2026-03-10T00:00:00Z".parse().unwrap()
}

/// The account's pools: of traffic, with all its tenants but `alone`, and of disk, without any.
async fn prepare(cluster: &mut Cluster) -> [String; 2] {
    cluster.flag("--enforcement-recall-wait-ms", RECALL_WAIT_MS);
    let sites = SITES.map(|name| (name, "basic"));
    let shops = SHOPS.map(|name| (name, "plus"));
    let others = [("alone", "basic"), ("stranger", "solo")];
    let tenants = sites.into_iter().chain(shops).chain(others);
    cluster.world.tenants_of("agency", clock(), tenants).await;
    let pools = ["shared_traffic", "shared_disk"].map(|name| {
        let printed = cluster.operate(&["pool", "create", "agency", name, "--json"]);
        let created: Value = serde_json::from_str(&printed).unwrap();
        created["pool"].as_str().unwrap().to_owned()
    });
    for (class, members) in [("site", SITES), ("shop", SHOPS)] {
        let arguments = ["pool", "add-member", &pools[0], "--class", class];
        cluster.operate(&[&arguments[..], &members].concat());
    }
    pools
}

async fn cluster() -> (Cluster, [String; 2]) {
    let mut cluster = Cluster::with_catalog("pooled", CATALOG).await;
    let pools = prepare(&mut cluster).await;
    (cluster, pools)
}

async fn with_own_postgres() -> (Cluster, Postgres, [String; 2]) {
    let (mut cluster, postgres) = Cluster::with_own_postgres("pooled", CATALOG).await;
    let pools = prepare(&mut cluster).await;
    (cluster, postgres, pools)
}

/// A share of the pool of traffic, in March.
async fn share(cluster: &Cluster, pool: &str, class: Option<&str>) -> CellKey {
    let tenant = TenantId::of_pool(pool.parse().unwrap(), class);
    CellKey { tenant, ..current_key(&cluster.world, SITES[0], "traffic").await }
}

async fn work(client: &Client, tenant: &str) -> CheckResponse {
    let request = CheckRequest {
        tenant: tenant.into(),
        operation: "work".into(),
        mode: Mode::Consume.into(),
        ..Default::default()
    };
    client.clone().check(request).await.unwrap().into_inner()
}

/// Has tenants work through all sidecars at once until each is denied, by `denied_by`; how often
/// they could.
async fn work_all(sidecars: &[Sidecar], tenants: [&'static str; 2], denied_by: &str) -> i64 {
    let admitted = Arc::new(AtomicI64::new(0));
    let places = sidecars.iter().flat_map(|sidecar| tenants.map(|tenant| (sidecar, tenant)));
    let clients = places.flat_map(|(sidecar, tenant)| {
        let admitted = &admitted;
        (0..CLIENTS).map(move |_| {
            let (client, admitted) = (sidecar.client.clone(), admitted.clone());
            let denied_by = denied_by.to_owned();
            tokio::spawn(async move {
                loop {
                    let answer = work(&client, tenant).await;
                    if !answer.allowed {
                        assert_eq!(answer.denied_by(), DeniedBy::Quota, "{answer:?}");
                        assert_eq!(answer.denied_name, denied_by, "{answer:?}");
                        let reason = answer.quotas[&denied_by].reason();
                        assert_eq!(reason, QuotaReason::LimitExceeded, "{answer:?}");
                        return;
                    }
                    admitted.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
    });
    let clients: Vec<_> = clients.collect();
    join_all(clients).await.into_iter().for_each(|end| end.unwrap());
    admitted.load(Ordering::SeqCst)
}

fn kinds(remedies: &[Remedy]) -> Vec<RemedyKind> {
    remedies.iter().map(Remedy::kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_take_of_a_pool_all_or_nothing_through_all_sidecars() {
    let (cluster, pools) = cluster().await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await, cluster.start("c").await];
    // Their own jobs run out while the pool has room for all that is under way: what a denied
    // operation has taken of the pool is given back.
    assert_eq!(work_all(&sidecars, SITES, "jobs").await, 2 * JOBS);
    let left = COMMON + KEPT_BACK - 2 * JOBS * 10;
    // The pool runs out, and what a denied operation has taken of jobs, or of the pool, is given back.
    let by_shops = work_all(&sidecars, SHOPS, "traffic").await;
    assert_eq!(by_shops, left / 10);
    for (class, used) in [(None, COMMON), (Some("shop"), KEPT_BACK)] {
        let key = share(&cluster, &pools[0], class).await;
        cluster.wait_until_ledger_has(&key, used).await;
        cluster.wait_until_redis_has(&key, used).await;
    }
    let mut jobs_of_shops = 0;
    for tenant in SHOPS {
        jobs_of_shops += sidecars[2].spend_all(tenant, "jobs").await;
        let key = current_key(&cluster.world, tenant, "jobs").await;
        cluster.wait_until_ledger_has(&key, 1_000).await;
    }
    assert_eq!(jobs_of_shops, 2 * 1_000 - by_shops);
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_member_is_told_what_helps_and_no_larger_plan() {
    let (cluster, [traffic, disk]) = cluster().await;
    cluster.operate(&["pool", "add-member", &disk, SITES[0]]);
    let sidecar = cluster.start("a").await;
    let denied = sidecar.check(Mode::Check, SITES[0], "traffic", COMMON + 1).await.unwrap();
    assert_eq!((denied.reason(), denied.limit), (QuotaReason::LimitExceeded, COMMON));
    assert_eq!(kinds(&denied.remedies), [RemedyKind::ResizePool], "it never fits: {denied:?}");
    assert_eq!(
        (&denied.remedies[0].name, denied.remedies[0].meter.as_str()),
        (&traffic, "traffic")
    );

    assert!(sidecar.check(Mode::Consume, SITES[0], "traffic", COMMON).await.unwrap().allowed);
    let denied = sidecar.check(Mode::Consume, SITES[1], "traffic", 10).await.unwrap();
    assert_eq!(kinds(&denied.remedies), [RemedyKind::WaitUntil, RemedyKind::ResizePool]);
    assert_eq!(denied.remedies[0].wait_until, denied.resets_at);
    let of_operation = work(&sidecar.client, SITES[1]).await;
    assert_eq!(of_operation.remedies, denied.remedies);
    assert!(work(&sidecar.client, SHOPS[0]).await.allowed, "of what is kept back for it");

    assert!(sidecar.check(Mode::Consume, SITES[0], "disk", 50).await.unwrap().allowed);
    let denied = sidecar.check(Mode::Consume, SITES[0], "disk", 1).await.unwrap();
    assert_eq!(kinds(&denied.remedies), [RemedyKind::LowerUsage, RemedyKind::ResizePool]);
    assert_eq!((&denied.remedies[1].name, denied.remedies[1].meter.as_str()), (&disk, "disk"));

    // Who is in no pool is told of plans.
    let denied = sidecar.check(Mode::Consume, "alone", "disk", 11).await.unwrap();
    assert_eq!(kinds(&denied.remedies), [RemedyKind::Upgrade]);
    let denied = sidecar.check(Mode::Check, "alone", "traffic", 101).await.unwrap();
    assert_eq!(
        (kinds(&denied.remedies), denied.remedies[0].plan.as_str()),
        (vec![RemedyKind::Upgrade], "plus")
    );
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_accounts_with_a_plan_that_is_listed_have_a_pool() {
    let (mut cluster, [traffic, disk]) = cluster().await;
    let ledger = &cluster.world.ledger;
    let stored = ledger.pool(disk.parse().unwrap()).await.unwrap().unwrap();
    // Of an account with listed plans, whoever it is.
    let stranger = TenantId::new("stranger").unwrap();
    ledger.add_pool_member(&stored, &stranger, None, AUTHOR).await.unwrap();

    // All but one may go to other plans; who draws on the pool still does.
    let set_plan =
        |tenant: &'static str, plan: &'static str| ["tenant", "set-plan", tenant, "--plan", plan];
    for tenant in [SITES[0], SITES[1], SHOPS[0], SHOPS[1]] {
        cluster.operate(&set_plan(tenant, "solo"));
    }
    let sidecar = cluster.start("a").await;
    assert_eq!(sidecar.usage(SITES[0], "traffic").await.limit, COMMON);
    let refused = cluster.refused(&set_plan("alone", "solo"));
    assert!(refused.contains("the last of its account"), "{refused}");
    assert!(refused.contains(&format!("pool remove-member {traffic}")), "{refused}");
    cluster.operate(&set_plan("alone", "plus"));
    // Where the catalog lists the plan no longer, members stay, nobody joins, and any plan will do.
    let narrower = CATALOG.replace("plans: [basic, plus]", "plans: [basic]");
    cluster.world.apply("pooled", &narrower).await;
    assert_eq!(sidecar.usage(SITES[1], "traffic").await.limit, COMMON);
    let alone = TenantId::new("alone").unwrap();
    let ledger = &cluster.world.ledger;
    let refused = ledger.add_pool_member(&stored, &alone, None, AUTHOR).await.unwrap_err();
    let told = refused.to_string();
    assert!(told.contains("with a tenant on basic, and that of alone has none"), "{told}");
    cluster.operate(&set_plan("alone", "solo"));
    cluster.operate(&["pool", "remove-member", &traffic, SITES[0]]);
    let started = Instant::now();
    while sidecar.usage(SITES[0], "traffic").await.limit != 2_000_000 {
        assert!(started.elapsed() < PATIENCE, "still a member");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_starts_while_postgres_is_away_knows_its_pools() {
    let (cluster, mut postgres, [traffic, _]) = with_own_postgres().await;
    let before = cluster.start("a").await;
    assert!(before.check(Mode::Consume, SHOPS[0], "traffic", 500).await.unwrap().allowed);
    before.process.stop();
    block_in_place(|| postgres.stop()).unwrap();

    let sidecar = cluster.start_unready("a");
    // As with a plan's limit: it is known, and nothing is leased before the run is registered.
    let started = Instant::now();
    let answer = loop {
        match sidecar.check(Mode::Consume, SHOPS[0], "traffic", 1).await {
            Ok(answer) => break answer,
            Err(status) => assert!(started.elapsed() < PATIENCE, "does not answer: {status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(answer.reason(), QuotaReason::DeniedByOutagePolicy, "{answer:?}");
    assert_eq!(answer.decided_by(), DecidedBy::Fallback);
    sidecar.record(vec![event(SHOPS[0], "traffic", 100, "away")]).await.unwrap();
    let usage = sidecar.usage(SHOPS[0], "traffic").await;
    assert_eq!(usage.limit, COMMON + KEPT_BACK, "{usage:?}");

    block_in_place(|| postgres.start_again()).unwrap();
    let started = Instant::now();
    while !sidecar.check(Mode::Consume, SHOPS[0], "traffic", 1).await.unwrap().allowed {
        assert!(started.elapsed() < PATIENCE, "not leasing again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rest = sidecar.spend_all(SHOPS[0], "traffic").await;
    assert_eq!(rest, COMMON + KEPT_BACK - 500 - 100 - 1);
    for (class, used) in [(None, COMMON), (Some("shop"), KEPT_BACK)] {
        let key = share(&cluster, &traffic, class).await;
        cluster.wait_until_ledger_has(&key, used).await;
        cluster.wait_until_redis_has(&key, used).await;
    }
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn late_usage_of_a_pool_whose_window_is_over_is_the_pools() {
    let (mut cluster, [traffic, _]) = cluster().await;
    cluster.flag("--enforcement-counter-idle-s", "1");
    let sidecar = cluster.start("a").await;
    let march = share(&cluster, &traffic, None).await;
    assert!(sidecar.check(Mode::Consume, SITES[0], "traffic", 30).await.unwrap().allowed);
    until_dropped(&cluster).await;
    cluster.operate(&["account", "clock", "agency", "--advance", "1mo"]);
    // Refused until the clock is known, without a trace: nothing counts in March any more.
    let at = |time: &str, one: UsageEvent| {
        let time: Timestamp = time.parse().unwrap();
        let seconds = time.as_second();
        UsageEvent { time: Some(tollgate::proto::time::Timestamp { seconds, nanos: 0 }), ..one }
    };
    let started = Instant::now();
    let in_april = at("2026-04-05T00:00:00Z", event(SITES[0], "calls", 1, "april"));
    while let Err(refused) = sidecar.record(vec![in_april.clone()]).await {
        assert!(started.elapsed() < PATIENCE, "still in March: {refused:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(sidecar.check(Mode::Consume, SITES[0], "traffic", 1).await.unwrap().allowed);
    // Dropped since: those of March are over by now, and only the ledger has them.
    until_dropped(&cluster).await;
    let late = at("2026-03-20T00:00:00Z", event(SITES[0], "traffic", 70, "late"));
    sidecar.record(vec![late]).await.unwrap();
    cluster.wait_until_ledger_has(&march, 100).await;
    let (pool, label) = (traffic.parse().unwrap(), march.label.to_string());
    let site = TenantId::new(SITES[0]).unwrap();
    let used = cluster.world.ledger.pool_used(&site, pool, &label).await.unwrap();
    assert_eq!(used, 100, "of the member's own");
    let own = CellKey { tenant: site, ..march };
    let totals = cluster.world.ledger.window_totals(&[own]).await.unwrap();
    assert_eq!(totals[0].as_ref().map_or(0, |totals| totals.used), 0, "of its plan's limit");
    sidecar.process.stop();
}

/// Waits until the sidecar has live counters, and then until it has dropped them all.
async fn until_dropped(cluster: &Cluster) {
    for has_counters in [true, false] {
        let started = Instant::now();
        while cluster.get("a", "/metrics").contains("\ntollgate_counters_live 0\n") == has_counters
        {
            assert!(started.elapsed() < PATIENCE, "has counters is not {has_counters}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
