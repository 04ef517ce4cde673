//! A data directory that is copied while its sidecar goes on: an image of a machine, a backup that is
//! started beside the original.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tollgate::proto::v1::Mode;

use super::{
    CATALOG,
    cluster::{Cluster, Sidecar, current_key},
};

const LIMIT: i64 = 10_000;
/// What the original admits before it is copied.
const SPENT: i64 = 1_000;
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A sidecar that has spent some and holds more, and a copy of its directory for a second one.
async fn copied(cluster: &mut Cluster) -> Sidecar {
    // Unflushed when it is copied, so that the copy has something to give away.
    cluster.flag("--enforcement-flush-interval-ms", "60000");
    cluster.world.tenant("acme", "basic").await;
    let original = cluster.start("original").await;
    for _ in 0..20 {
        let answer = original.check(Mode::Consume, "acme", "calls", SPENT / 20).await.unwrap();
        assert!(answer.allowed, "{answer:?}");
    }
    signal(&original, Signal::STOP);
    copy(&cluster.data_dir("original"), &cluster.data_dir("copy"));
    original
}

fn signal(sidecar: &Sidecar, signal: Signal) {
    kill_process(Pid::from_child(&sidecar.process.child), signal).unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// Waits until the sidecar of this name has logged `words`.
pub(super) async fn wait_until_logged(cluster: &Cluster, name: &str, words: &str) {
    let started = Instant::now();
    while !cluster.logged(name).contains(words) {
        assert!(started.elapsed() < WAIT_MAX, "{name}: {}", cluster.logged(name));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_ends_no_sidecar_that_is_alive() {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    let original = copied(&mut cluster).await;
    signal(&original, Signal::CONT);
    let copy = cluster.start("copy").await;
    wait_until_logged(&cluster, "copy", "seems to be alive").await;
    let rest = original.spend_all("acme", "calls").await + copy.spend_all("acme", "calls").await;
    assert_eq!(SPENT + rest, LIMIT);
    original.process.stop();
    let key = current_key(&cluster.world, "acme", "calls").await;
    cluster.wait_until_ledger_has(&key, LIMIT).await;
    copy.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_silent_original_may_still_spend_is_forfeited() {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    let original = copied(&mut cluster).await;
    // It stands still, but the ledger is told that it has done so for an hour.
    let silent = "UPDATE runs SET heard_at = heard_at - interval '1 hour',
                      mark_at = mark_at - interval '1 hour' WHERE closed_at IS NULL";
    sqlx::query(silent).execute(&cluster.world.pool).await.unwrap();
    let copy = cluster.start("copy").await;
    wait_until_logged(&cluster, "copy", "closed a run that was left behind").await;
    let all: Value =
        serde_json::from_str(&cluster.operate(&["run", "list", "--all", "--json"])).unwrap();
    let is_recovered = |run: &&Value| run["closed_how"] == "recovered";
    assert_eq!(all.as_array().unwrap().iter().filter(is_recovered).count(), 1, "{all:#}");
    let key = current_key(&cluster.world, "acme", "calls").await;
    let totals = cluster.world.ledger.window_totals(std::slice::from_ref(&key)).await.unwrap();
    let forfeited = i64::try_from(totals[0].as_ref().unwrap().forfeited).unwrap();
    assert!(forfeited > 0, "the original held nothing");
    assert_noted(&cluster, forfeited).await;
    let by_copy = copy.spend_all("acme", "calls").await;
    assert_eq!(SPENT + forfeited + by_copy, LIMIT);

    // The original wakes up and spends what it has, until it hears that its run is closed.
    signal(&original, Signal::CONT);
    let mut late = 0;
    while let Ok(answer) = original.check(Mode::Consume, "acme", "calls", 1).await
        && answer.allowed
    {
        late += 1;
    }
    assert!(late <= forfeited, "{late} of {forfeited}");
    assert!(!original.process.ended().success(), "it goes on serving a closed run");
    copy.process.stop();
}

/// The audit log says which run was closed and why, and what of whose meter was forfeited.
async fn assert_noted(cluster: &Cluster, forfeited: i64) {
    let entries: Vec<(String, String, Option<String>, Value)> = sqlx::query_as(
        "SELECT actor, action, tenant, detail FROM audit_log
         WHERE action LIKE 'run.%' AND (tenant IS NULL OR tenant = 'acme') ORDER BY entry",
    )
    .fetch_all(&cluster.world.pool)
    .await
    .unwrap();
    let [closing, forfeit] = &entries[..] else { panic!("{entries:#?}") };
    let run: String =
        sqlx::query_scalar("SELECT run::text FROM runs WHERE closed_how = 'recovered'")
            .fetch_one(&cluster.world.pool)
            .await
            .unwrap();
    for (actor, _, _, detail) in [closing, forfeit] {
        assert!(actor.starts_with("sidecar:"), "{actor}");
        assert_eq!(detail["run"], run.replace('-', ""), "{detail:#}");
        assert_eq!(detail["how"], "recovered", "{detail:#}");
        assert!(detail["reason"].as_str().unwrap().contains("a copy"), "{detail:#}");
    }
    assert_eq!((closing.1.as_str(), &closing.2), ("run.close", &None), "{closing:?}");
    let told = closing.3["forfeited_units"].as_i64().unwrap();
    assert!(told >= forfeited, "{told} with {forfeited} of acme");
    assert_eq!(forfeit.1, "run.forfeit", "{forfeit:?}");
    let detail = &forfeit.3;
    let told = (&detail["meter"], &detail["units"], &detail["counters"]);
    assert_eq!(told, (&"calls".into(), &forfeited.into(), &1.into()), "{detail:#}");
}
