//! The statements that a flush of keyed events sends, sent by themselves: what Postgres can take of them.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp, Unit};
use jiff_sqlx::ToSqlx;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use tollgate::{clock::Clock, domain::ids::RunId, ledger::runs::NewRun};
use uuid::Uuid;

use super::stage::{Database, tenant};

const CLAIM_KEYS: &str = include_str!("../../../src/ledger/queries/claim_keys.sql");
const ADD_EVENTS: &str = include_str!("../../../src/ledger/queries/add_events.sql");
const ADD_RUN_TOTALS: &str = include_str!("../../../src/ledger/queries/add_run_totals.sql");
const ADD_WINDOWS: &str = include_str!("../../../src/ledger/queries/add_windows.sql");
const ADD_HOURLY: &str = include_str!("../../../src/ledger/queries/add_hourly.sql");
const ADD_DAILY: &str = include_str!("../../../src/ledger/queries/add_daily.sql");

/// Events in one transaction.
pub const BATCH: usize = 10_000;
/// Whom the ledger acts as.
const ROLE: &str = "SET ROLE tollgate_service";
/// The window of a meter that never begins anew.
const LABEL: &str = "lifetime:0:0";
const KEPT_DAYS: i32 = 7;

/// How long the transactions took, by what was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Took {
    pub keys: Duration,
    pub events: Duration,
    pub sums: Duration,
    /// The beginning, too.
    pub commit: Duration,
}

impl Took {
    pub fn all(&self) -> Duration {
        self.keys + self.events + self.sums + self.commit
    }
}

/// Writes `events` events of `tenants` tenants in the shape that the flush gives them; how long the
/// transactions took, without what it takes to make them up.
pub async fn write(
    database: &Database,
    meter: &str,
    tenants: usize,
    events: u64,
) -> anyhow::Result<Took> {
    let now = Clock::System.now();
    let run = register(database, now).await?;
    let mut connection = PgConnection::connect(&database.url).await?;
    connection.execute(ROLE).await?;
    make_partitions(&mut connection, now).await?;
    let mut took = Took::default();
    for number in 0..events / BATCH as u64 {
        let batch = Batch::new(meter, tenants, now, number);
        batch.write(&mut connection, run, &mut took).await?;
    }
    connection.close().await?;
    Ok(took)
}

async fn register(database: &Database, now: Timestamp) -> anyhow::Result<Uuid> {
    let run = Uuid::new_v4();
    let new = NewRun {
        run: RunId(run),
        host: "loadtest".into(),
        boot_id: String::new(),
        started_at: now,
        mark_at: now,
        flushed_position: 0,
    };
    database.ledger.register_run(&new).await?;
    Ok(run)
}

