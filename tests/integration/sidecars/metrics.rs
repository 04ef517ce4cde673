//! What operators see of real processes at work.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use tollgate::{proto::v1::Mode, store::keys::counter_name};

use super::{
    CATALOG,
    cluster::{Cluster, Sidecar, current_key, event},
};
use crate::fixture::{Processes, get};

const SEEN_MAX: Duration = Duration::from_secs(30);

/// What a sidecar at work shows: series that have counted something.
const AT_WORK: [&str; 25] = [
    // Checks by outcome and by where they were decided, with their latency.
    r#"tollgate_checks_total{reason="within_limit",decided_by="redis"}"#,
    r#"tollgate_checks_total{reason="within_limit",decided_by="memory"}"#,
    r#"tollgate_checks_total{reason="limit_exceeded",decided_by="redis"}"#,
    r#"tollgate_check_seconds_bucket{decided_by="memory",le="+Inf"}"#,
    r#"tollgate_check_seconds_count{decided_by="redis"}"#,
    r#"tollgate_usage_events_total{outcome="recorded"}"#,
    r#"tollgate_usage_events_total{outcome="repeated"}"#,
    "tollgate_record_seconds_count",
    // Leases, refills, recalls.
    "tollgate_leases_live",
    "tollgate_lease_outstanding_units",
    r#"tollgate_lease_calls_total{outcome="met"}"#,
    r#"tollgate_lease_calls_total{outcome="refused"}"#,
    "tollgate_lease_refills_total",
    "tollgate_lease_granted_units_total",
    "tollgate_lease_recalls_total",
    "tollgate_lease_returned_units_total",
    r#"tollgate_lease_denials_total{why="exhausted"}"#,
    // Journal and flush.
    r#"tollgate_journal_appends_total{durability="sync",outcome="kept"}"#,
    "tollgate_journal_sync_seconds_count",
    r#"tollgate_ledger_events_total{fate="counted"}"#,
    // Drift.
    r#"tollgate_drift_comparisons_total{outcome="agreeing"}"#,
    // Redis and Postgres.
    r#"tollgate_redis_calls_total{call="lease",outcome="answered"}"#,
    r#"tollgate_redis_call_seconds_count{call="lease"}"#,
    r#"tollgate_ledger_transaction_seconds_count{transaction="flush",outcome="committed"}"#,
    r#"tollgate_ledger_query_seconds_count{query="window_totals",outcome="done"}"#,
];

/// Series that are there, whatever they say.
const SHOWN: [&str; 6] = [
    "tollgate_flush_lag_bytes",
    "tollgate_flush_lag_seconds",
    "tollgate_journal_disk_bytes",
    "tollgate_drift_counters",
    "tollgate_drift_units",
    r#"tollgate_condition_status{condition="shared_counters"}"#,
];

/// What a worker shows that has run its jobs.
const WORKER_AT_WORK: [&str; 5] = [
    r#"tollgate_job_runs_total{job="overages",outcome="succeeded"}"#,
    r#"tollgate_job_seconds_count{job="overages"}"#,
    r#"tollgate_job_last_success_timestamp_seconds{job="overages"}"#,
    r#"tollgate_ledger_query_seconds_count{query="subscribers_after",outcome="done"}"#,
    r#"tollgate_ledger_query_seconds_count{query="claim_job_tick",outcome="done"}"#,
];

/// Every series and its value.
fn series(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let of = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    lines.map(of).collect()
}

/// Every metric of ours says what it tells and is named by the conventions.
fn assert_well_kept(page: &str) {
    for line in page.lines() {
        let Some(("tollgate", _)) = line.strip_prefix("# TYPE ").and_then(|it| it.split_once('_'))
        else {
            continue;
        };
        let (name, kind) = line["# TYPE ".len()..].split_once(' ').unwrap();
        assert!(page.contains(&format!("# HELP {name} ")), "{name} does not say what it tells");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        assert!(kind != "histogram" || name.ends_with("_seconds"), "{name} has no unit");
    }
}

