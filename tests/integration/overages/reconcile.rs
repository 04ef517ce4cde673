//! Charges computed again: `tollgate reconcile` and `tollgate trace` over what the job has charged.

use serde_json::Value;
use tollgate::domain::ids::IdempotencyKey;

use super::{
    GB,
    world::{World, at},
};
use crate::fixture::Processes;

/// When the accounts' clock was put to June, real time, and when the job ran after that.
const SET_AT: &str = "2020-01-01T00:00:00Z";
const RAN_AT: &str = "2021-01-01T00:00:00Z";

/// What a command printed as JSON, with its exit code.
fn printed(world: &World, arguments: &[&str]) -> (i32, Value) {
    let mut command = Processes::tollgate(arguments);
    command.env("TOLLGATE_LEDGER_URL", &world.url).env_remove("TOLLGATE_REDIS_URL");
    let output = command.arg("--json").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout);
    (output.status.code().unwrap(), report.unwrap_or_else(|_| panic!("{arguments:?}: {said}")))
}

/// The charges that differ, as `what should→is`.
fn differing(world: &World) -> Vec<String> {
    let (code, report) = printed(world, &["reconcile"]);
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(code, i32::from(!rows.is_empty()), "{report:#}");
    let says = |row: &Value, side: &str| row[side]["says"].as_str().unwrap().to_owned();
    let of_charges = rows.iter().filter(|row| row["leg"] == "charges");
    let shown = |row: &Value| {
        let what = row["what"].as_str().unwrap();
        format!("{what} {}→{}", says(row, "expected"), says(row, "found"))
    };
    of_charges.map(shown).collect()
}

async fn sql(world: &World, sql: &'static str) {
    let done = sqlx::raw_sql(sql).execute(&world.pool).await.unwrap();
    assert!(done.rows_affected() > 0, "{sql}");
}

/// May is charged: 12.1 GB and 20 GB of bandwidth, and 5 GB of disk.
async fn charged() -> World {
    charged_at(RAN_AT).await
}

async fn charged_at(ran_at: &str) -> World {
    let world = World::with_catalog("hosting").await;
    for (tenant, used) in [("acme", 112 * GB + GB / 10), ("beta", 120 * GB)] {
        world.tenant(tenant, "starter").await;
        world.record(tenant, "bandwidth", used, "2015-05-20T12:00:00Z").await;
        world.set_clock(tenant, at("2015-06-01T00:00:00Z"), at(SET_AT)).await;
    }
    world.record("acme", "disk", 15 * GB, "2015-05-02T12:00:00Z").await;
    sql(&world, "UPDATE window_totals SET updated_at = '2019-01-01T00:00:00Z'").await;
    world.mark("2020-01-01T00:00:02Z").await;
    assert_eq!(world.charge(ran_at).await["charged"], 3);
    world
}

#[tokio::test]
async fn a_charge_that_is_gone_is_missing_as_soon_as_others_show_that_the_job_was_past_it() {
    // Too early for the job's start alone to say so.
    let world = charged_at("2020-01-01T00:00:30Z").await;
    sql(&world, "DELETE FROM charges WHERE meter = 'bandwidth'").await;
    // Of acme the disk is charged. Of beta nothing is: its window may wait for the next run.
    assert_eq!(differing(&world), ["charge overage: is missing 0.61 USD→none"]);
    let (code, report) = printed(&world, &["reconcile", "--all", "--tenant", "beta"]);
    let row = &report["rows"][0];
    assert_eq!((code, &row["standing"]), (0, &"expected".into()), "{report:#}");
    assert_eq!(row["what"], "charge overage: is due at the job's next run");
    let (_, trace) = printed(&world, &["reconcile", "--all", "--tenant", "acme"]);
    assert_eq!(trace["expected"], 0, "{trace:#}");

    // While a run goes on it may be about to make it.
    sql(&world, "UPDATE job_runs SET status = 'running', finished_at = NULL").await;
    assert_eq!(differing(&world), [""; 0]);
    sql(&world, "UPDATE job_runs SET status = 'succeeded', finished_at = started_at").await;

    // Either is made by the next run.
    assert_eq!(world.charge("2020-01-01T00:00:40Z").await["charged"], 2);
    assert_eq!(differing(&world), [""; 0]);
}

