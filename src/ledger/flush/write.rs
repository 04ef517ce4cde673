//! Writes sums and raw events.

use std::collections::{BTreeMap, BTreeSet};

use jiff_sqlx::ToSqlx;
use serde_json::Value;
use sqlx::PgConnection;

use super::{
    batch::FlushedEvent,
    distinct::{merge_days, merge_hours, merge_windows},
    slot::Slot,
    sums::{Sums, Tally},
};
use crate::{
    domain::{cell_key::CellKey, ids::RunId, meter::Aggregation, share::Share},
    ledger::{
        cell_rows::{CellColumns, CellRow, read_unsigned},
        error::LedgerError,
        floors::FlushedTotals,
        runs::position_column,
    },
};

/// Writes all of `sums`; answers the run's totals of the counters where something was undone.
///
/// The run's own rows come first and the windows' last: nobody else waits for the former, and all
/// sidecars for the latter, so these are locked for the shortest time.
pub(super) async fn write_sums(
    tx: &mut PgConnection,
    run: RunId,
    sums: &Sums,
) -> Result<Vec<(CellKey, FlushedTotals)>, LedgerError> {
    let undone = write_run_totals(tx, run, sums).await?;
    // Windows first: a flush that lowers levels has locked theirs already, and two that write in
    // different orders would wait for one another.
    write_windows(tx, sums).await?;
    merge_windows(tx, &sums.windows).await?;
    write_covering(tx, &sums.covering).await?;
    write_hours(tx, &sums.hours).await?;
    merge_hours(tx, &sums.hours).await?;
    write_days(tx, &sums.days).await?;
    merge_days(tx, &sums.days).await?;
    Ok(undone)
}

/// Makes sure that the run has totals, be they 0, of each counter that it touches.
pub(super) async fn write_opened(
    tx: &mut PgConnection,
    run: RunId,
    opened: &BTreeSet<CellKey>,
) -> Result<(), LedgerError> {
    let shares = opened.iter().map(|key| (key.clone(), Share::default())).collect();
    write_run_totals(tx, run, &Sums { shares, ..Sums::default() }).await.map(drop)
}

async fn write_run_totals(
    tx: &mut PgConnection,
    run: RunId,
    sums: &Sums,
) -> Result<Vec<(CellKey, FlushedTotals)>, LedgerError> {
    if sums.shares.is_empty() {
        return Ok(Vec::new());
    }
    let keys: CellColumns = sums.shares.keys().collect();
    let mut consumed = Vec::with_capacity(sums.shares.len());
    let mut recorded = Vec::with_capacity(sums.shares.len());
    let mut undone = Vec::with_capacity(sums.shares.len());
    for share in sums.shares.values() {
        consumed.push(bigint("run_totals.consumed", share.consumed)?);
        recorded.push(bigint("run_totals.recorded", share.recorded)?);
        undone.push(bigint("run_totals.undone", share.undone)?);
    }
    let rows = sqlx::query_file!(
        "src/ledger/queries/add_run_totals.sql",
        run.0,
        &keys.tenants,
        &keys.meters,
        &keys.labels,
        &keys.subjects,
        &consumed,
        &recorded,
        &undone
    )
    .fetch_all(tx)
    .await?;
    let table = "run_totals";
    rows.into_iter()
        .map(|row| {
            let totals = FlushedTotals {
                run,
                consumed: read_unsigned(table, "consumed", run, row.consumed)?,
                recorded: read_unsigned(table, "recorded", run, row.recorded)?,
                undone: read_unsigned(table, "undone", run, row.undone)?,
            };
            let key = CellRow {
                table,
                tenant: row.tenant,
                meter: row.meter,
                label: row.label,
                subject: row.subject,
            };
            Ok((key.into_key()?, totals))
        })
        .collect()
}

/// One array per column of a rollup.
#[derive(Debug, Default)]
struct RollupColumns {
    keys: CellColumns,
    starts: Vec<jiff_sqlx::Timestamp>,
    group_values: Vec<Value>,
    tallies: TallyColumns,
}

/// One array per column of a tally.
#[derive(Debug, Default)]
struct TallyColumns {
    amount_sums: Vec<i64>,
    events: Vec<i64>,
    amount_maxima: Vec<i64>,
    last_amounts: Vec<i64>,
    last_ats: Vec<jiff_sqlx::Timestamp>,
    covered: Vec<i64>,
}

impl TallyColumns {
    fn push(&mut self, tally: &Tally) -> Result<(), LedgerError> {
        self.amount_sums.push(bigint("amount_sum", tally.amount_sum)?);
        self.events.push(bigint("events", tally.events.into())?);
        self.amount_maxima.push(tally.amount_max);
        self.last_amounts.push(tally.last.1);
        self.last_ats.push(tally.last.0.to_sqlx());
        self.covered.push(bigint("covered", tally.covered)?);
        Ok(())
    }
}

impl RollupColumns {
    fn of(rows: &BTreeMap<Slot, Tally>) -> Result<Self, LedgerError> {
        let mut columns = Self::default();
        for (slot, tally) in rows {
            columns.keys.push(&slot.key);
            columns.starts.push(slot.start.to_sqlx());
            columns.group_values.push(slot.group_values.to_json());
            columns.tallies.push(tally)?;
        }
        Ok(columns)
    }
}