/// Waits until the page shows all of it; `at_work` with more than 0.
fn wait_until_shown(page: impl Fn() -> String, at_work: &[&str], shown: &[&str]) {
    let started = Instant::now();
    loop {
        let page = page();
        let series = series(&page);
        let has_counted = |name: &&&str| series.get(**name).is_some_and(|value| *value > 0.0);
        let mut missing: Vec<_> = at_work.iter().filter(|name| !has_counted(name)).collect();
        missing.extend(shown.iter().filter(|name| !series.contains_key(**name)));
        if missing.is_empty() {
            return assert_well_kept(&page);
        }
        assert!(started.elapsed() < SEEN_MAX, "{missing:#?} not in\n{page}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

async fn two_sidecars() -> (Cluster, [Sidecar; 2]) {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    // Often, and soon certain.
    cluster.flag("--enforcement-drift-interval-ms", "100");
    cluster.flag("--enforcement-settle-interval-ms", "100");
    cluster.flag("--enforcement-flush-interval-ms", "50");
    // So that what is denied is denied for certain, however busy the machine.
    cluster.flag("--enforcement-recall-wait-ms", "5000");
    cluster.world.tenant("acme", "basic").await;
    cluster.world.tenant("busy", "basic").await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await];
    (cluster, sidecars)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_and_a_worker_at_work_show_all_that_they_do() {
    let (cluster, sidecars) = two_sidecars().await;
    let [a, b] = &sidecars;
    let consume = async |sidecar: &Sidecar, tenant: &str, amount: i64| {
        sidecar.check(Mode::Consume, tenant, "calls", amount).await.unwrap().allowed
    };
    // Demand makes for leases that are refilled ahead of it.
    for _ in 0..200 {
        assert!(consume(a, "busy", 1).await && consume(a, "acme", 1).await);
    }
    for _ in 0..2 {
        a.record(vec![event("acme", "tokens", 5, "twice")]).await.unwrap();
    }
    // The other one wants all that the first has unspent, and then there is nothing left.
    assert!(consume(b, "acme", 9_800).await);
    assert!(!consume(a, "acme", 1).await);
    wait_until_shown(|| cluster.get("a", "/metrics"), &AT_WORK, &SHOWN);

    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listen = ["--worker-http-listen", &address.to_string()];
    let mut command = Processes::tollgate(&["worker", "--ledger-url", &cluster.world.url]);
    let worker = cluster.processes.start(command.args(listen).args(["--log-filter", "error"]));
    let page = |address: SocketAddr| get(address, "/metrics").map_or(String::new(), |it| it.1);
    wait_until_shown(|| page(address), &WORKER_AT_WORK, &[]);
    worker.stop();
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_in_redis_that_is_not_what_the_ledger_says_shows_as_drift() {
    let (cluster, sidecars) = two_sidecars().await;
    assert!(sidecars[0].check(Mode::Consume, "acme", "calls", 10).await.unwrap().allowed);
    let key = current_key(&cluster.world, "acme", "calls").await;
    cluster.wait_until_ledger_has(&key, 10).await;
    cluster.wait_until_redis_has(&key, 10).await;
    let drift = |units: f64| {
        let started = Instant::now();
        loop {
            let series = series(&cluster.get("a", "/metrics"));
            if series["tollgate_drift_units"] == units
                && (series["tollgate_drift_counters"] > 0.0) == (units > 0.0)
            {
                return;
            }
            assert!(started.elapsed() < SEEN_MAX, "{series:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    drift(0.0);
    // As if somebody had laid hands on it.
    let mut redis = redis::Client::open(cluster.redis.url()).unwrap().get_connection().unwrap();
    let mut add = |units: i64| {
        let mut command = redis::cmd("HINCRBY");
        let command = command.arg(counter_name(&key)).arg("b").arg(units);
        command.query::<i64>(&mut redis).unwrap();
    };
    add(7);
    drift(7.0);
    add(-7);
    drift(0.0);
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}
