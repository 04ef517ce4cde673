//! Pools: one allowance, many members, and a share kept back for those that come first.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use jiff::Timestamp;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tollgate::{
    domain::{cell_key::CellKey, ids::TenantId},
    ledger::changes::Author,
    proto::v1::{Mode, QuotaReason, RecordUsageRequest, ReleaseReservationRequest, UsageEvent},
};

use super::cluster::{Cluster, Sidecar, event, quota};

/// 1 GB.
const GB: i64 = 1_000_000_000;
const MEMBERS: usize = 20;
/// Longer than any hiccup of a busy machine, so that a denial is a proof.
const RECALL_WAIT_MS: &str = "8000";
/// What a busy machine may need for anything.
const PATIENCE: Duration = Duration::from_secs(60);

const CATALOG: &str = r"
catalog: hosting_pools
title: Hosting with pools
currency: USD
meters:
  - { name: calls, title: Calls, kind: counter, unit: call, period: month }
  - { name: disk, title: Disk, kind: level, unit: byte, units: { GB: 1000000000 } }
  - { name: traffic, title: Traffic, kind: counter, unit: byte, period: month, units: { GB: 1000000000 } }
plans:
  - name: basic
    title: Basic
    prices: { monthly: 0 }
    limits: { calls: 10000, disk: 10 GB, traffic: 10 GB }
pools:
  - name: agency_disk
    meter: disk
    size: 500 GB
    plans: [basic]
    max_members: 20
    priorities:
      - { name: shop, keeps_back_percent: 20 }
      - { name: site }
  - { name: agency_traffic, meter: traffic, size: 5 GB, plans: [basic] }
";

/// An agency with a pool, ten members of each class, and three sidecars.
struct Agency {
    cluster: Cluster,
    pool: String,
    sidecars: [Sidecar; 3],
}

fn member(number: usize) -> String {
    format!("client{number:02}")
}

impl Agency {
    async fn start() -> Self {
        let mut cluster = Cluster::with_catalog("hosting_pools", CATALOG).await;
        cluster.flag("--enforcement-recall-wait-ms", RECALL_WAIT_MS);
        let names: Vec<_> = (0..MEMBERS).map(member).collect();
        let clock: Timestamp = "2026-03-10T00:00:00Z".parse().unwrap();
        let tenants = names.iter().map(|name| (name.as_str(), "basic"));
        cluster.world.tenants_of("agency", clock, tenants).await;
        let printed = cluster.operate(&["pool", "create", "agency", "agency_disk", "--json"]);
        let created: Value = serde_json::from_str(&printed).unwrap();
        let pool = created["pool"].as_str().unwrap().to_owned();
        for (class, half) in [("shop", &names[..10]), ("site", &names[10..])] {
            let arguments = ["pool", "add-member", &pool, "--class", class];
            let members: Vec<_> = half.iter().map(String::as_str).collect();
            cluster.operate(&[&arguments[..], &members].concat());
        }
        let sidecars =
            [cluster.start("a").await, cluster.start("b").await, cluster.start("c").await];
        Self { cluster, pool, sidecars }
    }

    /// Has the members of a class consume 1 GB at a time through all sidecars until each is denied;
    /// what was admitted.
    async fn exhaust(&self, members: std::ops::Range<usize>) -> i64 {
        let admitted = Arc::new(AtomicI64::new(0));
        let clients = members.flat_map(|number| {
            self.sidecars.iter().map(move |sidecar| (number, sidecar.client.clone()))
        });
        let clients = clients.map(|(number, mut client)| {
            let admitted = admitted.clone();
            tokio::spawn(async move {
                let tenant = member(number);
                loop {
                    let request = quota(Mode::Consume, &tenant, "disk", GB);
                    let answer = client.check_quota(request).await.unwrap().into_inner();
                    if !answer.allowed {
                        assert_eq!(answer.reason(), QuotaReason::LimitExceeded, "{answer:?}");
                        return;
                    }
                    admitted.fetch_add(1, Ordering::SeqCst);
                }
            })
        });
        join_all(clients.collect::<Vec<_>>()).await.into_iter().for_each(|end| end.unwrap());
        admitted.load(Ordering::SeqCst)
    }

