//! A pool's size changes while its members use it.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use tollgate::{
    domain::{cell_key::CellKey, ids::TenantId},
    proto::v1::Mode,
};

use super::cluster::{Cluster, Sidecar, event};

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
    sidecars: [Sidecar; 2],
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
        let sidecars = [cluster.start("a").await, cluster.start("b").await];
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

    async fn both_have(&self, class: Option<&str>, seats: i64) {
        let key = CellKey {
            tenant: TenantId::of_pool(self.pool.parse().unwrap(), class),
            meter: "seats".parse().unwrap(),
            subject: None,
            label: "lifetime:0:0".parse().unwrap(),
        };
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
