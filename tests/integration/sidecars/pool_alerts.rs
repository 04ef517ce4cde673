//! Alerts of pools: each class' share has its thresholds, told once and to every member of the class.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use tollgate::{
    domain::ids::TenantId,
    ledger::alerts::NotedAlert,
    proto::v1::{Alert, AlertKind, GetUsageRequest, Mode},
};

use super::cluster::{Cluster, Sidecar};

const CATALOG: &str = r"
catalog: alerting_pools
currency: USD
meters:
  - { name: calls, kind: counter, unit: call, period: month }
  - { name: traffic, kind: counter, unit: byte, period: month }
plans:
  - name: basic
    prices: { monthly: 0 }
    limits: { calls: 10000, traffic: { limit: 10, alerts: [50] } }
pools:
  - name: shared
    meter: traffic
    size: 1000
    plans: [basic]
    priorities:
      - { name: shop, keeps_back_percent: 20 }
      - { name: site }
alerts:
  thresholds: [80, 100]
  exceeded_action: Change to a larger plan.
";
const PATIENCE: Duration = Duration::from_secs(60);

/// What was noted of the pool: class, percentage, and whether it stands; in order.
async fn noted(cluster: &Cluster, pool: &str) -> (Vec<(String, bool)>, Vec<NotedAlert>) {
    let owner = TenantId::of_pool(pool.parse().unwrap(), None);
    let noted = cluster.world.ledger.alerts_of(&owner, false, 100).await.unwrap();
    let brief = noted.iter().map(|alert| {
        let class = alert.key.subject.as_ref().unwrap();
        (format!("{class} {}", alert.percent), alert.resolved_at.is_none())
    });
    let mut brief: Vec<_> = brief.collect();
    brief.sort();
    (brief, noted)
}

async fn until_noted(cluster: &Cluster, pool: &str, wanted: &[(&str, bool)]) -> Vec<NotedAlert> {
    let wanted: Vec<_> = wanted.iter().map(|(name, is)| ((*name).to_owned(), *is)).collect();
    let started = Instant::now();
    loop {
        let (brief, noted) = noted(cluster, pool).await;
        if brief == wanted {
            return noted;
        }
        assert!(started.elapsed() < PATIENCE, "{brief:?}, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn told(sidecar: &Sidecar, tenant: &str) -> Vec<Alert> {
    let request = GetUsageRequest { tenant: tenant.into(), ..Default::default() };
    sidecar.client.clone().get_usage(request).await.unwrap().into_inner().alerts
}

/// Waits until a member is told these percentages, each with the time that it was noted at.
async fn until_told(sidecar: &Sidecar, tenant: &str, wanted: &[&str]) -> Vec<Alert> {
    let started = Instant::now();
    loop {
        let told = told(sidecar, tenant).await;
        let percents: Vec<_> = told.iter().map(|alert| alert.threshold_percent.as_str()).collect();
        if percents == wanted && told.iter().all(|alert| alert.raised_at.is_some()) {
            return told;
        }
        assert!(started.elapsed() < PATIENCE, "{tenant}: {told:?}, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pools_thresholds_are_told_once_and_to_every_member_of_the_class() {
    let mut cluster = Cluster::with_catalog("alerting_pools", CATALOG).await;
    cluster.flag("--enforcement-recall-wait-ms", "8000");
    let clock: Timestamp = "2026-03-10T00:00:00Z".parse().unwrap();
    let tenants = ["shop1", "site1", "site2"].map(|tenant| (tenant, "basic"));
    cluster.world.tenants_of("agency", clock, tenants).await;
    let printed = cluster.operate(&["pool", "create", "agency", "shared", "--json"]);
    let created: Value = serde_json::from_str(&printed).unwrap();
    let pool = created["pool"].as_str().unwrap();
    for (class, members) in [("shop", &["shop1"][..]), ("site", &["site1", "site2"][..])] {
        cluster.operate(&[&["pool", "add-member", pool, "--class", class], members].concat());
    }
    let sidecars = [cluster.start("a").await, cluster.start("b").await];

    // Neither of the two gets to 80 % of the 800 that sites may use, nor does any sidecar.
    for (sidecar, tenant) in sidecars.iter().zip(["site1", "site2"]) {
        assert!(sidecar.check(Mode::Consume, tenant, "traffic", 320).await.unwrap().allowed);
    }
    let noted = until_noted(&cluster, pool, &[("site 80", true)]).await;
    assert_eq!((noted[0].limit, noted[0].used), (800, 640));
    for sidecar in &sidecars {
        for tenant in ["site1", "site2"] {
            let told = until_told(sidecar, tenant, &["80"]).await;
            assert_eq!(
                (told[0].meter.as_str(), told[0].kind()),
                ("traffic", AlertKind::ApproachingLimit)
            );
            assert_eq!(told[0].recommended_action, "Have the pool made larger, or use less of it.");
        }
        assert_eq!(told(sidecar, "shop1").await, [], "640 of the 1,000 that it may use");
    }
    // The rest of what sites may use is 80 % of what shops may.
    assert_eq!(sidecars[1].spend_all("site2", "traffic").await, 160);
    let all = [("shop 80", true), ("site 100", true), ("site 80", true)];
    until_noted(&cluster, pool, &all).await;
    until_told(&sidecars[0], "shop1", &["80"]).await;
    until_told(&sidecars[0], "site1", &["80", "100"]).await;
    let shown: Value =
        serde_json::from_str(&cluster.operate(&["pool", "show", pool, "--json"])).unwrap();
    assert_eq!(shown["alerts"].as_array().unwrap().len(), 3, "{shown}");
    assert!(
        shown["alerts"].as_array().unwrap().iter().any(|alert| alert["class"] == json!("shop"))
    );

    // A larger pool resolves them; a smaller one has the same rows stand again.
    cluster.operate(&["pool", "resize", pool, "10000"]);
    let resolved = all.map(|(name, _)| (name, false));
    until_noted(&cluster, pool, &resolved).await;
    until_told(&sidecars[0], "site1", &[]).await;
    cluster.operate(&["pool", "resize", pool, "1000"]);
    until_noted(&cluster, pool, &all).await;
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}
