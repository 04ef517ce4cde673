//! Features of tenants that are changed while sidecars serve them.

use std::time::{Duration, Instant};

use tollgate::proto::v1::{CheckFeatureRequest, FeatureAccess, FeatureReason, feature_value::Kind};
use tonic::Code;

use super::cluster::{Cluster, Sidecar};

const CATALOG: &str = r"
catalog: proving
currency: USD
meters:
  - { name: calls, kind: counter, unit: call, period: month }
attributes: [country]
features:
  - name: editor
    targeting: [{ when: { country: [GB] } }]
  - { name: seats, type: number, default: 3 }
  - { name: old, sunset: { on: 2020-01-01 } }
plans:
  - { name: basic, prices: { monthly: 0 }, limits: { calls: 10000 }, features: { old: true } }
  - { name: pro, prices: { monthly: 9 }, limits: { calls: 10000 }, features: { editor: true } }
";

/// How long a change may take to reach a sidecar. The goal is one second; a busy machine has more
/// to do than that.
const REACHED_MAX: Duration = Duration::from_secs(30);

async fn ask(sidecar: &Sidecar, feature: &str, country: &str) -> FeatureAccess {
    let request = CheckFeatureRequest {
        tenant: "acme".into(),
        feature: feature.into(),
        attributes: [("country".into(), country.into())].into(),
        ..Default::default()
    };
    sidecar.client.clone().check_feature(request).await.unwrap().into_inner().feature.unwrap()
}

/// Waits until every sidecar says `expected` of a feature.
async fn wait_until(sidecars: &[Sidecar], feature: &str, expected: (bool, FeatureReason)) {
    let started = Instant::now();
    for sidecar in sidecars {
        loop {
            let access = ask(sidecar, feature, "FR").await;
            if (access.enabled, access.reason()) == expected {
                break;
            }
            assert!(started.elapsed() < REACHED_MAX, "{access:?}, not {expected:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_override_by_command_reaches_every_sidecar_and_goes_again() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await];
    let access = ask(&sidecars[0], "editor", "FR").await;
    assert_eq!((access.enabled, access.reason()), (false, FeatureReason::NotInPlan));
    assert_eq!(access.available_in_plan, "pro");
    let targeted = ask(&sidecars[1], "editor", "GB").await;
    assert_eq!((targeted.enabled, targeted.reason()), (true, FeatureReason::Targeting));
    let old = ask(&sidecars[0], "old", "GB").await;
    assert_eq!((old.enabled, old.reason()), (false, FeatureReason::Sunset));
    wait_until(&sidecars, "seats", (true, FeatureReason::Default)).await;

    let with_expiry = ["--reason", "pilot", "--expires", "2100-01-01T00:00:00Z"];
    let set = ["feature", "override", "acme", "editor", "true"];
    let printed = cluster.operate(&[&set[..], &with_expiry[..]].concat());
    assert_eq!(printed, "tenant acme has editor = true until 2100-01-01T00:00:00Z\n");
    wait_until(&sidecars, "editor", (true, FeatureReason::Override)).await;
    let access = ask(&sidecars[1], "editor", "FR").await;
    assert_eq!(access.override_expires_at.unwrap().seconds, 4_102_444_800);

    let seats = ["feature", "override", "acme", "seats", "12.5", "--reason", "grown"];
    cluster.operate(&seats);
    wait_until(&sidecars, "seats", (true, FeatureReason::Override)).await;
    let value = ask(&sidecars[0], "seats", "FR").await.value.unwrap().kind;
    assert_eq!(value, Some(Kind::NumberValue(12.5)));

    let listed = cluster.operate(&["feature", "list", "acme"]);
    let line = |feature: &str| listed.lines().find(|line| line.starts_with(feature)).unwrap();
    assert!(line("editor").contains("override") && line("editor").contains("pilot"), "{listed}");
    assert!(line("old").contains("withdrawn"), "{listed}");

    let cleared = cluster.operate(&["feature", "clear", "acme", "editor"]);
    assert_eq!(cleared, "tenant acme has editor as its plan says\n");
    wait_until(&sidecars, "editor", (false, FeatureReason::NotInPlan)).await;
    let again = cluster.operate(&["feature", "clear", "acme", "editor"]);
    assert!(again.contains("nothing changed"), "{again}");
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_of_the_catalog_reaches_every_sidecar() {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await];
    wait_until(&sidecars, "editor", (false, FeatureReason::NotInPlan)).await;
    let rollout = "  - name: editor\n    rollout: { percent: 100 }\n";
    let text = CATALOG.replace("  - name: editor\n", rollout);
    cluster.world.apply("proving", &text).await;
    wait_until(&sidecars, "editor", (true, FeatureReason::InRollout)).await;
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn overrides_are_known_after_a_restart_without_postgres() {
    let (cluster, postgres) = Cluster::with_own_postgres("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecar = [cluster.start("a").await];
    wait_until(&sidecar, "editor", (false, FeatureReason::NotInPlan)).await;
    cluster.operate(&["feature", "override", "acme", "editor", "true", "--reason", "pilot"]);
    wait_until(&sidecar, "editor", (true, FeatureReason::Override)).await;
    let [sidecar] = sidecar;
    sidecar.process.stop();
    drop(postgres);
    let sidecar = cluster.start_unready("a");
    let started = Instant::now();
    loop {
        let request = CheckFeatureRequest {
            tenant: "acme".into(),
            feature: "editor".into(),
            ..Default::default()
        };
        match sidecar.client.clone().check_feature(request).await {
            Ok(answer) => {
                let access = answer.into_inner().feature.unwrap();
                assert_eq!(access.reason(), FeatureReason::Override);
                break;
            }
            Err(status) => {
                assert!(started.elapsed() < REACHED_MAX, "{status:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feature_that_there_is_not_is_not_found() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    let sidecar = cluster.start("a").await;
    let request = CheckFeatureRequest {
        tenant: "probe".into(),
        feature: "editr".into(),
        ..Default::default()
    };
    let status = sidecar.client.clone().check_feature(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("did you mean editor?"), "{}", status.message());
    sidecar.process.stop();
}
