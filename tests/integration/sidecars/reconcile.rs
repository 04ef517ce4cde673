//! `tollgate reconcile`: at quiet everything says the same, and each planted difference is found and
//! named.

use std::process::Output;

use serde_json::Value;
use tollgate::{
    domain::{cell_key::CellKey, ids::TenantId},
    proto::v1::Mode,
};

use super::cluster::{Cluster, current_key, event};
use crate::fixture::Processes;

/// One meter keeps its raw events.
pub const CATALOG: &str = r"
catalog: books
title: Books
currency: USD
meters:
  - { name: calls, title: Calls, kind: counter, unit: call, period: month, event_retention_days: 30 }
  - { name: upload, title: Largest upload, kind: counter, aggregation: max, unit: byte, period: month }
  - { name: seats, title: Seats, kind: level, unit: seat }
plans:
  - name: basic
    title: Basic
    prices: { monthly: 0 }
    limits: { calls: 10000, upload: 1000000, seats: 10 }
pools:
  - { name: seats, meter: seats, size: 10, plans: [basic] }
";

impl Cluster {
    fn reconcile(&self, flags: &[&str]) -> Output {
        let mut command = Processes::tollgate(&["reconcile", "--json"]);
        command.args(flags).env("TOLLGATE_LEDGER_URL", &self.world.url);
        command.env("TOLLGATE_REDIS_URL", self.redis.url()).output().unwrap()
    }

    /// Everything that is kept says the same.
    pub fn assert_reconciled(&self) {
        let (code, report) = self.reconciled(&["--wait", "60"]);
        assert_eq!((code, report["differences"].as_u64()), (0, Some(0)), "{report:#}");
        assert_eq!(report["in_flight"], 0, "{report:#}");
        assert!(report["counters"].as_u64() > Some(0), "{report:#}");
    }

    /// Exit code and report of the command.
    pub fn reconciled(&self, flags: &[&str]) -> (i32, Value) {
        let output = self.reconcile(flags);
        let said = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code().unwrap();
        assert!(code < 2, "{said}");
        (code, serde_json::from_slice(&output.stdout).unwrap())
    }

    /// What differs, as `compared: what should→is`, sorted.
    fn differing(&self, flags: &[&str]) -> Vec<String> {
        let (code, report) = self.reconciled(flags);
        let rows = report["rows"].as_array().unwrap();
        assert_eq!(code, i32::from(!rows.is_empty()), "{report:#}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let shown = |row: &Value| {
            let says = |side: &str| text(&row[side]["says"]);
            let (should, is) = (says("expected"), says("found"));
            format!("{}: {} {should}→{is}", text(&row["leg"]), text(&row["what"]))
        };
        let mut shown: Vec<_> = rows.iter().map(shown).collect();
        shown.sort_unstable();
        shown
    }

    async fn sql(&self, sql: &'static str) {
        let done = sqlx::raw_sql(sql).execute(&self.world.pool).await.unwrap();
        assert!(done.rows_affected() > 0, "{sql}");
    }

    /// Changes a field of a counter; what it was.
    fn plant(&self, key: &CellKey, field: &str, value: &str) -> String {
        let mut connection = self.redis_connection();
        let name = tollgate::store::keys::counter_name(key);
        let was = redis::cmd("HGET").arg(&name).arg(field).query(&mut connection).unwrap();
        let set = redis::cmd("HSET").arg(&name).arg(field).arg(value).query(&mut connection);
        let () = set.unwrap();
        was
    }
}

/// A window with usage of a run that is closed, of one that was killed, and of one that is open.
async fn used(cluster: &Cluster) -> (CellKey, super::cluster::Sidecar) {
    cluster.world.tenant("acme", "basic").await;
    let key = current_key(&cluster.world, "acme", "calls").await;
    let (stopped, killed) = (cluster.start("a").await, cluster.start("b").await);
    for turn in 0..20 {
        let twice = || vec![event("acme", "calls", 2, &format!("k-{turn}"))];
        stopped.record(twice()).await.unwrap();
        killed.record(twice()).await.unwrap();
        assert!(killed.check(Mode::Consume, "acme", "calls", 3).await.unwrap().allowed);
        stopped.record(vec![event("acme", "upload", 100 + turn, "")]).await.unwrap();
        stopped
            .record(vec![event("acme", "seats", 1, ""), event("acme", "seats", -1, "")])
            .await
            .unwrap();
    }
    stopped.process.stop();
    killed.process.kill();
    let open = cluster.start("b").await;
    assert!(open.check(Mode::Consume, "acme", "calls", 5).await.unwrap().allowed);
    cluster.wait_until_ledger_has(&key, 20 * (2 + 3) + 5).await;
    open.wait_until_used("acme", "calls", 105).await;
    // Not before the run that was killed is folded into its counters, which comes after its flush.
    cluster.assert_reconciled();
    (key, open)
}

