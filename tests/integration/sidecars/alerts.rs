//! Alerts and WatchUsage through real sidecars: one row per threshold and window, seen everywhere,
//! resolved when usage falls or the limit rises.

use std::time::{Duration, Instant};

use tollgate::{
    domain::ids::TenantId,
    ledger::alerts::NotedAlert,
    proto::v1::{Alert, AlertKind, GetUsageRequest, Mode, WatchUsageRequest, WatchUsageResponse},
};
use tonic::{Code, Streaming};

use super::cluster::{Cluster, Sidecar};

const CATALOG: &str = r"
catalog: alerting
title: Alerting
currency: USD
meters:
  - { name: calls, title: Calls, kind: counter, unit: call, period: month }
  - { name: seats, title: Seats, kind: level, unit: seat }
plans:
  - name: basic
    title: Basic
    prices: { monthly: 0 }
    limits:
      calls: 1000
      seats: { limit: 10, alerts: [50] }
  - name: large
    title: Large
    prices: { monthly: 10 }
    limits:
      calls: 100000
      seats: { limit: 100, alerts: [50] }
alerts:
  thresholds: [80, 100]
  approaching_action: Consider a larger plan.
  exceeded_action: Change to a larger plan.
";
const SEEN_MAX: Duration = Duration::from_secs(30);

async fn noted(cluster: &Cluster) -> Vec<NotedAlert> {
    cluster.world.ledger.alerts_of(&TenantId::new("acme").unwrap(), false, 100).await.unwrap()
}

/// Percentages, and whether they stand, by meter; in order.
fn brief(alerts: &[NotedAlert]) -> Vec<(String, bool)> {
    let mut brief: Vec<_> = alerts
        .iter()
        .map(|it| (format!("{} {}", it.key.meter, it.percent), it.resolved_at.is_none()))
        .collect();
    brief.sort();
    brief
}

