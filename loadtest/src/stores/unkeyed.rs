//! The flush of events without keys, which are added up first.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tollgate::{clock::Clock, dev::Redis, proto::v1::Mode};

use super::{
    Args,
    drain::{Drain, Hold, PATIENT, drain, row_writes},
    findings::{Aim, Aimed, Part, Table, figure},
    recorder::{BATCH_EVENTS, Recording, record},
    sidecar::{Sidecar, quota},
    stage::{Database, Stage, tenant},
};

const METER: &str = "bytes";
const TENANTS: usize = 1_000;
/// Hours that the events of each tenant lie in.
const HOURS: u32 = 2;
const EVENTS_PER_SECOND_MIN: f64 = 1e6;
/// What events without keys are written to.
const TABLES: [&str; 4] = ["run_totals", "window_totals", "usage_hourly", "usage_daily"];

/// What the ledger has of a backlog.
struct Rows {
    /// Rows that there are, of all [`TABLES`].
    there: u64,
    /// Times that one was inserted or updated.
    written: u64,
}

pub async fn part(stage: &Stage, args: &Args) -> anyhow::Result<Part> {
    let mut aims = vec![];
    let head = vec![
        "",
        "events",
        "seconds",
        "events/s",
        "active (tenant, meter, hour)",
        "rows",
        "rows expected",
        "times that a row was written",
        "sidecar CPU µs/event",
        "Postgres CPU µs/event",
        "MiB at start",
        "at peak",
        "at the end",
    ];
    let mut table = Table { head, rows: vec![] };
    for (name, events) in
        [("unkeyed_tenth", args.unkeyed_backlog / 10), ("unkeyed", args.unkeyed_backlog)]
    {
        eprintln!("flush without keys: a backlog of {events} events");
        let (drained, rows, expected) = backlog(stage, name, events).await?;
        let mib = |bytes: u64| (bytes >> 20).to_string();
        table.rows.push(vec![
            "sidecar".into(),
            drained.events.to_string(),
            figure(drained.seconds),
            figure(drained.events_per_second()),
            figure(f64::from(HOURS) * TENANTS as f64),
            rows.there.to_string(),
            expected.to_string(),
            rows.written.to_string(),
            figure(drained.cpu_us_per_event(drained.sidecar_cpu)),
            figure(drained.cpu_us_per_event(drained.postgres_cpu)),
            mib(drained.resident.start),
            mib(drained.resident.peak),
            mib(drained.resident.end),
        ]);
        aims.push(Aimed {
            what: format!("Flush of {} events without keys", drained.events),
            aim: Aim::AtLeast(EVENTS_PER_SECOND_MIN, "events/s"),
            found: drained.events_per_second(),
        });
        aims.push(Aimed {
            what: format!("Rows of {} events without keys", drained.events),
            aim: Aim::AtMost(1.0, "× those of the active (tenant, meter, hour)"),
            found: rows.there as f64 / expected as f64,
        });
    }
    let how = format!(
        "{TENANTS} tenants, one meter that keeps no events, events in the present hour and the one before it, in batches of {BATCH_EVENTS}; two backlogs, as under keys. \
         *Rows expected* is one row for each tenant and hour, each tenant and day, each tenant's window, and each tenant's total of the run, however many events there were. \
         How often a row was written is Postgres' own count."
    );
    Ok(Part { title: "Flush of events without keys", how, aims, table })
}

async fn backlog(stage: &Stage, name: &str, events: u64) -> anyhow::Result<(Drain, Rows, u64)> {
    let redis = Redis::scratch()?;
    let database = stage.database(name, TENANTS).await?;
    let setup = stage.sidecar(&database, &redis, name, &PATIENT);
    let look = quota(Mode::Check, &tenant(0), METER);
    let sidecar = Sidecar::serving(&setup, &look, |answer| answer.allowed).await?;
    let hold = Hold::new(&database).await?;
    let now = Clock::System.now();
    let times = Recording::hours_until(now, HOURS);
    let recording = Recording { meter: METER, tenants: TENANTS as u64, is_keyed: false, times };
    let recorded = record(&sidecar.client()?, &recording, move |so_far| so_far >= events).await?;
    let before = row_writes(&database).await?;
    let drained = drain(stage, &database, &sidecar, hold, recorded).await?;
    // Its connections tell Postgres what they wrote when they end.
    sidecar.stop()?;
    let written = written_since(&before, &row_writes(&database).await?);
    let rows = Rows { there: rows_there(&database).await?, written };
    database.end().await?;
    Ok((drained, rows, rows_expected(now)))
}

fn written_since(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> u64 {
    let of = |writes: &BTreeMap<String, u64>, table| writes.get(table).copied().unwrap_or(0);
    TABLES.iter().map(|table| of(after, *table).saturating_sub(of(before, *table))).sum()
}

async fn rows_there(database: &Database) -> anyhow::Result<u64> {
    let mut there = 0;
    for table in TABLES {
        let count = format!("SELECT count(*) FROM {table}");
        let rows: i64 =
            sqlx::query_scalar(sqlx::AssertSqlSafe(count)).fetch_one(&database.pool).await?;
        there += rows.unsigned_abs();
    }
    Ok(there)
}

/// As many as there are tenants, for their hours, their days, their windows, and their totals.
fn rows_expected(now: Timestamp) -> u64 {
    let day = |back: u32| (now.as_second() - 3_600 * i64::from(back)).div_euclid(86_400);
    let mut days: Vec<_> = (0..HOURS).map(day).collect();
    days.dedup();
    TENANTS as u64 * (u64::from(HOURS) + days.len() as u64 + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_of_the_day_before_is_a_row_more_for_each_tenant() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(rows_expected(at("2026-03-02T10:30:00Z")), 5_000);
        assert_eq!(rows_expected(at("2026-03-02T00:30:00Z")), 6_000);
    }
}