    /// Gives the pool another size, and waits until every sidecar has it.
    async fn resize(&self, gigabytes: i64) {
        let size = (gigabytes * GB).to_string();
        self.cluster.operate(&["pool", "resize", &self.pool, &size]);
        let resized = Instant::now();
        for sidecar in &self.sidecars {
            // Of the highest class, who may use all of it.
            while sidecar.usage(&member(0), "disk").await.limit != gigabytes * GB {
                assert!(resized.elapsed() < PATIENCE, "the size is not {gigabytes}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        println!("known everywhere after {:?}", resized.elapsed());
    }

    fn shown(&self) -> Value {
        let printed = self.cluster.operate(&["pool", "show", &self.pool, "--json"]);
        serde_json::from_str(&printed).unwrap()
    }

    /// Has members delete so much in all, each at most what it has there.
    async fn delete(&self, sidecar: &Sidecar, members: std::ops::Range<usize>, gigabytes: i64) {
        let shown = self.shown();
        let used_by = |name: &str| {
            let members = shown["members"].as_array().unwrap();
            let found = members.iter().find(|shown| shown["tenant"] == name).unwrap();
            found["used"].as_i64().unwrap() / GB
        };
        let mut left = gigabytes;
        for name in members.map(member) {
            let less = left.min(used_by(&name));
            if less > 0 {
                let deleted = event(&name, "disk", -less * GB, "deleted");
                sidecar.record(vec![deleted]).await.unwrap();
                left -= less;
            }
        }
        assert_eq!(left, 0, "they had less than {gigabytes} GB");
    }

    fn cell(&self, class: Option<&str>) -> CellKey {
        CellKey {
            tenant: TenantId::of_pool(self.pool.parse().unwrap(), class),
            meter: "disk".parse().unwrap(),
            subject: None,
            label: "lifetime:0:0".parse().unwrap(),
        }
    }

    async fn both_have(&self, class: Option<&str>, gigabytes: i64) {
        let key = self.cell(class);
        self.cluster.wait_until_ledger_has(&key, gigabytes * GB).await;
        self.cluster.wait_until_redis_has(&key, gigabytes * GB).await;
    }

    /// Waits until the ledger has all that was admitted.
    async fn all_is_told(&self, gigabytes: i64) {
        let started = Instant::now();
        loop {
            let shown = self.shown();
            let members = shown["members"].as_array().unwrap().iter();
            let used: i64 = members.map(|member| member["used"].as_i64().unwrap()).sum();
            if used == gigabytes * GB {
                return;
            }
            assert!(started.elapsed().as_secs() < 60, "{used} of {gigabytes} GB are told");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn stop(self) {
        self.sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_admits_exactly_its_size_and_holds_the_share_kept_back() {
    let agency = Agency::start().await;
    // The lower class stops at what is kept back; the higher one, asking last, gets all of it.
    assert_eq!(agency.exhaust(10..20).await, 400);
    assert_eq!(agency.exhaust(0..10).await, 100);
    assert_eq!(agency.exhaust(0..MEMBERS).await, 0);
    agency.both_have(None, 400).await;
    agency.both_have(Some("shop"), 100).await;

    let shown = agency.shown();
    let members = shown["members"].as_array().unwrap();
    let used: i64 = members.iter().map(|member| member["used"].as_i64().unwrap()).sum();
    assert_eq!((members.len(), used), (MEMBERS, 500 * GB));
    let usage = agency.sidecars[0].usage(&member(15), "disk").await;
    let pool = usage.pool.unwrap();
    assert_eq!((pool.class.as_str(), pool.limit, pool.used), ("site", 400 * GB, 400 * GB));
    assert_eq!((usage.limit, usage.remaining), (400 * GB, 0));
    let shown_of = members.iter().find(|shown| shown["tenant"] == member(15).as_str()).unwrap();
    // Absent where the ledger is slow to answer, as on a busy machine.
    assert!(
        pool.member_used.is_none_or(|used| Some(used) == shown_of["used"].as_i64()),
        "{pool:?}"
    );

    // What a higher member deletes is kept back again, for its class alone.
    let sidecar = &agency.sidecars[1];
    agency.delete(sidecar, 0..10, 5).await;
    agency.both_have(Some("shop"), 95).await;
    assert!(!sidecar.check(Mode::Consume, &member(12), "disk", GB).await.unwrap().allowed);
    let back = sidecar.check(Mode::Consume, &member(4), "disk", 5 * GB).await.unwrap();
    assert!(back.allowed, "{back:?}");
    agency.both_have(Some("shop"), 100).await;
    agency.both_have(None, 400).await;
    agency.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn both_classes_at_once_never_pass_the_size_and_a_killed_sidecar_strands_nothing() {
    let agency = Agency::start().await;
    let (sites, shops) = tokio::join!(agency.exhaust(10..20), agency.exhaust(0..10));
    assert!(sites <= 400, "{sites}");
    assert_eq!(sites + shops, 500);
    agency.all_is_told(sites + shops).await;
    agency.delete(&agency.sidecars[1], 0..10, 30).await;
    let Agency { cluster, pool, sidecars: [a, b, c] } = agency;
    let agency_cells = [None, Some("shop")].map(|class| CellKey {
        tenant: TenantId::of_pool(pool.parse().unwrap(), class),
        meter: "disk".parse().unwrap(),
        subject: None,
        label: "lifetime:0:0".parse().unwrap(),
    });
    cluster.wait_until_ledger_has(&agency_cells[1], 70 * GB).await;
    cluster.wait_until_redis_has(&agency_cells[1], 70 * GB).await;
    // A denial is remembered for up to a second.
    let started = Instant::now();
    while !a.check(Mode::Consume, &member(2), "disk", GB).await.unwrap().allowed {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    a.process.kill();
    let a = cluster.start("a").await;
    let mut admitted = 1;
    let started = Instant::now();
    while admitted < 30 {
        for sidecar in [&c, &a, &b] {
            while sidecar.check(Mode::Consume, &member(5), "disk", GB).await.unwrap().allowed {
                admitted += 1;
            }
        }
        assert!(started.elapsed() < PATIENCE, "{admitted} admitted");
    }
    assert_eq!(admitted, 30);
    cluster.wait_until_ledger_has(&agency_cells[1], 100 * GB).await;
    cluster.wait_until_redis_has(&agency_cells[1], 100 * GB).await;
    [a, b, c].into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_size_is_in_force_in_the_middle_of_things() {
    let agency = Agency::start().await;
    assert_eq!(agency.exhaust(10..20).await, 400);
    agency.resize(600).await;
    assert_eq!(agency.exhaust(10..20).await, 80);
    agency.resize(550).await;
    // What is in common has too much for a smaller one: it comes off the share kept back.
    assert_eq!(agency.exhaust(10..20).await, 0);
    assert_eq!(agency.exhaust(0..10).await, 70);
    agency.both_have(None, 480).await;
    agency.both_have(Some("shop"), 70).await;
    assert_eq!(agency.shown()["is_settling"], true);
    // As it comes free both shares are what they should be.
    agency.delete(&agency.sidecars[2], 10..20, 60).await;
    let (mut admitted, started) = (0, Instant::now());
    while admitted < 60 {
        admitted += agency.exhaust(0..MEMBERS).await;
        assert!(started.elapsed() < PATIENCE, "{admitted} of 60 GB can be had");
    }
    assert_eq!(admitted, 60);
    agency.both_have(None, 440).await;
    agency.both_have(Some("shop"), 110).await;
    assert_eq!(agency.shown()["is_settling"], false);
    agency.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_level_never_passes_the_size_whatever_members_do_at_once() {
    let agency = Agency::start().await;
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    // What is certainly used at a moment, of all and of the lower class: what was acknowledged, less
    // what may have been given back.
    let [all, sites] = [Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0))];
    let members = (0..MEMBERS).map(|number| {
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(number as u64));
        let clients = agency.sidecars.each_ref().map(|sidecar| sidecar.client.clone());
        let (all, sites) = (all.clone(), sites.clone());
        tokio::spawn(async move {
            let tenant = member(number);
            let add = |gigabytes: i64| {
                let now = all.fetch_add(gigabytes, Ordering::SeqCst) + gigabytes;
                assert!(now <= 500, "{now} GB are used");
                if number >= 10 {
                    let now = sites.fetch_add(gigabytes, Ordering::SeqCst) + gigabytes;
                    assert!(now <= 400, "{now} GB are used by the lower class");
                }
            };
            let mut own = 0;
            for step in 0..40 {
                let mut client = clients[random.random_range(0..3)].clone();
                let amount = random.random_range(1..=9);
                match random.random_range(0..4) {
                    0 if own > 0 => {
                        let amount = amount.min(own);
                        own -= amount;
                        add(-amount);
                        let less = event(&tenant, "disk", -amount * GB, &format!("less-{step}"));
                        let request = RecordUsageRequest {
                            events: vec![UsageEvent { tenant: tenant.clone(), ..less }],
                            ..RecordUsageRequest::default()
                        };
                        client.record_usage(request).await.unwrap();
                    }
                    1 => {
                        let request = quota(Mode::Reserve, &tenant, "disk", amount * GB);
                        let held = client.check_quota(request).await.unwrap().into_inner();
                        if let Some(held) = held.reservation {
                            add(amount);
                            add(-amount);
                            let request = ReleaseReservationRequest {
                                tenant: tenant.clone(),
                                reservation_id: held.id,
                            };
                            client.release_reservation(request).await.unwrap();
                        }
                    }
                    _ => {
                        let request = quota(Mode::Consume, &tenant, "disk", amount * GB);
                        if client.check_quota(request).await.unwrap().into_inner().allowed {
                            own += amount;
                            add(amount);
                        }
                    }
                }
            }
        })
    });
    join_all(members.collect::<Vec<_>>()).await.into_iter().for_each(|end| end.unwrap());
    // Once all is told, the rest can be had by the highest class, to the last unit.
    let started = Instant::now();
    let mut used = all.load(Ordering::SeqCst);
    while used < 500 {
        used += agency.exhaust(0..1).await;
        assert!(started.elapsed() < PATIENCE, "{used} of 500 GB can be had");
    }
    assert_eq!(used, 500);
    agency.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_draws_on_the_pool_until_it_leaves() {
    let agency = Agency::start().await;
    let printed = agency.cluster.operate(&["pool", "create", "agency", "agency_traffic", "--json"]);
    let created: Value = serde_json::from_str(&printed).unwrap();
    let pool = created["pool"].as_str().unwrap();
    agency.cluster.operate(&["pool", "add-member", pool, &member(0), &member(1)]);
    let sidecar = &agency.sidecars[0];
    let until_limit_is = async |limit: i64| {
        let started = Instant::now();
        while sidecar.usage(&member(0), "traffic").await.limit != limit {
            assert!(started.elapsed() < PATIENCE, "the limit is not {limit}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    until_limit_is(5 * GB).await;
    // Usage after the fact, a hold and a check all draw on it.
    sidecar.record(vec![event(&member(0), "traffic", GB, "fact")]).await.unwrap();
    let held = sidecar.check(Mode::Reserve, &member(1), "traffic", GB).await.unwrap();
    assert_eq!(held.reason(), QuotaReason::WithinLimit);
    // A look tells how it stands as soon as the shared counters have told of the hold.
    let started = Instant::now();
    loop {
        let look = sidecar.check(Mode::Check, &member(0), "traffic", 4 * GB).await.unwrap();
        if (look.reason(), look.remaining) == (QuotaReason::LimitExceeded, 3 * GB) {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{look:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(sidecar.check(Mode::Consume, &member(0), "traffic", 3 * GB).await.unwrap().allowed);
    // Who has something of a level in its pool cannot leave that: it could not come free there.
    assert!(sidecar.check(Mode::Consume, &member(0), "disk", GB).await.unwrap().allowed);
    agency.both_have(None, 1).await;
    let tenant = TenantId::new(member(0)).unwrap();
    let disk = agency.cluster.world.ledger.pool(agency.pool.parse().unwrap()).await.unwrap();
    let author = Author { actor: "test", reason: "" };
    let ledger = &agency.cluster.world.ledger;
    let refused = ledger.remove_pool_member(&disk.unwrap(), &tenant, author).await.unwrap_err();
    assert!(refused.to_string().contains("1000000000 of disk"), "{refused}");
    agency.cluster.operate(&["pool", "remove-member", pool, &member(0)]);
    until_limit_is(10 * GB).await;
    let own = sidecar.check(Mode::Consume, &member(0), "traffic", 10 * GB).await.unwrap();
    assert!(own.allowed, "its own limit is untouched: {own:?}");
    agency.stop();
}