async fn wait_until_noted(cluster: &Cluster, wanted: &[(&str, bool)]) -> Vec<NotedAlert> {
    let wanted: Vec<_> = wanted.iter().map(|(name, is)| ((*name).to_owned(), *is)).collect();
    let started = Instant::now();
    loop {
        let noted = noted(cluster).await;
        if brief(&noted) == wanted {
            return noted;
        }
        assert!(started.elapsed() < SEEN_MAX, "noted: {noted:?}, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn alerts_told(sidecar: &Sidecar) -> Vec<Alert> {
    let request = GetUsageRequest { tenant: "acme".into(), ..Default::default() };
    sidecar.client.clone().get_usage(request).await.unwrap().into_inner().alerts
}

async fn watch(sidecar: &Sidecar) -> Streaming<WatchUsageResponse> {
    let request = WatchUsageRequest {
        tenant: "acme".into(),
        interval_min: Some(tollgate::proto::time::Duration { seconds: 0, nanos: 100_000_000 }),
        ..Default::default()
    };
    sidecar.client.clone().watch_usage(request).await.unwrap().into_inner()
}

/// Reads until one message is as wanted; all others before it are let pass.
async fn read_until(
    stream: &mut Streaming<WatchUsageResponse>,
    what: &str,
    is_wanted: impl Fn(&WatchUsageResponse) -> bool,
) -> WatchUsageResponse {
    let read = async {
        loop {
            let message = stream.message().await.unwrap().expect("the stream goes on");
            if is_wanted(&message) {
                return message;
            }
        }
    };
    tokio::time::timeout(SEEN_MAX, read).await.unwrap_or_else(|_| panic!("never read: {what}"))
}

fn used(message: &WatchUsageResponse, meter: &str) -> Option<i64> {
    message.meters.iter().find(|it| it.meter == meter).map(|it| it.used)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_threshold_is_told_once_whatever_the_number_of_sidecars_and_resolved() {
    let mut cluster = Cluster::with_catalog("alerting", CATALOG).await;
    cluster.flag("--enforcement-recall-wait-ms", "5000");
    cluster.world.tenant("acme", "basic").await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await, cluster.start("c").await];
    let mut stream = watch(&sidecars[2]).await;
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!((used(&first, "calls"), used(&first, "seats")), (Some(0), Some(0)));

    // Neither of the two gets to 80 % by itself.
    for amount in [300, 100] {
        for sidecar in &sidecars[..2] {
            assert!(sidecar.check(Mode::Consume, "acme", "calls", amount).await.unwrap().allowed);
        }
    }
    let noted = wait_until_noted(&cluster, &[("calls 80", true)]).await;
    assert_eq!((noted[0].limit, noted[0].used), (1_000, 800));
    let read = read_until(&mut stream, "80 %", |it| !it.alerts.is_empty()).await;
    assert_eq!(read.alerts[0].threshold_percent, "80");
    assert_eq!(read.alerts[0].kind(), AlertKind::ApproachingLimit);
    assert_eq!(read.alerts[0].recommended_action, "Consider a larger plan.");

    let admitted: i64 = sidecars[1].spend_all("acme", "calls").await;
    assert_eq!(admitted, 200);
    assert!(sidecars[1].check(Mode::Consume, "acme", "seats", 5).await.unwrap().allowed);
    let all = [("calls 100", true), ("calls 80", true), ("seats 50", true)];
    wait_until_noted(&cluster, &all).await;
    for sidecar in &sidecars {
        let started = Instant::now();
        while !{
            let told = alerts_told(sidecar).await;
            told.len() == 3 && told.iter().all(|alert| alert.raised_at.is_some())
        } {
            assert!(started.elapsed() < SEEN_MAX, "{:?}", alerts_told(sidecar).await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    // Usage falls below one, the limit rises above the others.
    assert!(sidecars[0].check(Mode::Consume, "acme", "seats", -1).await.unwrap().allowed);
    let seats_resolved = [("calls 100", true), ("calls 80", true), ("seats 50", false)];
    wait_until_noted(&cluster, &seats_resolved).await;
    cluster.operate(&["tenant", "set-plan", "acme", "--plan", "large"]);
    let resolved = [("calls 100", false), ("calls 80", false), ("seats 50", false)];
    wait_until_noted(&cluster, &resolved).await;
    let is_resolved = |it: &WatchUsageResponse| {
        it.alerts.iter().any(|alert| alert.meter == "calls" && alert.resolved_at.is_some())
    };
    let read = read_until(&mut stream, "calls resolved", is_resolved).await;
    assert_eq!(read.meters.iter().find(|it| it.meter == "calls").unwrap().limit, 100_000);
    for sidecar in &sidecars {
        assert_eq!(alerts_told(sidecar).await, []);
    }
    let listed = cluster.operate(&["alert", "list", "acme"]);
    assert_eq!(listed.matches("calls").count(), 2, "{listed}");
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_settles_what_happened_while_none_was_there() {
    let cluster = Cluster::with_catalog("alerting", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecar = cluster.start("a").await;
    assert!(sidecar.check(Mode::Consume, "acme", "calls", 900).await.unwrap().allowed);
    // Whether it gets to flush this and to look at it, or its successor does.
    sidecar.process.kill();
    let sidecar = cluster.start("a").await;
    wait_until_noted(&cluster, &[("calls 80", true)]).await;
    sidecar.process.stop();
    cluster.operate(&["tenant", "set-plan", "acme", "--plan", "large"]);
    let sidecar = cluster.start("a").await;
    assert!(sidecar.check(Mode::Consume, "acme", "calls", 1).await.unwrap().allowed);
    wait_until_noted(&cluster, &[("calls 80", false)]).await;
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_what_others_use_and_says_why_it_ends() {
    let mut cluster = Cluster::with_catalog("alerting", CATALOG).await;
    cluster.flag("--enforcement-watchers-max", "1");
    cluster.world.tenant("acme", "basic").await;
    let (a, b) = (cluster.start("a").await, cluster.start("b").await);
    let mut stream = watch(&b).await;
    stream.message().await.unwrap().unwrap();
    let request = WatchUsageRequest { tenant: "acme".into(), ..Default::default() };
    let refused = b.client.clone().watch_usage(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");

    for round in 1..=3 {
        assert!(a.check(Mode::Consume, "acme", "calls", 7).await.unwrap().allowed);
        let wanted = |it: &WatchUsageResponse| used(it, "calls") == Some(7 * round);
        let read = read_until(&mut stream, "what the other used", wanted).await;
        assert_eq!(used(&read, "seats"), None, "only what has changed");
    }
    b.process.stop();
    let end = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ends without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Unavailable, "{end:?}");
    a.process.stop();

    let unknown = WatchUsageRequest { tenant: "nobody".into(), ..Default::default() };
    let c = cluster.start("a").await;
    let mut refused = c.client.clone().watch_usage(unknown).await.unwrap().into_inner();
    assert_eq!(refused.message().await.unwrap_err().code(), Code::NotFound);
    c.process.stop();
}
