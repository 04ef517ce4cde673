//! Runs that an operator closes, because their sidecar will not come back.

use std::time::{Duration, Instant};

use serde_json::Value;
use tollgate::proto::v1::Mode;

use super::{
    CATALOG,
    cluster::{Cluster, Sidecar, current_key},
};

pub(super) const LIMIT: i64 = 10_000;
pub(super) const WAIT_MAX: Duration = Duration::from_secs(60);

/// The open run that is not among `others`.
pub(super) fn open_run_but(cluster: &Cluster, others: &[&str]) -> String {
    let open: Value = serde_json::from_str(&cluster.operate(&["run", "list", "--json"])).unwrap();
    let mut runs = open.as_array().unwrap().iter().map(|run| run["run"].as_str().unwrap());
    runs.find(|run| !others.contains(run)).unwrap().to_owned()
}

/// A survivor, and what the dead one's run is called. The dead one admitted 1,000, of which the
/// ledger knows nothing.
pub(super) async fn bereaved() -> (Cluster, Sidecar, String) {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let survivor = cluster.start("a").await;
    let alive = open_run_but(&cluster, &[]);
    cluster.flag("--enforcement-flush-interval-ms", "60000");
    let dead = cluster.start("b").await;
    for _ in 0..20 {
        assert!(dead.check(Mode::Consume, "acme", "calls", 50).await.unwrap().allowed);
    }
    dead.process.kill();
    let run = open_run_but(&cluster, &[&alive]);
    (cluster, survivor, run)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_forfeited_run_held_stays_counted_and_its_usage_is_flushed_when_it_turns_up() {
    let (cluster, survivor, run) = bereaved().await;
    let asked = cluster.refused(&["run", "close", &run, "--force"]);
    for part in ["units of 2 shared counters", "--forfeit", "--release"] {
        assert!(asked.contains(part), "{part}: {asked}");
    }
    let told = cluster.operate(&[
        "run",
        "close",
        &run,
        "--forfeit",
        "--force",
        "--reason",
        "burnt",
        "--json",
    ]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["run"], &told["closed_how"]), (&run.clone().into(), &"forfeited".into()));
    // It needs no flag to be told again.
    cluster.operate(&["run", "close", &run, "--force"]);
    let key = current_key(&cluster.world, "acme", "calls").await;
    let totals = cluster.world.ledger.window_totals(std::slice::from_ref(&key)).await.unwrap();
    let forfeited = i64::try_from(totals[0].as_ref().unwrap().forfeited).unwrap();
    assert!(forfeited >= 1_000, "{forfeited}");
    let noted: (String, Value) = sqlx::query_as(
        "SELECT actor, detail FROM audit_log WHERE action = 'run.forfeit' AND tenant = 'acme'",
    )
    .fetch_one(&cluster.world.pool)
    .await
    .unwrap();
    assert_eq!((noted.0.as_str(), &noted.1["reason"]), ("cli:tester", &"burnt".into()));
    assert_eq!(noted.1["units"], forfeited, "{noted:?}");
    let held = told["held"].as_array().unwrap();
    let of_acme = held.iter().find(|held| held["tenant"] == "acme").unwrap();
    assert_eq!(of_acme["units"], forfeited, "{told:#}");
    assert_eq!(survivor.spend_all("acme", "calls").await, LIMIT - forfeited);
    cluster.wait_until_ledger_has(&key, LIMIT - forfeited).await;

    let back = cluster.start("b").await;
    cluster.wait_until_ledger_has(&key, LIMIT - forfeited + 1_000).await;
    assert_eq!(survivor.spend_all("acme", "calls").await, 0);
    let all: Value =
        serde_json::from_str(&cluster.operate(&["run", "list", "--all", "--json"])).unwrap();
    let closed =
        |how: &str| all.as_array().unwrap().iter().filter(|run| run["closed_how"] == how).count();
    assert_eq!((closed("forfeited"), closed("recovered")), (1, 1), "{all:#}");
    back.process.stop();
    survivor.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_held_in_a_redis_that_forgot_is_forfeited_also_where_a_clock_says_that_it_is_past()
 {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    let begin = "2015-05-20T00:00:00Z".parse().unwrap();
    cluster.world.tenants_at(Some(begin), [("late", "basic")]).await;
    let survivor = cluster.start("a").await;
    let alive = open_run_but(&cluster, &[]);
    let dead = cluster.start("b").await;
    assert!(dead.check(Mode::Consume, "late", "calls", 100).await.unwrap().allowed);
    let key = current_key(&cluster.world, "late", "calls").await;
    cluster.wait_until_ledger_has(&key, 100).await;
    dead.process.kill();
    // This clock may be wrong, and made right again.
    cluster.operate(&["account", "clock", "late", "--set", "2015-06-20T00:00:00Z"]);
    let epoch = cluster.world.ledger.latest_epoch().await.unwrap().unwrap().number;
    let () = redis::cmd("FLUSHALL").query(&mut cluster.redis_connection()).unwrap();
    let started = Instant::now();
    while cluster.world.ledger.latest_epoch().await.unwrap().unwrap().number == epoch {
        assert!(started.elapsed() < WAIT_MAX, "no new epoch");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let run = open_run_but(&cluster, &[&alive]);
    let told = cluster.operate(&["run", "close", &run, "--forfeit", "--force", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    let held = told["held"].as_array().unwrap();
    let of_late = held.iter().find(|held| held["tenant"] == "late");
    assert_eq!(of_late.map(|held| &held["units"]), Some(&(LIMIT - 100).into()), "{told:#}");
    survivor.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_released_run_held_is_free_again() {
    let (cluster, survivor, run) = bereaved().await;
    let silent = "UPDATE runs SET heard_at = heard_at - interval '1 hour',
                      mark_at = mark_at - interval '1 hour' WHERE run = $1::text::uuid";
    sqlx::query(silent).bind(&run).execute(&cluster.world.pool).await.unwrap();
    cluster.operate(&["run", "close", &run, "--release"]);
    // What was decided stands, and who asks for something else hears that nothing was done.
    let refused = cluster.refused(&["run", "close", &run, "--forfeit"]);
    for part in ["was closed before (released", "nothing was forfeited"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    cluster.operate(&["run", "close", &run, "--release"]);
    // Outside the promise, and so by an operator's hand only: 1,000 of these are admitted twice.
    assert_eq!(survivor.spend_all("acme", "calls").await, LIMIT);
    let back = cluster.start("b").await;
    let key = current_key(&cluster.world, "acme", "calls").await;
    cluster.wait_until_ledger_has(&key, LIMIT + 1_000).await;
    survivor.wait_until_used("acme", "calls", LIMIT + 1_000).await;
    back.process.stop();
    survivor.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_living_sidecar_whose_run_is_closed_stops_serving_and_fails() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    let sidecar = cluster.start("a").await;
    let open: Value = serde_json::from_str(&cluster.operate(&["run", "list", "--json"])).unwrap();
    let run = open[0]["run"].as_str().unwrap();
    cluster.operate(&["run", "close", run, "--forfeit", "--force"]);
    assert!(!sidecar.process.ended().success());
    let told = "this run was closed, by an operator";
    assert!(cluster.logged("a").contains(told), "{}", cluster.logged("a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_seems_alive_is_not_closed_unless_forced() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecar = cluster.start("a").await;
    let listed: Value = serde_json::from_str(&cluster.operate(&["run", "list", "--json"])).unwrap();
    let run = listed[0]["run"].as_str().unwrap();
    let refused = cluster.refused(&["run", "close", run, "--forfeit"]);
    for part in ["was heard of", "seems to be alive", "stop the sidecar", "--force"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    let listed: Value = serde_json::from_str(&cluster.operate(&["run", "list", "--json"])).unwrap();
    assert_eq!(listed[0]["seems_alive"], true, "{listed:#}");
    assert!(sidecar.check(Mode::Consume, "acme", "calls", 1).await.unwrap().allowed);
    sidecar.process.stop();
}
