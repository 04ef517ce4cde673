//! A pool's size changes while its members use it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use jiff::Timestamp;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tollgate::{
    domain::{
        cell_key::CellKey,
        ids::{RunId, TenantId},
        pool::Pool,
    },
    proto::v1::{Mode, RecordUsageRequest},
};
use uuid::Uuid;

use super::cluster::{Cluster, Sidecar, event, quota};

/// What a busy machine may need for anything.
const PATIENCE: Duration = Duration::from_secs(60);

const CATALOG: &str = r"
catalog: shared_seats
title: Shared seats
currency: USD
meters:
  - { name: calls, title: Calls, kind: counter, unit: call, period: month }
  - { name: seats, title: Seats, kind: level, unit: seat }
plans:
  - name: basic
    title: Basic
    prices: { monthly: 0 }
    limits: { calls: 10000, seats: 1 }
pools:
  - name: seats
    meter: seats
    size: 10
    plans: [basic]
    priorities:
      - { name: shop, keeps_back_percent: 20 }
      - { name: site }
";

/// A pool of 10 seats, of which the class of the member `shop` keeps back two.
struct Agency {
    cluster: Cluster,
    pool: String,
    sidecars: [Sidecar; 3],
}

impl Agency {
    async fn start() -> Self {
        let cluster = Cluster::with_catalog("shared_seats", CATALOG).await;
        let clock: Timestamp = "2026-03-10T00:00:00Z".parse().unwrap();
        let tenants = [("shop", "basic"), ("site", "basic")];
        cluster.world.tenants_of("agency", clock, tenants).await;
        let printed = cluster.operate(&["pool", "create", "agency", "seats", "--json"]);
        let created: Value = serde_json::from_str(&printed).unwrap();
        let pool = created["pool"].as_str().unwrap().to_owned();
        for member in ["shop", "site"] {
            cluster.operate(&["pool", "add-member", &pool, "--class", member, member]);
        }
        let sidecars =
            [cluster.start("a").await, cluster.start("b").await, cluster.start("c").await];
        Self { cluster, pool, sidecars }
    }