#[tokio::test(flavor = "multi_thread")]
async fn at_quiet_all_agrees_and_each_planted_difference_is_named() {
    let cluster = Cluster::with_catalog("books", CATALOG).await;
    let (key, open) = used(&cluster).await;

    // The ledger's totals and rollups.
    cluster
        .sql("UPDATE window_totals SET used = used - 1 WHERE meter = 'calls' AND tenant = 'acme'")
        .await;
    let found = cluster.differing(&["--tenant", "acme"]);
    let totals: Vec<_> = found.iter().filter(|row| row.starts_with("totals")).collect();
    assert_eq!(totals, ["totals: used 105→104"; 3].iter().collect::<Vec<_>>(), "{found:?}");
    assert!(found.contains(&"counters: usage of closed runs 99→100".to_owned()), "{found:?}");
    cluster
        .sql("UPDATE window_totals SET used = used + 1 WHERE meter = 'calls' AND tenant = 'acme'")
        .await;

    cluster
        .sql("UPDATE usage_daily SET events = events + 1 WHERE meter = 'calls' AND tenant = 'acme'")
        .await;
    assert_eq!(cluster.differing(&["--meter", "calls"]), ["totals: events 42→41"]);
    assert_eq!(cluster.differing(&["--meter", "upload"]), [""; 0]);
    cluster
        .sql("UPDATE usage_daily SET events = events - 1 WHERE meter = 'calls' AND tenant = 'acme'")
        .await;

    cluster.sql("UPDATE usage_hourly SET amount_max = 5000 WHERE meter = 'upload'").await;
    assert_eq!(cluster.differing(&[]), ["totals: amount_max 5000→119"]);
    cluster.sql("UPDATE usage_hourly SET amount_max = 119 WHERE meter = 'upload'").await;

    // Raw events.
    cluster.sql("DELETE FROM usage_events WHERE idempotency_key = 'k-7'").await;
    let found = cluster.differing(&[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("events: events of the hour 20"), "{found:?}");
    assert!(found[0].ends_with("40 events, 103 units→41 events, 105 units"), "{found:?}");
    cluster
        .sql("INSERT INTO usage_events SELECT tenant, meter, subject, label, event_at, 2, NULL, 'k-7', properties, run,
                journal_position, received_at, keep_until FROM usage_events WHERE idempotency_key = 'k-6'")
        .await;

    // Redis: what closed runs have used, an open run's usage, the counter's own sum.
    let base = cluster.plant(&key, "b", "90");
    assert_eq!(base, "100");
    let found = cluster.differing(&[]);
    assert!(found.contains(&"counters: usage of closed runs 100→90".to_owned()), "{found:?}");
    cluster.plant(&key, "b", &base);
    let sum = cluster.plant(&key, "u", "4");
    let found = cluster.differing(&[]);
    assert!(
        found.contains(&"counters: sum of what its runs have used 105→104".to_owned()),
        "{found:?}"
    );
    cluster.plant(&key, "u", &sum);
    cluster.assert_reconciled();

    // A counter that is gone, while its epoch goes on.
    let name = tollgate::store::keys::counter_name(&key);
    let mut connection = cluster.redis_connection();
    let dump: Vec<u8> = redis::cmd("DUMP").arg(&name).query(&mut connection).unwrap();
    let () = redis::cmd("DEL").arg(&name).query(&mut connection).unwrap();
    assert_eq!(cluster.differing(&[]), ["counters: a counter that open runs have used 105→0"]);
    let () = redis::cmd("RESTORE").arg(&name).arg(0).arg(dump).query(&mut connection).unwrap();
    cluster.assert_reconciled();
    open.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_of_a_sidecar_that_does_not_flush_is_no_difference() {
    let mut cluster = Cluster::with_catalog("books", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    cluster.flag("--enforcement-flush-interval-ms", "60000");
    let sidecar = cluster.start("a").await;
    assert!(sidecar.check(Mode::Consume, "acme", "calls", 7).await.unwrap().allowed);
    let key = current_key(&cluster.world, "acme", "calls").await;
    cluster.wait_until_redis_has(&key, 7).await;
    assert_eq!(cluster.reconciled(&["--tenant", "acme"]).1["expected"], 1);
    let (code, report) = cluster.reconciled(&["--tenant", "acme", "--all"]);
    let row = &report["rows"][0];
    assert_eq!(
        (code, &row["standing"], &row["found"]["says"]),
        (0, &"expected".into(), &"7".into())
    );
    assert!(row["what"].as_str().unwrap().ends_with("settled and not flushed"), "{row}");
    sidecar.process.stop();
    cluster.assert_reconciled();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pools_counters_and_its_members_are_compared() {
    let cluster = Cluster::with_catalog("books", CATALOG).await;
    let clock = "2026-03-10T00:00:00Z".parse().unwrap();
    cluster.world.tenants_of("agency", clock, [("one", "basic"), ("two", "basic")]).await;
    let created: Value =
        serde_json::from_str(&cluster.operate(&["pool", "create", "agency", "seats", "--json"]))
            .unwrap();
    let pool = created["pool"].as_str().unwrap();
    cluster.operate(&["pool", "add-member", pool, "one", "two"]);
    let sidecar = cluster.start("a").await;
    for (tenant, amount) in [("one", 4), ("two", 5), ("one", -2), ("two", -9), ("two", 3)] {
        sidecar.record(vec![event(tenant, "seats", amount, "")]).await.unwrap();
    }
    let key = CellKey {
        tenant: TenantId::of_pool(pool.parse().unwrap(), None),
        meter: "seats".parse().unwrap(),
        subject: None,
        label: "lifetime:0:0".parse().unwrap(),
    };
    // The second stands at −1, which frees nothing of the first's.
    cluster.wait_until_ledger_has(&key, 2).await;
    cluster.wait_until_redis_has(&key, 2).await;
    cluster.assert_reconciled();
    cluster.sql("UPDATE pool_usage SET used = used + 1 WHERE tenant = 'one'").await;
    let found = cluster.differing(&["--tenant", key.tenant.as_str()]);
    assert_eq!(found, ["totals: units used of the pool 3→2"]);
    let found = cluster.differing(&["--tenant", "one"]);
    assert_eq!(found, ["totals: units that grants and pools covered 2→3"]);
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_looked_at_is_an_error_of_its_own() {
    let cluster = Cluster::with_catalog("books", CATALOG).await;
    let sidecar = cluster.start("a").await;
    let unknown = cluster.reconcile(&["--tenant", "nobody"]);
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert_eq!(unknown.status.code(), Some(2), "{said}");
    assert!(said.contains("there is no tenant nobody"), "{said}");
    // Nobody is left to begin a new epoch.
    sidecar.process.stop();
    let emptied = redis::cmd("FLUSHALL").query(&mut cluster.redis_connection());
    let () = emptied.unwrap();
    let lost = cluster.reconcile(&[]);
    assert_eq!(lost.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_and_not_there_is_refused_by_the_flag_that_names_it() {
    let cluster = Cluster::with_catalog("books", CATALOG).await;
    let flags = [
        (["--tenant", "nobody"], "--tenant: there is no tenant nobody"),
        (["--tenant", "pool!7"], "--tenant: there is no pool_7"),
        (["--meter", "nothing"], "--meter: no plan has ever had a meter nothing"),
        (["--limit", "0"], "--limit"),
    ];
    for (flags, told) in flags {
        let refused = cluster.reconcile(&flags);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{flags:?}: {said}");
        assert!(said.contains(told), "{flags:?}: {said}");
    }
    let listed = cluster.refused(&["run", "list", "--limit", "0"]);
    assert!(listed.contains("at least 1"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_that_were_not_compared_are_told_and_have_an_exit_code_of_their_own() {
    let cluster = Cluster::with_catalog("books", CATALOG).await;
    let without_redis = |flags: &[&str]| {
        let mut command = Processes::tollgate(&["reconcile"]);
        command.args(flags).env("TOLLGATE_LEDGER_URL", &cluster.world.url);
        let output = command.env_remove("TOLLGATE_REDIS_URL").output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    // Nobody has used any yet.
    let (code, said) = without_redis(&[]);
    assert_eq!(code, Some(0), "{said}");
    let sidecar = cluster.start("a").await;
    sidecar.process.stop();
    let (code, said) = without_redis(&[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("NOT COMPARED: the shared counters: no redis.url is set"), "{said}");
    let (code, said) = without_redis(&["--json"]);
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &report["counters_compared"]), (Some(3), &false.into()), "{report:#}");
    let (code, said) = without_redis(&["--without-counters"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("NOT COMPARED: the shared counters: left out, as asked"), "{said}");
    let (_, report) = cluster.reconciled(&[]);
    assert_eq!(report["counters_compared"], true, "{report:#}");
    cluster.sql("UPDATE window_totals SET used = used + 1").await;
    let (code, said) = without_redis(&[]);
    assert_eq!(code, Some(1), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_cannot_be_read_is_named_and_all_others_are_compared() {
    let cluster = Cluster::with_catalog("books", CATALOG).await;
    let (key, open) = used(&cluster).await;
    let seats = CellKey {
        meter: "seats".parse().unwrap(),
        label: "lifetime:0:0".parse().unwrap(),
        ..key.clone()
    };
    let named = |key: &CellKey| {
        let name = tollgate::store::keys::counter_name(key);
        format!("counters: the counter {name}, which cannot be read ")
    };
    let sum = cluster.plant(&key, "u", "some");
    let base = cluster.plant(&seats, "b", "3");
    let found = cluster.differing(&[]);
    assert!(found.iter().any(|row| row.starts_with(&format!("{}105→", named(&key)))), "{found:?}");
    assert!(found.contains(&"counters: usage of closed runs 0→3".to_owned()), "{found:?}");
    assert_eq!(cluster.differing(&["--meter", "upload"]), [""; 0]);
    let (code, report) = cluster.reconciled(&["--repair", "--meter", "calls"]);
    let row = &report["rows"][0];
    let told = row["mending"]["not_mended"].as_str().unwrap();
    assert!(code == 1 && told.contains("tg:life"), "{report:#}");
    assert_eq!((&row["tenant"], &row["meter"]), (&"acme".into(), &"calls".into()), "{report:#}");
    cluster.plant(&key, "u", &sum);
    cluster.plant(&seats, "b", &base);

    // Something of another type in its place.
    let name = tollgate::store::keys::counter_name(&key);
    let mut connection = cluster.redis_connection();
    let dump: Vec<u8> = redis::cmd("DUMP").arg(&name).query(&mut connection).unwrap();
    let () = redis::cmd("SET").arg(&name).arg("text").query(&mut connection).unwrap();
    let found = cluster.differing(&["--tenant", "acme"]);
    assert!(found.len() == 1 && found[0].starts_with(&named(&key)), "{found:?}");
    let restore = redis::cmd("RESTORE").arg(&name).arg(0).arg(dump).arg("REPLACE").to_owned();
    let () = restore.query(&mut connection).unwrap();
    cluster.assert_reconciled();
    open.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_from_something_else_is_mended_and_noted_and_nothing_is_guessed() {
    let cluster = Cluster::with_catalog("books", CATALOG).await;
    let (key, open) = used(&cluster).await;
    cluster.sql("UPDATE window_totals SET used = used - 3, events = 1 WHERE meter = 'calls' AND tenant = 'acme'").await;
    cluster.plant(&key, "b", "60");
    cluster.plant(&key, "u", "2");
    let (code, report) = cluster.reconciled(&["--repair", "--actor", "ann", "--reason", "proof"]);
    assert_eq!((code, &report["mended"]), (0, &report["differences"]), "{report:#}");
    assert!(report["mended"].as_u64() >= Some(5), "{report:#}");
    cluster.assert_reconciled();
    let noted: Vec<(String, String)> = sqlx::query_as(
        "SELECT action, actor FROM audit_log WHERE action LIKE 'reconcile.%' ORDER BY 1",
    )
    .fetch_all(&cluster.world.pool)
    .await
    .unwrap();
    let by_ann = |action: &str| (action.to_owned(), "cli:ann".to_owned());
    assert_eq!(noted, [by_ann("reconcile.counter"), by_ann("reconcile.window")]);
    let mended: Value =
        sqlx::query_scalar("SELECT detail FROM audit_log WHERE action = 'reconcile.counter'")
            .fetch_one(&cluster.world.pool)
            .await
            .unwrap();
    let (was, is) = (&mended["was"], &mended["is"]);
    assert_eq!((&was["used_by_closed_runs"], &was["used"]), (&60.into(), &62.into()), "{mended:#}");
    assert_eq!((&is["used_by_closed_runs"], &is["used"]), (&100.into(), &105.into()), "{mended:#}");
    assert_eq!(mended["reason"], "proof");
    // The limit holds at what has been used.
    assert_eq!(open.spend_all("acme", "calls").await, 10_000 - 105);

    // More than the ledger has: somebody may have been promised that it is taken.
    cluster.wait_until_ledger_has(&key, 10_000).await;
    open.wait_until_used("acme", "calls", 10_000).await;
    let base = cluster.plant(&key, "b", "150");
    cluster.sql("UPDATE usage_daily SET amount_sum = amount_sum + 1 WHERE meter = 'upload'").await;
    let (code, report) = cluster.reconciled(&["--repair"]);
    assert_eq!((code, report["mended"].as_u64()), (1, Some(0)), "{report:#}");
    let rows = report["rows"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["mending"]["not_mended"].is_string()), "{report:#}");
    let told = report.to_string();
    assert!(told.contains("lowering it while runs are open"), "{told}");
    assert!(told.contains("its hours and its days disagree"), "{told}");
    cluster.plant(&key, "b", &base);
    open.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn journals_are_in_the_ledger_up_to_the_mark_key_by_key_and_unit_by_unit() {
    let mut cluster = Cluster::with_catalog("books", CATALOG).await;
    let (_, open) = used(&cluster).await;
    let dir = cluster.data_dir("b");
    let journal = ["--journal", dir.to_str().unwrap()];
    open.record(vec![event("acme", "calls", 4, "late-key"), event("acme", "seats", 1, "")])
        .await
        .unwrap();
    let key = current_key(&cluster.world, "acme", "calls").await;
    cluster.wait_until_ledger_has(&key, 109).await;
    let (code, report) = cluster.reconciled(&journal);
    assert_eq!(
        (code, report["journals"].as_u64(), report["differences"].as_u64()),
        (0, Some(1), Some(0))
    );

    cluster.sql("DELETE FROM usage_keys WHERE idempotency_key = 'late-key'").await;
    let found = cluster.differing(&journal);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("journals: event under the key \"late-key\" of run "),
        "{found:?}"
    );
    cluster
        .sql("UPDATE run_totals SET recorded = recorded + 2 WHERE meter = 'seats' AND recorded = 1")
        .await;
    let found = cluster.differing(&journal);
    assert!(
        found
            .iter()
            .any(|row| row.starts_with("journals: recorded by run") && row.ends_with("1→3")),
        "{found:?}"
    );
    open.process.stop();

    cluster.flag("--enforcement-flush-interval-ms", "60000");
    let behind = cluster.start("c").await;
    behind.record(vec![event("acme", "upload", 9, "unflushed")]).await.unwrap();
    let dir = cluster.data_dir("c");
    let (_, report) =
        cluster.reconciled(&["--all", "--meter", "upload", "--journal", dir.to_str().unwrap()]);
    let rows = report["rows"].as_array().unwrap();
    let behind_mark =
        |row: &&Value| row["what"].as_str().unwrap().starts_with("behind the mark of run");
    let row = rows.iter().find(behind_mark).unwrap();
    assert_eq!(
        (&row["standing"], &row["expected"]["says"]),
        (&"expected".into(), &"1 events, 9 units".into())
    );
    behind.process.stop();
}