#[tokio::test]
async fn a_month_of_a_level_that_no_run_makes_any_more_is_named_and_made_by_repair() {
    let world = World::with_catalog("hosting").await;
    world.tenant("acme", "starter").await;
    world.record("acme", "disk", 15 * GB, "2015-05-02T12:00:00Z").await;
    world.set_clock("acme", at("2015-08-01T00:00:00Z"), at(SET_AT)).await;
    sql(&world, "UPDATE window_totals SET updated_at = '2019-01-01T00:00:00Z'").await;
    world.mark("2020-01-01T00:00:02Z").await;
    assert_eq!(world.charge(RAN_AT).await["charged"], 3);
    assert_eq!(differing(&world), [""; 0]);
    let before = world.amounts().await;

    let gone = "charge overage: is missing, and no run of the job makes it any more 0.75 USD→none";
    sql(&world, "DELETE FROM charges WHERE period_start = '2015-06-01T00:00:00Z'").await;
    assert_eq!(differing(&world), [gone]);
    sql(&world, "DELETE FROM charges WHERE period_start = '2015-05-01T00:00:00Z'").await;
    assert_eq!(differing(&world), [gone; 2]);
    assert_eq!(world.charge("2021-01-01T00:00:01Z").await["charged"], 0);

    let (code, report) = printed(&world, &["reconcile", "--repair", "--reason", "lost"]);
    assert_eq!((code, &report["mended"]), (0, &2.into()), "{report:#}");
    assert_eq!(differing(&world), [""; 0]);
    assert_eq!(world.amounts().await, before);
    let noted: Vec<Value> = sqlx::query_scalar(
        "SELECT detail FROM audit_log WHERE action = 'reconcile.charge' ORDER BY entry",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert_eq!(noted.len(), 2);
    assert_eq!((&noted[0]["was"], &noted[0]["reason"]), (&Value::Null, &"lost".into()));
    assert_eq!(noted[0]["is"]["amount_minor"], 75, "{noted:#?}");
}

#[tokio::test]
async fn charges_that_follow_from_the_usage_agree_and_each_planted_difference_is_named() {
    let world = charged().await;
    assert_eq!(differing(&world), [""; 0]);

    sql(
        &world,
        "UPDATE charges SET amount_minor = 62 WHERE tenant = 'acme' AND meter = 'bandwidth'",
    )
    .await;
    let changed = "charge overage: does not follow from its own facts 0.61 USD→0.62 USD for 12.1 \
                   (used 112100000000)";
    assert_eq!(differing(&world), [changed]);
    sql(
        &world,
        "UPDATE charges SET amount_minor = 61 WHERE tenant = 'acme' AND meter = 'bandwidth'",
    )
    .await;

    sql(&world, "DELETE FROM charges WHERE tenant = 'beta'").await;
    assert_eq!(differing(&world), ["charge overage: is missing 1.00 USD→none"]);
    assert_eq!(world.charge("2021-01-01T00:00:01Z").await["charged"], 1);

    sql(&world, "UPDATE window_totals SET used = used - 1000000000 WHERE tenant = 'beta'").await;
    let changed = "charge overage: does not follow from the usage 0.95 USD for 19 (used 119000000000)→\
                   1.00 USD for 20 (used 120000000000)";
    assert_eq!(differing(&world), [changed]);
    sql(&world, "UPDATE window_totals SET used = used + 1000000000 WHERE tenant = 'beta'").await;

    sql(&world, "UPDATE usage_hourly SET amount_sum = 16000000000 WHERE meter = 'disk'").await;
    let found = differing(&world);
    assert!(found[0].contains("0.90 USD for 6 (used 16000000000)→0.75 USD for 5"), "{found:?}");
    sql(&world, "UPDATE usage_hourly SET amount_sum = 15000000000 WHERE meter = 'disk'").await;

    sql(&world, "DELETE FROM charges WHERE tenant = 'acme' AND meter = 'bandwidth'").await;
    let (code, report) = printed(&world, &["reconcile", "--repair"]);
    assert_eq!((code, &report["mended"]), (0, &1.into()), "{report:#}");
    assert_eq!(differing(&world), [""; 0]);
    assert_eq!(world.amounts().await.len(), 3);

    let copy = "INSERT INTO charges SELECT tenant, subscription, 'requests', label, subject, kind, period_start,
                    gen_random_uuid(), account, period_end, quantity, rate, amount_minor, currency, catalog, plan,
                    plan_version, explanation FROM charges WHERE tenant = 'beta'";
    sql(&world, copy).await;
    let found = differing(&world);
    assert_eq!(
        found,
        ["charge overage: is for nothing nothing to charge→1.00 USD for 20 (used 120000000000)"]
    );
}

#[tokio::test]
async fn usage_that_comes_after_the_charge_is_told_and_no_difference() {
    let world = charged().await;
    let mut event = world.event("beta", "bandwidth", 50 * GB, at("2015-05-31T23:00:00Z"));
    event.idempotency_key = Some(IdempotencyKey::new("late-1").unwrap());
    event.event_retention_days = 30;
    world.flush(vec![event]).await;
    let (code, report) = printed(&world, &["reconcile", "--all", "--tenant", "beta"]);
    let row = &report["rows"][0];
    assert_eq!((code, &report["differences"], &report["expected"]), (0, &0.into(), &1.into()));
    assert!(row["what"].as_str().unwrap().ends_with("usage came after it was made"), "{row}");
    assert_eq!(row["expected"]["says"], "3.50 USD for 70 (used 170000000000)");

    let (code, trace) = printed(&world, &["trace", "late-1", "--tenant", "beta"]);
    let steps = trace["steps"].as_array().unwrap();
    let charge = steps.iter().find(|step| step["stage"] == "charge").unwrap();
    assert_eq!((code, &charge["facts"]["includes_event"]), (0, &false.into()), "{trace:#}");
    assert!(charge["says"].as_str().unwrap().contains("is in no charge"), "{charge}");
    assert!(steps.iter().any(|step| step["stage"] == "event"), "{trace:#}");
}

#[tokio::test]
async fn an_events_way_ends_at_its_charge_with_the_rate_and_the_plan_version() {
    let world = World::with_catalog("hosting").await;
    world.tenant("acme", "starter").await;
    world.set_clock("acme", at("2015-06-01T00:00:00Z"), at(SET_AT)).await;
    let mut event = world.event("acme", "bandwidth", 112 * GB, at("2015-05-20T12:00:00Z"));
    event.idempotency_key = Some(IdempotencyKey::new("upload-1").unwrap());
    event.event_retention_days = 30;
    world.flush(vec![event]).await;
    let way = || printed(&world, &["trace", "--key", "upload-1", "--tenant", "acme"]).1;
    let says = |trace: &Value, stage: &str| {
        let steps = trace["steps"].as_array().unwrap().clone();
        let of_stage = steps.iter().filter(|step| step["stage"] == stage);
        of_stage
            .map(|step| step["says"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
            .join("; ")
    };
    let before = way();
    assert!(says(&before, "charge").contains("charged at the next run"), "{before:#}");
    assert_eq!(world.charge(RAN_AT).await["charged"], 1);
    let trace = way();
    assert!(says(&trace, "key").contains("counted under \"upload-1\": 112000000000 of bandwidth"));
    assert!(says(&trace, "window").contains("112000000000 units used"), "{trace:#}");
    let rollups = says(&trace, "rollup");
    assert!(rollups.contains("usage_hourly 2015-05-20T12:00:00Z: 1 events"), "{rollups}");
    assert!(rollups.contains("usage_daily 2015-05-20T00:00:00Z: 1 events"), "{rollups}");
    let charge = says(&trace, "charge");
    let line = "0.60 USD for 12 (rate 0.05), of 112000000000 used, 100000000000 included, by \
                hosting/starter version 1";
    assert!(charge.contains(line) && !charge.contains("in no charge"), "{charge}");
}