/// As the ledger does ahead of a flush.
async fn make_partitions(connection: &mut PgConnection, now: Timestamp) -> anyhow::Result<()> {
    for parent in ["usage_events", "usage_hourly", "usage_daily"] {
        sqlx::query("SELECT make_partition($1, ($2 AT TIME ZONE 'UTC')::date)")
            .bind(parent)
            .bind(now.to_sqlx())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// The columns of one batch.
struct Batch {
    keys: KeyColumns,
    sums: SumColumns,
    times: Vec<jiff_sqlx::Timestamp>,
    amounts: Vec<i64>,
    distinct_values: Vec<Option<String>>,
    idempotency_keys: Vec<String>,
    operations: Vec<String>,
    properties: Vec<Value>,
    positions: Vec<i64>,
    days: Vec<i32>,
}

/// What says which counter a row is of.
struct KeyColumns {
    tenants: Vec<String>,
    meters: Vec<String>,
    labels: Vec<String>,
    subjects: Vec<String>,
}

impl KeyColumns {
    fn of(tenants: Vec<String>, meter: &str) -> Self {
        let all = |text: &str| vec![text.to_owned(); tenants.len()];
        Self { meters: all(meter), labels: all(LABEL), subjects: all(""), tenants }
    }
}

/// One row for each tenant of a batch.
struct SumColumns {
    keys: KeyColumns,
    aggregations: Vec<String>,
    zeros: Vec<i64>,
    ones: Vec<i64>,
    events: Vec<i64>,
    hours: Vec<jiff_sqlx::Timestamp>,
    days: Vec<jiff_sqlx::Timestamp>,
    last_ats: Vec<jiff_sqlx::Timestamp>,
    group_values: Vec<Value>,
}

impl Batch {
    /// Sorted, as the flush sorts them.
    fn new(meter: &str, tenants: usize, now: Timestamp, number: u64) -> Self {
        let mut owners: Vec<String> = (0..BATCH).map(|place| tenant(place % tenants)).collect();
        owners.sort_unstable();
        let all = |text: &str| vec![text.to_owned(); BATCH];
        Self {
            sums: SumColumns::new(meter, &owners, now),
            keys: KeyColumns::of(owners, meter),
            times: vec![now.to_sqlx(); BATCH],
            amounts: vec![1; BATCH],
            distinct_values: vec![None; BATCH],
            idempotency_keys: (0..BATCH).map(|_| Uuid::now_v7().to_string()).collect(),
            operations: all(""),
            properties: vec![json!({}); BATCH],
            positions: vec![number as i64; BATCH],
            days: vec![KEPT_DAYS; BATCH],
        }
    }

    async fn write(
        &self,
        connection: &mut PgConnection,
        run: Uuid,
        took: &mut Took,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut tx = connection.begin().await?;
        let begun = Instant::now();
        sqlx::query(CLAIM_KEYS)
            .bind(run)
            .bind(&self.keys.tenants)
            .bind(&self.idempotency_keys)
            .bind(&self.keys.meters)
            .bind(&self.keys.subjects)
            .bind(&self.amounts)
            .bind(&self.operations)
            .bind(&self.positions)
            .fetch_all(&mut *tx)
            .await?;
        let claimed = Instant::now();
        sqlx::query(ADD_EVENTS)
            .bind(run)
            .bind(&self.keys.tenants)
            .bind(&self.keys.meters)
            .bind(&self.keys.labels)
            .bind(&self.keys.subjects)
            .bind(&self.times)
            .bind(&self.amounts)
            .bind(&self.distinct_values)
            .bind(&self.idempotency_keys)
            .bind(&self.properties)
            .bind(&self.positions)
            .bind(&self.days)
            .execute(&mut *tx)
            .await?;
        let added = Instant::now();
        self.sums.write(&mut tx, run).await?;
        let summed = Instant::now();
        tx.commit().await?;
        took.keys += claimed - begun;
        took.events += added - claimed;
        took.sums += summed - added;
        took.commit += (begun - started) + summed.elapsed();
        Ok(())
    }
}

impl SumColumns {
    fn new(meter: &str, owners: &[String], now: Timestamp) -> Self {
        let by_tenant: Vec<&[String]> = owners.chunk_by(|one, next| one == next).collect();
        let tenants: Vec<String> = by_tenant.iter().map(|owned| owned[0].clone()).collect();
        let rows = tenants.len();
        let whole = |unit| floor(now, unit).to_sqlx();
        Self {
            keys: KeyColumns::of(tenants, meter),
            aggregations: vec!["sum".to_owned(); rows],
            zeros: vec![0; rows],
            ones: vec![1; rows],
            events: by_tenant.iter().map(|owned| owned.len() as i64).collect(),
            hours: vec![whole(Unit::Hour); rows],
            days: vec![whole(Unit::Day); rows],
            last_ats: vec![now.to_sqlx(); rows],
            group_values: vec![json!({}); rows],
        }
    }

    async fn write(&self, tx: &mut PgConnection, run: Uuid) -> anyhow::Result<()> {
        sqlx::query(ADD_RUN_TOTALS)
            .bind(run)
            .bind(&self.keys.tenants)
            .bind(&self.keys.meters)
            .bind(&self.keys.labels)
            .bind(&self.keys.subjects)
            .bind(&self.zeros)
            .bind(&self.events)
            .bind(&self.zeros)
            .fetch_all(&mut *tx)
            .await?;
        sqlx::query(ADD_WINDOWS)
            .bind(&self.keys.tenants)
            .bind(&self.keys.meters)
            .bind(&self.keys.labels)
            .bind(&self.keys.subjects)
            .bind(&self.aggregations)
            .bind(&self.events)
            .bind(&self.events)
            .bind(&self.events)
            .bind(&self.ones)
            .bind(&self.ones)
            .bind(&self.last_ats)
            .execute(&mut *tx)
            .await?;
        for (statement, starts) in [(ADD_HOURLY, &self.hours), (ADD_DAILY, &self.days)] {
            sqlx::query(statement)
                .bind(&self.keys.tenants)
                .bind(&self.keys.meters)
                .bind(&self.keys.labels)
                .bind(&self.keys.subjects)
                .bind(starts)
                .bind(&self.group_values)
                .bind(&self.events)
                .bind(&self.events)
                .bind(&self.ones)
                .bind(&self.ones)
                .bind(&self.last_ats)
                .bind(&self.zeros)
                .execute(&mut *tx)
                .await?;
        }
        Ok(())
    }
}

/// The start of the hour or day, UTC.
fn floor(at: Timestamp, unit: Unit) -> Timestamp {
    let seconds = if unit == Unit::Day { 86_400 } else { 3_600 };
    at - SignedDuration::from_secs(at.as_second().rem_euclid(seconds))
        - SignedDuration::from_nanos(at.subsec_nanosecond().into())
}