    /// Gives the pool another size, and waits until every sidecar has it.
    async fn resize(&self, size: i64) {
        self.cluster.operate(&["pool", "resize", &self.pool, &size.to_string()]);
        let started = Instant::now();
        for sidecar in &self.sidecars {
            while sidecar.usage("shop", "seats").await.limit != size {
                assert!(started.elapsed() < PATIENCE, "the size is not {size}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    fn cell(&self, class: Option<&str>) -> CellKey {
        CellKey {
            tenant: TenantId::of_pool(self.pool.parse().unwrap(), class),
            meter: "seats".parse().unwrap(),
            subject: None,
            label: "lifetime:0:0".parse().unwrap(),
        }
    }

    async fn stored(&self) -> Pool {
        let ledger = &self.cluster.world.ledger;
        ledger.pool(self.pool.parse().unwrap()).await.unwrap().unwrap().pool
    }

    /// What is taken of the pool or held, once both its counters go by the size in force.
    async fn taken(&self) -> i64 {
        let (resized, started) = (self.stored().await.version, Instant::now());
        let mut taken = 0;
        for class in [None, Some("shop")] {
            loop {
                let counter = self.cluster.inspect(&self.cell(class)).await;
                let Some(counter) = counter else { break };
                if counter.ceiling.is_some_and(|ceiling| ceiling.version >= resized) {
                    taken += counter.taken();
                    break;
                }
                assert!(started.elapsed() < PATIENCE, "{counter:?} is behind {resized}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        taken
    }

    async fn both_have(&self, class: Option<&str>, seats: i64) {
        let key = self.cell(class);
        self.cluster.wait_until_ledger_has(&key, seats).await;
        self.cluster.wait_until_redis_has(&key, seats).await;
    }

    /// Has `member` take one seat at a time from both sidecars, until it has had `seats` in all and
    /// is denied another; more than those it must never have.
    async fn takes_in_all(&self, member: &str, seats: i64) {
        let (mut taken, mut is_denied, started) = (0, false, Instant::now());
        // A denial is remembered for up to a second.
        while taken < seats || !is_denied {
            is_denied = true;
            for sidecar in &self.sidecars {
                while sidecar.check(Mode::Consume, member, "seats", 1).await.unwrap().allowed {
                    (taken, is_denied) = (taken + 1, false);
                    assert!(taken <= seats, "{taken} of {seats} seats are taken");
                }
            }
            assert!(started.elapsed() < PATIENCE, "{taken} of {seats} seats can be had");
        }
    }

    fn stop(self) {
        self.sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_leaves_nothing_for_a_class_is_forgotten_with_the_next_one() {
    let agency = Agency::start().await;
    agency.takes_in_all("shop", 10).await;
    agency.resize(4).await;
    // Should the counters be lost, they are not built anew by the size before.
    let floors = agency
        .cluster
        .world
        .ledger
        .floors(&[agency.cell(Some("shop"))], RunId(Uuid::nil()))
        .await
        .unwrap();
    assert_eq!(floors[0].ceiling_version, agency.stored().await.version);
    agency.takes_in_all("shop", 0).await;
    agency.resize(10).await;
    // The two seats that the class kept back are taken, though its cell had none for a while.
    agency.takes_in_all("site", 0).await;
    agency.takes_in_all("shop", 0).await;

    // What was drawn on a cell comes free also while its share is 0.
    agency.resize(4).await;
    agency.sidecars[0].record(vec![event("shop", "seats", -10, "all")]).await.unwrap();
    agency.both_have(None, 0).await;
    agency.both_have(Some("shop"), 0).await;
    agency.resize(10).await;
    agency.takes_in_all("site", 8).await;
    agency.takes_in_all("shop", 2).await;
    agency.both_have(None, 8).await;
    agency.both_have(Some("shop"), 2).await;
    agency.stop();
}

/// What is certainly in use, and the most that may be.
struct Count {
    used: i64,
    most: i64,
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_that_follow_each_other_under_load_are_kept_to() {
    let agency = Agency::start().await;
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let count = Arc::new(Mutex::new(Count { used: 0, most: 10 }));
    let is_over = Arc::new(AtomicBool::new(false));
    let members = (0..6).map(|number| {
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(number));
        let clients = agency.sidecars.each_ref().map(|sidecar| sidecar.client.clone());
        let (count, is_over) = (count.clone(), is_over.clone());
        let tenant = if number < 3 { "shop" } else { "site" };
        tokio::spawn(async move {
            let add = |seats: i64| {
                let mut count = count.lock().unwrap();
                count.used += seats;
                assert!(count.used <= count.most, "{} of {} are used", count.used, count.most);
            };
            let (mut own, mut step) = (0, 0);
            loop {
                let is_over = is_over.load(Ordering::SeqCst);
                if is_over && own <= 2 {
                    return;
                }
                let mut client = clients[random.random_range(0..3)].clone();
                let amount = random.random_range(1..=4);
                step += 1;
                if own > 0 && (is_over || random.random_range(0..3) == 0) {
                    let amount = amount.min(own);
                    own -= amount;
                    add(-amount);
                    let less = event(tenant, "seats", -amount, &format!("less-{number}-{step}"));
                    let request =
                        RecordUsageRequest { events: vec![less], ..RecordUsageRequest::default() };
                    client.record_usage(request).await.unwrap();
                } else {
                    let request = quota(Mode::Consume, tenant, "seats", amount);
                    if client.check_quota(request).await.unwrap().into_inner().allowed {
                        own += amount;
                        add(amount);
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    });
    let members: Vec<_> = members.collect();
    let mut random = StdRng::seed_from_u64(!seed);
    for _ in 0..8 {
        let size = random.random_range(4..=60);
        // Until it is in force everywhere, the one before may be.
        let raise = |count: &mut Count| count.most = count.most.max(size);
        raise(&mut count.lock().unwrap());
        agency.resize(size).await;
        let taken = agency.taken().await;
        println!("{size}: {taken} are taken or held");
        let lower = |count: &mut Count| {
            count.most = size.max(taken);
            assert!(count.used <= count.most, "{} of {} are used", count.used, count.most);
        };
        lower(&mut count.lock().unwrap());
        // Some come while the pool is settling, some after.
        tokio::time::sleep(Duration::from_millis(random.random_range(0..2_500))).await;
    }
    is_over.store(true, Ordering::SeqCst);
    join_all(members).await.into_iter().for_each(|end| end.unwrap());
    // At quiet all of a size can be had, by the highest class, and no more.
    count.lock().unwrap().most = i64::MAX;
    agency.resize(20).await;
    let used = count.lock().unwrap().used;
    agency.takes_in_all("shop", 20 - used).await;
    let started = Instant::now();
    while agency.stored().await.is_settling() {
        assert!(started.elapsed() < PATIENCE, "{:?}", agency.stored().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    agency.stop();
}