async fn write_hours(
    tx: &mut PgConnection,
    rows: &BTreeMap<Slot, Tally>,
) -> Result<(), LedgerError> {
    if rows.is_empty() {
        return Ok(());
    }
    let columns = RollupColumns::of(rows)?;
    sqlx::query_file!(
        "src/ledger/queries/add_hourly.sql",
        &columns.keys.tenants,
        &columns.keys.meters,
        &columns.keys.labels,
        &columns.keys.subjects,
        &columns.starts as _,
        &columns.group_values,
        &columns.tallies.amount_sums,
        &columns.tallies.events,
        &columns.tallies.amount_maxima,
        &columns.tallies.last_amounts,
        &columns.tallies.last_ats as _,
        &columns.tallies.covered
    )
    .execute(tx)
    .await?;
    Ok(())
}

async fn write_days(
    tx: &mut PgConnection,
    rows: &BTreeMap<Slot, Tally>,
) -> Result<(), LedgerError> {
    if rows.is_empty() {
        return Ok(());
    }
    let columns = RollupColumns::of(rows)?;
    sqlx::query_file!(
        "src/ledger/queries/add_daily.sql",
        &columns.keys.tenants,
        &columns.keys.meters,
        &columns.keys.labels,
        &columns.keys.subjects,
        &columns.starts as _,
        &columns.group_values,
        &columns.tallies.amount_sums,
        &columns.tallies.events,
        &columns.tallies.amount_maxima,
        &columns.tallies.last_amounts,
        &columns.tallies.last_ats as _,
        &columns.tallies.covered
    )
    .execute(tx)
    .await?;
    Ok(())
}

async fn write_windows(tx: &mut PgConnection, sums: &Sums) -> Result<(), LedgerError> {
    if sums.windows.is_empty() {
        return Ok(());
    }
    let keys: CellColumns = sums.windows.keys().collect();
    let mut aggregations = Vec::with_capacity(sums.windows.len());
    let mut used = Vec::with_capacity(sums.windows.len());
    let mut tallies = TallyColumns::default();
    for window in sums.windows.values() {
        aggregations.push(aggregation_name(window.aggregation).to_owned());
        used.push(bigint("window_totals.used", window.share.used())?);
        tallies.push(&window.tally)?;
    }
    sqlx::query_file!(
        "src/ledger/queries/add_windows.sql",
        &keys.tenants,
        &keys.meters,
        &keys.labels,
        &keys.subjects,
        &aggregations,
        &used,
        &tallies.amount_sums,
        &tallies.events,
        &tallies.amount_maxima,
        &tallies.last_amounts,
        &tallies.last_ats as _
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// After the windows: a counter is in one of the two only, so all flushes lock rows in one order.
async fn write_covering(
    tx: &mut PgConnection,
    covering: &BTreeMap<CellKey, Share>,
) -> Result<(), LedgerError> {
    if covering.is_empty() {
        return Ok(());
    }
    let keys: CellColumns = covering.keys().collect();
    let mut used = Vec::with_capacity(covering.len());
    for share in covering.values() {
        used.push(bigint("window_totals.used", share.used())?);
    }
    sqlx::query_file!(
        "src/ledger/queries/add_covering.sql",
        &keys.tenants,
        &keys.meters,
        &keys.labels,
        &keys.subjects,
        &used
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Writes the raw events of meters that keep them.
pub(super) async fn write_events(
    tx: &mut PgConnection,
    run: RunId,
    events: &[&FlushedEvent],
) -> Result<(), LedgerError> {
    if events.is_empty() {
        return Ok(());
    }
    let keys: CellColumns = events.iter().map(|flushed| &flushed.event.key).collect();
    let mut event_ats = Vec::with_capacity(events.len());
    let mut amounts = Vec::with_capacity(events.len());
    let mut distinct_values = Vec::with_capacity(events.len());
    let mut idempotency_keys = Vec::with_capacity(events.len());
    let mut properties = Vec::with_capacity(events.len());
    let mut positions = Vec::with_capacity(events.len());
    let mut days = Vec::with_capacity(events.len());
    for FlushedEvent { position, event } in events {
        event_ats.push(event.time.to_sqlx());
        amounts.push(event.amount);
        distinct_values.push(event.distinct_value.clone());
        idempotency_keys.push(event.idempotency_key.as_ref().map(|key| key.as_str().to_owned()));
        let text = |(name, value): (&str, &str)| (name.to_owned(), Value::from(value));
        properties.push(Value::Object(event.properties.iter().map(text).collect()));
        positions.push(position_column(*position)?);
        days.push(i32::from(event.event_retention_days));
    }
    sqlx::query_file!(
        "src/ledger/queries/add_events.sql",
        run.0,
        &keys.tenants,
        &keys.meters,
        &keys.labels,
        &keys.subjects,
        &event_ats as _,
        &amounts,
        &distinct_values as _,
        &idempotency_keys as _,
        &properties,
        &positions,
        &days
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) fn bigint(column: &'static str, value: i128) -> Result<i64, LedgerError> {
    i64::try_from(value).map_err(|_| LedgerError::TooLarge { column, value })
}

/// How the column names an aggregation.
pub(super) fn aggregation_name(aggregation: Aggregation) -> &'static str {
    match aggregation {
        Aggregation::Sum => "sum",
        Aggregation::Count => "count",
        Aggregation::Max => "max",
        Aggregation::Last => "last",
        Aggregation::DistinctCount => "distinct_count",
    }
}
