//! Distinct counts: values that rows have are merged with those of a batch.
//!
//! Postgres cannot merge counts, so they are read, merged here and written back. The rows were
//! upserted by the same transaction just before, which keeps them locked meanwhile.

use std::collections::BTreeMap;

use jiff_sqlx::ToSqlx;
use serde_json::Value;
use sqlx::PgConnection;

use super::{
    slot::Slot,
    sums::{Sum, Tally},
};
use crate::{
    domain::{cell_key::CellKey, distinct::DistinctCount},
    ledger::{
        cell_rows::{CellColumns, read_column},
        error::LedgerError,
    },
};

/// The rows of a rollup that count distinct values, one array per column of their keys.
#[derive(Default)]
struct DistinctRows<'a> {
    keys: CellColumns,
    starts: Vec<jiff_sqlx::Timestamp>,
    group_values: Vec<Value>,
    counts: Vec<(&'a CellKey, &'a DistinctCount)>,
}

impl<'a> DistinctRows<'a> {
    fn of(rows: &'a BTreeMap<Slot, Tally>) -> Self {
        let mut distinct = Self::default();
        for (slot, tally) in rows {
            let Some(count) = &tally.distinct else { continue };
            distinct.keys.push(&slot.key);
            distinct.starts.push(slot.start.to_sqlx());
            distinct.group_values.push(slot.group_values.to_json());
            distinct.counts.push((&slot.key, count));
        }
        distinct
    }
}

/// What each row's count becomes, in the order of `counts`; `sketches` are what rows have now, in
/// that order.
fn merge(
    table: &'static str,
    counts: &[(&CellKey, &DistinctCount)],
    sketches: impl Iterator<Item = Option<Vec<u8>>>,
) -> Result<Vec<Vec<u8>>, LedgerError> {
    let merged = counts.iter().zip(sketches).map(|((key, count), sketch)| {
        let Some(bytes) = sketch else { return Ok(count.to_bytes()) };
        let read = DistinctCount::from_bytes(&bytes);
        let what = format!("{} bytes", bytes.len());
        let mut merged = read_column(table, "distinct_sketch", key, what, read)?;
        merged.merge(count);
        Ok(merged.to_bytes())
    });
    merged.collect()
}

/// Adds the distinct values of `rows` to `usage_hourly`.
pub(super) async fn merge_hours(
    tx: &mut PgConnection,
    rows: &BTreeMap<Slot, Tally>,
) -> Result<(), LedgerError> {
    let rows = DistinctRows::of(rows);
    if rows.counts.is_empty() {
        return Ok(());
    }
    let found = sqlx::query!(
        "SELECT t.distinct_sketch
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[],
             $6::jsonb[]) WITH ORDINALITY
             AS a (tenant, meter, label, subject, hour, group_values, ordinal)
         JOIN usage_hourly t USING (tenant, meter, label, subject, hour, group_values)
         ORDER BY a.ordinal",
        &rows.keys.tenants,
        &rows.keys.meters,
        &rows.keys.labels,
        &rows.keys.subjects,
        &rows.starts as _,
        &rows.group_values
    )
    .fetch_all(&mut *tx)
    .await?;
    let sketches = found.into_iter().map(|row| row.distinct_sketch);
    let merged = merge("usage_hourly", &rows.counts, sketches)?;
    sqlx::query!(
        "UPDATE usage_hourly t SET distinct_sketch = a.distinct_sketch
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[],
             $6::jsonb[], $7::bytea[])
             AS a (tenant, meter, label, subject, hour, group_values, distinct_sketch)
         WHERE (t.tenant, t.meter, t.label, t.subject, t.hour, t.group_values)
             = (a.tenant, a.meter, a.label, a.subject, a.hour, a.group_values)",
        &rows.keys.tenants,
        &rows.keys.meters,
        &rows.keys.labels,
        &rows.keys.subjects,
        &rows.starts as _,
        &rows.group_values,
        &merged
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Adds the distinct values of `rows` to `usage_daily`.
pub(super) async fn merge_days(
    tx: &mut PgConnection,
    rows: &BTreeMap<Slot, Tally>,
) -> Result<(), LedgerError> {
    let rows = DistinctRows::of(rows);
    if rows.counts.is_empty() {
        return Ok(());
    }
    let found = sqlx::query!(
        "SELECT t.distinct_sketch
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[],
             $6::jsonb[]) WITH ORDINALITY
             AS a (tenant, meter, label, subject, day, group_values, ordinal)
         JOIN usage_daily t USING (tenant, meter, label, subject, day, group_values)
         ORDER BY a.ordinal",
        &rows.keys.tenants,
        &rows.keys.meters,
        &rows.keys.labels,
        &rows.keys.subjects,
        &rows.starts as _,
        &rows.group_values
    )
    .fetch_all(&mut *tx)
    .await?;
    let sketches = found.into_iter().map(|row| row.distinct_sketch);
    let merged = merge("usage_daily", &rows.counts, sketches)?;
    sqlx::query!(
        "UPDATE usage_daily t SET distinct_sketch = a.distinct_sketch
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[],
             $6::jsonb[], $7::bytea[])
             AS a (tenant, meter, label, subject, day, group_values, distinct_sketch)
         WHERE (t.tenant, t.meter, t.label, t.subject, t.day, t.group_values)
             = (a.tenant, a.meter, a.label, a.subject, a.day, a.group_values)",
        &rows.keys.tenants,
        &rows.keys.meters,
        &rows.keys.labels,
        &rows.keys.subjects,
        &rows.starts as _,
        &rows.group_values,
        &merged
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Adds the distinct values of `windows` to `window_totals`.
pub(super) async fn merge_windows(
    tx: &mut PgConnection,
    windows: &BTreeMap<CellKey, Sum>,
) -> Result<(), LedgerError> {
    let counts: Vec<(&CellKey, &DistinctCount)> =
        windows.iter().filter_map(|(key, sum)| Some((key, sum.tally.distinct.as_ref()?))).collect();
    if counts.is_empty() {
        return Ok(());
    }
    let keys: CellColumns = counts.iter().map(|(key, _)| *key).collect();
    let found = sqlx::query!(
        "SELECT t.distinct_sketch
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY
             AS a (tenant, meter, label, subject, ordinal)
         JOIN window_totals t USING (tenant, meter, label, subject)
         ORDER BY a.ordinal",
        &keys.tenants,
        &keys.meters,
        &keys.labels,
        &keys.subjects
    )
    .fetch_all(&mut *tx)
    .await?;
    let sketches = found.into_iter().map(|row| row.distinct_sketch);
    let merged = merge("window_totals", &counts, sketches)?;
    sqlx::query!(
        "UPDATE window_totals t SET distinct_sketch = a.distinct_sketch
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[])
             AS a (tenant, meter, label, subject, distinct_sketch)
         WHERE (t.tenant, t.meter, t.label, t.subject)
             = (a.tenant, a.meter, a.label, a.subject)",
        &keys.tenants,
        &keys.meters,
        &keys.labels,
        &keys.subjects,
        &merged
    )
    .execute(tx)
    .await?;
    Ok(())
}
