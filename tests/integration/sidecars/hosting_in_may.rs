//! The whole story, over real processes: the recorded web traffic of May 2015 replayed through two
//! sidecars, each client a tenant of the *hosting* catalog, and charged by `tollgate job run`. What
//! each client owes is compared with an independent sum over the same file.

use std::{
    collections::BTreeMap,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tollgate::clock::Clock;

use super::{
    CATALOG,
    cluster::Cluster,
    replay::{
        BYTES, REQUESTS, WEB_CLOCK, data, replay, reported, shipped_catalog, wait_until_ledger_has,
    },
};
use crate::{fixture::Processes, overages::world::at};

/// Bytes are taken this many times over, so that hundreds owe something, one ends within its grace
/// and several amounts are exactly half a cent.
const FACTOR: i64 = 2_000_000;

/// The one account of all clients, and when its clock is past May.
const ACCOUNT: &str = "hoster";
const JUNE: &str = "2015-06-01T00:00:00Z";
/// The present that the job is given.
const NOW: &str = "2015-06-01T02:00:00Z";

const CLOSED_MAX: Duration = Duration::from_secs(30);

/// Plan, included GB, grace GB and cents per GB, as the published price list has them.
const PLANS: [(&str, i64, i64, i64); 4] = [
    ("starter", 100, 0, 5),
    ("professional", 500, 0, 4),
    ("business", 2_000, 5, 3),
    ("enterprise", 10_000, 20, 2),
];

fn plan_of(client: &str) -> (&'static str, i64, i64, i64) {
    let number: usize = client.trim_start_matches("client-").parse().unwrap();
    PLANS[(number + 1) % PLANS.len()]
}

/// What every client owes for May in cents, from the file alone; also those who owe nothing.
fn owed(file: &str) -> BTreeMap<&str, i64> {
    const GB: i128 = 1_000_000_000;
    let mut bytes_of: BTreeMap<&str, i128> = BTreeMap::new();
    for line in file.lines().skip(1) {
        let [_, client, _, bytes] = line.split(',').collect::<Vec<_>>()[..] else { panic!() };
        let bytes: i128 = bytes.parse().unwrap();
        *bytes_of.entry(client).or_default() += bytes * i128::from(FACTOR);
    }
    let (mut owing, mut ties, mut in_grace) = (0, 0, 0);
    let cents_of = bytes_of.into_iter().map(|(client, bytes)| {
        let (_, included, grace, cents) = plan_of(client);
        let beyond = bytes - i128::from(included) * GB;
        let billable = (beyond - i128::from(grace) * GB).max(0);
        let nano_cents = billable * i128::from(cents);
        let owed = (nano_cents + GB / 2) / GB;
        owing += i32::from(owed > 0);
        ties += i32::from(nano_cents % GB == GB / 2);
        in_grace += i32::from(beyond > 0 && billable == 0);
        (client, i64::try_from(owed).unwrap())
    });
    let cents_of: BTreeMap<_, _> = cents_of.collect();
    assert!(
        owing >= 100 && ties >= 10 && in_grace >= 1,
        "{owing} owe something, {ties} amounts are half a cent, {in_grace} end within their grace"
    );
    cents_of
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_owes_to_the_cent_what_the_file_says() {
    let file = std::fs::read_to_string(data("web-access.csv")).unwrap();
    let owed = owed(&file);
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.apply("hosting", &shipped_catalog("hosting")).await;
    let clients = owed.keys().map(|client| (*client, plan_of(client).0));
    cluster.world.tenants_of(ACCOUNT, at(WEB_CLOCK), clients).await;
    let [stopped, running] = [cluster.start("a").await, cluster.start("b").await];

    let sidecars = [stopped, running];
    let factor = FACTOR.to_string();
    let report = replay("web", "web-access.csv", &sidecars, &["--bytes-factor", &factor]).await;
    assert_eq!(reported(&report, "bandwidth"), (REQUESTS, BYTES * FACTOR, 0, 0), "{report}");
    assert_eq!(charge(&cluster)["charged"], 0, "May has not ended by the clients' clock");

    // One sidecar has stopped and closed its run; the other one's mark has to pass the month's end.
    let [stopped, running] = sidecars;
    stopped.process.stop();
    cluster.operate(&["account", "clock", ACCOUNT, "--set", JUNE]);
    wait_until_marked_since(&cluster, Clock::System.now()).await;
    let expected = [("bandwidth", (BYTES * FACTOR, REQUESTS)), ("requests", (REQUESTS, REQUESTS))];
    wait_until_ledger_has(&cluster, &expected).await;

    let both = [(); 2].map(|()| start_charging(&cluster));
    let charged = both.map(|job| ended(job)["charged"].as_u64().unwrap());
    let owing = owed.values().filter(|cents| **cents > 0).count() as u64;
    assert_eq!(charged.iter().sum::<u64>(), owing, "{charged:?}");
    let expected: Vec<_> = owed
        .iter()
        .map(|(client, cents)| ((*client).to_owned(), "2015-05-01".to_owned(), *cents))
        .collect();
    assert_eq!(cluster.world.amounts().await, expected);

    let before = cluster.world.charges().await;
    assert_eq!(charge(&cluster)["charged"], 0);
    assert_eq!(cluster.world.charges().await, before, "run again, it changes nothing");
    running.process.stop();
}

/// Starts `tollgate job run overages`, as a run of its own.
fn start_charging(cluster: &Cluster) -> Child {
    Processes::tollgate(&["job", "run", "overages", "--now", NOW, "--json"])
        .args(["--ledger-url", &cluster.world.url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The summary of a run that has succeeded.
fn ended(job: Child) -> Value {
    let output = job.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["outcome"], "succeeded", "{report}");
    report["summary"].clone()
}

fn charge(cluster: &Cluster) -> Value {
    ended(start_charging(cluster))
}

/// Waits until every open run has said that all it acknowledged until a second after `instant` is
/// in the ledger.
async fn wait_until_marked_since(cluster: &Cluster, instant: Timestamp) {
    let (passed, started) = (instant + SignedDuration::from_secs(1), Instant::now());
    loop {
        let mark = cluster.world.ledger.oldest_open_mark().await.unwrap();
        if mark.is_some_and(|mark| mark > passed) {
            return;
        }
        assert!(started.elapsed() < CLOSED_MAX, "the oldest mark stands at {mark:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
