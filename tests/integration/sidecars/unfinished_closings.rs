//! Closings that some counter was not told of: because they were cut off, or because what Redis has in
//! the counter's place is no counter.

use std::time::{Duration, Instant};

use serde_json::Value;
use tollgate::{
    domain::{cell_key::CellKey, ids::RunId},
    ledger::runs::{ClosedHow, Forfeits},
    proto::v1::Mode,
    store::keys::{LIFE, counter_name},
};
use uuid::Uuid;

use super::{
    CATALOG,
    closed_runs::{LIMIT, WAIT_MAX, bereaved, open_run_but},
    cluster::{Cluster, current_key},
    copied_directory::wait_until_logged,
};

/// The ledger takes the closing of the run for an hour old.
pub(super) async fn age(cluster: &Cluster, run: &str) {
    let aged = "UPDATE runs SET closed_at = closed_at - interval '1 hour', folded_at = NULL
                WHERE run = $1::text::uuid";
    let aged = sqlx::query(aged).bind(run).execute(&cluster.world.pool).await.unwrap();
    assert_eq!(aged.rows_affected(), 1);
}

/// Waits until all counters were told of the run's closing.
async fn wait_until_folded(cluster: &Cluster, run: &str) {
    let folded = "SELECT folded_at IS NOT NULL FROM runs WHERE run = $1::text::uuid";
    let started = Instant::now();
    loop {
        let is_folded = sqlx::query_scalar::<_, bool>(folded).bind(run);
        if is_folded.fetch_one(&cluster.world.pool).await.unwrap() {
            return;
        }
        assert!(started.elapsed() < WAIT_MAX, "not all counters were told");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn id(run: &str) -> RunId {
    RunId(Uuid::parse_str(run).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closing_that_was_cut_off_is_finished_without_a_person_and_twice_is_as_once() {
    let (cluster, survivor, run) = bereaved().await;
    // All that `run close --forfeit` does before it tells the counters.
    let key = current_key(&cluster.world, "acme", "calls").await;
    let probe = current_key(&cluster.world, "probe", "calls").await;
    let mut forfeits = vec![];
    for key in [&key, &probe] {
        let runs = cluster.inspect(key).await.unwrap().runs;
        let entry = runs.iter().find(|entry| entry.run == id(&run)).unwrap();
        forfeits.push((key.clone(), entry.counted() + entry.outstanding()));
    }
    let ledger = &cluster.world.ledger;
    let touched = [key.clone(), probe].into_iter().collect();
    ledger.note_touched(id(&run), &touched).await.unwrap();
    ledger
        .close_run(id(&run), ClosedHow::Forfeited, Forfeits { units: &forfeits, epoch: None }, None)
        .await
        .unwrap();
    let forfeited = forfeits[0].1;
    for finished in 1..=2 {
        age(&cluster, &run).await;
        wait_until_folded(&cluster, &run).await;
        let counter = cluster.inspect(&key).await.unwrap();
        assert!(counter.runs.iter().all(|entry| entry.run != id(&run)), "{counter:?}");
        assert_eq!((counter.forfeited, counter.base), (forfeited, 0));
        let started = Instant::now();
        let told = format!("\ntollgate_closings_finished_total {finished}\n");
        while !cluster.get("a", "/metrics").contains(&told) {
            assert!(started.elapsed() < WAIT_MAX, "not counted: {told}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let rest = LIMIT - i64::try_from(forfeited).unwrap();
    assert_eq!(survivor.spend_all("acme", "calls").await, rest);
    cluster.wait_until_ledger_has(&key, rest).await;
    cluster.assert_reconciled();
    survivor.process.stop();
}

/// Puts something of another type in the place of one counter, and a word in that of a number into
/// another.
fn spoil(cluster: &Cluster, of_type: &CellKey, of_field: &CellKey) {
    let mut redis = cluster.redis_connection();
    let () = redis::cmd("SET").arg(counter_name(of_type)).arg("text").query(&mut redis).unwrap();
    let spoilt = redis::cmd("HSET").arg(counter_name(of_field)).arg("t").arg("some").to_owned();
    let () = spoilt.query(&mut redis).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_is_none_is_named_and_forfeited_and_all_others_are_told_of_a_closing() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    let tenants = ["acme", "bent", "sound"];
    cluster.world.tenants(tenants.map(|tenant| (tenant, "basic"))).await;
    let survivor = cluster.start("a").await;
    let alive = open_run_but(&cluster, &[]);
    let dead = cluster.start("b").await;
    let mut keys = vec![];
    for tenant in tenants {
        assert!(dead.check(Mode::Consume, tenant, "calls", 100).await.unwrap().allowed);
        keys.push(current_key(&cluster.world, tenant, "calls").await);
        cluster.wait_until_ledger_has(keys.last().unwrap(), 100).await;
    }
    let run = open_run_but(&cluster, &[&alive]);
    dead.process.kill();
    spoil(&cluster, &keys[0], &keys[1]);
    let names = [counter_name(&keys[0]), counter_name(&keys[1])];

    let asked = cluster.refused(&["run", "close", &run, "--force"]);
    assert!(asked.contains(&format!("{} in Redis is no counter", names[0])), "{asked}");
    let told = cluster.operate(&["run", "close", &run, "--forfeit", "--force", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["damaged"], serde_json::to_value(&names).unwrap(), "{told:#}");
    let held = |tenant: &str| {
        let held = told["held"].as_array().unwrap().iter().find(|held| held["tenant"] == tenant);
        held.map_or(0, |held| held["units"].as_i64().unwrap())
    };
    // What it held there nobody knows: it may have been all that the ledger does not know of.
    assert_eq!((held("acme"), held("bent")), (LIMIT - 100, LIMIT - 100), "{told:#}");
    let sound = cluster.inspect(&keys[2]).await.unwrap();
    assert!(sound.runs.iter().all(|entry| entry.run != id(&run)), "{sound:?}");
    assert_eq!(i64::try_from(sound.forfeited).unwrap(), held("sound"));
    let again = cluster.operate(&["run", "close", &run]);
    assert!(names.iter().all(|name| again.contains(name)), "{again}");

    // As it says: the rest follows by itself.
    age(&cluster, &run).await;
    let mut redis = cluster.redis_connection();
    let () = redis::cmd("DEL").arg(&names).arg(LIFE).query(&mut redis).unwrap();
    wait_until_folded(&cluster, &run).await;
    survivor.wait_until_serving(&cluster.log("a")).await;
    for tenant in tenants {
        let left = LIMIT - 100 - held(tenant);
        assert_eq!(survivor.spend_all(tenant, "calls").await, left, "{tenant}");
    }
    cluster.wait_until_ledger_has(&keys[2], LIMIT - held("sound")).await;
    cluster.assert_reconciled();
    survivor.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_is_none_keeps_no_run_that_was_left_behind_from_being_closed() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    let tenants = ["acme", "bent", "sound"];
    cluster.world.tenants(tenants.map(|tenant| (tenant, "basic"))).await;
    let killed = cluster.start("a").await;
    let run = open_run_but(&cluster, &[]);
    let mut keys = vec![];
    for tenant in tenants {
        assert!(killed.check(Mode::Consume, tenant, "calls", 100).await.unwrap().allowed);
        keys.push(current_key(&cluster.world, tenant, "calls").await);
    }
    killed.process.kill();
    spoil(&cluster, &keys[0], &keys[1]);
    let back = cluster.start("a").await;
    wait_until_logged(&cluster, "a", "closed a run that was left behind").await;
    let log = cluster.logged("a");
    for key in &keys[..2] {
        assert!(log.contains(&counter_name(key)), "{log}");
    }
    let sound = cluster.inspect(&keys[2]).await.unwrap();
    assert!(sound.runs.iter().all(|entry| entry.run != id(&run)), "{sound:?}");
    assert_eq!(back.spend_all("sound", "calls").await, LIMIT - 100);
    back.process.stop();
}
