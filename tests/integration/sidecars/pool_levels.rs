//! A member's word about its own level moves nothing of the other members'.

use jiff::Timestamp;
use serde_json::Value;
use tollgate::{
    domain::{cell_key::CellKey, ids::TenantId},
    proto::v1::{CheckQuotaRequest, Durability, Mode, QuotaReason},
};

use super::cluster::{Cluster, event, quota};

const CATALOG: &str = r"
catalog: shared_disk
title: Shared disk
currency: USD
meters:
  - { name: calls, title: Calls, kind: counter, unit: call, period: month }
  - { name: disk, title: Disk, kind: level, unit: gigabyte }
plans:
  - name: basic
    title: Basic
    prices: { monthly: 0 }
    limits: { calls: 10000, disk: -1 }
pools:
  - { name: disk, meter: disk, size: 10, plans: [basic] }
";

/// Two members of a pool of 10; the key of its counter.
async fn agency(cluster: &Cluster) -> CellKey {
    let clock: Timestamp = "2026-03-10T00:00:00Z".parse().unwrap();
    let tenants = [("careless", "basic"), ("careful", "basic")];
    cluster.world.tenants_of("agency", clock, tenants).await;
    let printed = cluster.operate(&["pool", "create", "agency", "disk", "--json"]);
    let created: Value = serde_json::from_str(&printed).unwrap();
    let pool = created["pool"].as_str().unwrap();
    cluster.operate(&["pool", "add-member", pool, "careless", "careful"]);
    CellKey {
        tenant: TenantId::of_pool(pool.parse().unwrap(), None),
        meter: "disk".parse().unwrap(),
        subject: None,
        label: "lifetime:0:0".parse().unwrap(),
    }
}

/// What the ledger has of a member's use of its pool.
fn used_by(cluster: &Cluster, common: &CellKey, tenant: &str) -> i64 {
    let pool = common.tenant.pool().unwrap().to_string();
    let shown = cluster.operate(&["pool", "show", &pool, "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let members = shown["members"].as_array().unwrap();
    members.iter().find(|member| member["tenant"] == tenant).unwrap()["used"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lowers_too_much_frees_only_its_own() {
    let cluster = Cluster::with_catalog("shared_disk", CATALOG).await;
    let common = agency(&cluster).await;
    let (a, b) = (cluster.start("a").await, cluster.start("b").await);
    let admitted = async |sidecar: &super::cluster::Sidecar, tenant: &str, amount: i64| {
        sidecar.check(Mode::Consume, tenant, "disk", amount).await.unwrap().allowed
    };
    assert!(admitted(&a, "careless", 4).await && admitted(&b, "careful", 6).await);
    // The same decrease twice, without a key to know it by.
    for _ in 0..2 {
        let less = event("careless", "disk", -4, "");
        b.record(vec![less]).await.unwrap();
    }
    let started = std::time::Instant::now();
    while used_by(&cluster, &common, "careless") != -4 {
        assert!(started.elapsed().as_secs() < 60, "the decreases are not in the ledger");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    cluster.wait_until_redis_has(&common, 6).await;
    assert_eq!(b.spend_all("careful", "disk").await, 4);
    let denied = a.check(Mode::Consume, "careful", "disk", 1).await.unwrap();
    assert_eq!(denied.reason(), QuotaReason::LimitExceeded);
    // What came free of nobody's is the careless member's debt: more of the pool than 10 is never used.
    cluster.wait_until_ledger_has(&common, 10).await;
    assert!(!admitted(&a, "careless", 1).await);
    [a, b].into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_of_a_pool_is_written_before_it_is_answered_on_any_plan() {
    let cluster = Cluster::with_catalog("shared_disk", CATALOG).await;
    agency(&cluster).await;
    let sidecar = cluster.start("a").await;
    let request = CheckQuotaRequest {
        durability: Durability::Memory.into(),
        ..quota(Mode::Consume, "careful", "disk", 1)
    };
    let refused = sidecar.client.clone().check_quota(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("a hard limit or a pool"), "{refused}");
    sidecar.process.stop();
}
