//! Usage as people and programs read it: windows' totals, and history by hour and day.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

use super::{
    cell_rows::{CellColumns, CellRow, read_column, read_unsigned, subject_column},
    error::LedgerError,
    pool::Ledger,
};
use crate::domain::{
    cell_key::CellKey,
    distinct::DistinctCount,
    ids::{MeterName, Subject, TenantId},
    meter::Aggregation,
};

/// Most points that one history may have.
pub const HISTORY_POINTS_MAX: u32 = 10_000;
/// Most windows that one page may hold.
pub const WINDOWS_PAGE_MAX: u32 = 1_000;

/// What is flushed of one counter.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowTotals {
    pub key: CellKey,
    /// How the meter aggregated when it last counted here.
    pub aggregation: Aggregation,
    /// Units that count against the limit of a sum, count or level; 0 on other meters.
    pub used: i64,
    /// Units that count against the limit and are billed to nobody.
    pub forfeited: u64,
    pub tally: Tally,
}

impl WindowTotals {
    /// The window's one number, as its meter aggregates. Below 0 only for a level that was lowered
    /// below 0.
    pub fn value(&self) -> i64 {
        match self.aggregation {
            Aggregation::Sum | Aggregation::Count => self.used,
            aggregation => self.tally.value(aggregation),
        }
    }
}

/// What events amount to, in every way of aggregating.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Sum of the amounts, base units.
    pub amount_sum: i64,
    /// Number of events.
    pub events: u64,
    /// Largest amount; `None` without events.
    pub amount_max: Option<i64>,
    /// Amount of the latest event by event time; `None` without events.
    pub last_amount: Option<i64>,
    /// Distinct values, on distinct-count meters.
    pub distinct: Option<DistinctCount>,
}

impl Tally {
    /// The one number of a meter that aggregates so.
    pub fn value(&self, aggregation: Aggregation) -> i64 {
        // Numbers of events and of values stay far below 2^63.
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        match aggregation {
            Aggregation::Sum => self.amount_sum,
            Aggregation::Count => number(self.events),
            Aggregation::Max => self.amount_max.unwrap_or(0),
            Aggregation::Last => self.last_amount.unwrap_or(0),
            Aggregation::DistinctCount => {
                self.distinct.as_ref().map_or(0, |distinct| number(distinct.count()))
            }
        }
    }
}

/// How fine a history is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// UTC hours.
    Hour,
    /// UTC days.
    Day,
}

/// Which history is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    pub tenant: TenantId,
    pub meter: MeterName,
    /// `None` = all of the tenant, subjects added up.
    pub subject: Option<Subject>,
    pub grain: Grain,
    /// First instant, and the one behind the last.
    pub from: Timestamp,
    pub to: Timestamp,
    /// One of the meter's group-by properties; `None` = all values added up.
    pub group_by: Option<String>,
}

/// One hour or day of a history.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryPoint {
    pub start: Timestamp,
    /// Value of the property grouped by; `None` when not grouping, and for events without it.
    pub group: Option<String>,
    pub tally: Tally,
}

/// All that was ever counted on meters of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterTotals {
    pub meter: MeterName,
    /// Sum of the amounts, base units.
    pub amount_sum: i64,
    pub events: u64,
}

impl Ledger {
    /// The totals of `keys`, in their order; `None` where nothing was counted.
    pub async fn window_totals(
        &self,
        keys: &[CellKey],
    ) -> Result<Vec<Option<WindowTotals>>, LedgerError> {
        totals_of(self.query("window_totals"), keys).await
    }

    /// Up to `count_max` windows of a tenant behind `after`, in the order of their rows' keys:
    /// meter, label as text, subject.
    pub async fn tenant_windows(
        &self,
        tenant: &TenantId,
        after: Option<&CellKey>,
        count_max: u32,
    ) -> Result<Vec<WindowTotals>, LedgerError> {
        let label = after.map(|key| key.label.to_string()).unwrap_or_default();
        let rows = sqlx::query_as!(
            TotalsRow,
            "SELECT tenant, meter, label, subject, aggregation, used, forfeited, amount_sum,
                    events, amount_max, last_amount, distinct_sketch
             FROM window_totals
             WHERE tenant = $1 AND (meter, label, subject) > ($2, $3, $4)
             ORDER BY meter, label, subject LIMIT $5",
            tenant.as_str(),
            after.map_or("", |key| key.meter.as_str()),
            label,
            after.map_or("", |key| subject_column(key.subject.as_ref())),
            i64::from(count_max.min(WINDOWS_PAGE_MAX))
        )
        .fetch_all(self.query("tenant_windows").of(tenant))
        .await?;
        rows.into_iter().map(TotalsRow::into_totals).collect()
    }

    /// Usage over time, oldest first, then by group; at most [`HISTORY_POINTS_MAX`] points. Hours
    /// and days without events have no point.
    pub async fn usage_history(
        &self,
        query: &HistoryQuery,
    ) -> Result<Vec<HistoryPoint>, LedgerError> {
        let rows = match query.grain {
            Grain::Hour => self.hours(query).await?,
            Grain::Day => self.days(query).await?,
        };
        rows.into_iter().map(|row| row.into_point(query)).collect()
    }

    /// What all tenants used of each meter, over all windows.
    pub async fn meter_totals(&self) -> Result<Vec<MeterTotals>, LedgerError> {
        let rows = sqlx::query!(
            "SELECT meter, sum(amount_sum)::bigint AS \"amount_sum!\",
                    sum(events)::bigint AS \"events!\"
             FROM window_totals GROUP BY meter ORDER BY meter"
        )
        .fetch_all(self.query("meter_totals"))
        .await?;
        rows.into_iter()
            .map(|row| {
                let meter = MeterName::new(&row.meter);
                Ok(MeterTotals {
                    meter: read_column("window_totals", "meter", "a row", &row.meter, meter)?,
                    amount_sum: row.amount_sum,
                    events: read_unsigned("window_totals", "events", &row.meter, row.events)?,
                })
            })
            .collect()
    }

    async fn hours(&self, query: &HistoryQuery) -> Result<Vec<PointRow>, LedgerError> {
        Ok(sqlx::query_file_as!(
            PointRow,
            "src/ledger/queries/history_hourly.sql",
            query.tenant.as_str(),
            query.meter.as_str(),
            query.subject.as_ref().map(Subject::as_str),
            query.from.to_sqlx() as _,
            query.to.to_sqlx() as _,
            query.group_by.as_deref(),
            i64::from(HISTORY_POINTS_MAX)
        )
        .fetch_all(self.query("hours").of(&query.tenant))
        .await?)
    }

    async fn days(&self, query: &HistoryQuery) -> Result<Vec<PointRow>, LedgerError> {
        Ok(sqlx::query_file_as!(
            PointRow,
            "src/ledger/queries/history_daily.sql",
            query.tenant.as_str(),
            query.meter.as_str(),
            query.subject.as_ref().map(Subject::as_str),
            query.from.to_sqlx() as _,
            query.to.to_sqlx() as _,
            query.group_by.as_deref(),
            i64::from(HISTORY_POINTS_MAX)
        )
        .fetch_all(self.query("days").of(&query.tenant))
        .await?)
    }
}

/// The totals of `keys`, in their order; `None` where nothing was counted.
pub(super) async fn totals_of<'e>(
    executor: impl sqlx::PgExecutor<'e>,
    keys: &[CellKey],
) -> Result<Vec<Option<WindowTotals>>, LedgerError> {
    let columns: CellColumns = keys.iter().collect();
    let rows = sqlx::query_as!(
        TotalsRow,
        "SELECT w.tenant, w.meter, w.label, w.subject, w.aggregation, w.used, w.forfeited,
                w.amount_sum, w.events, w.amount_max, w.last_amount, w.distinct_sketch
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[])
             AS asked (tenant, meter, label, subject)
         JOIN window_totals w USING (tenant, meter, label, subject)",
        &columns.tenants,
        &columns.meters,
        &columns.labels,
        &columns.subjects
    )
    .fetch_all(executor)
    .await?;
    let mut found = std::collections::HashMap::with_capacity(rows.len());
    for row in rows {
        let totals = row.into_totals()?;
        found.insert(totals.key.clone(), totals);
    }
    Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
}

struct TotalsRow {
    tenant: String,
    meter: String,
    label: String,
    subject: String,
    aggregation: String,
    used: i64,
    forfeited: i64,
    amount_sum: i64,
    events: i64,
    amount_max: Option<i64>,
    last_amount: Option<i64>,
    distinct_sketch: Option<Vec<u8>>,
}

impl TotalsRow {
    fn into_totals(self) -> Result<WindowTotals, LedgerError> {
        let table = "window_totals";
        let (tenant, meter, label, subject) = (self.tenant, self.meter, self.label, self.subject);
        let key = CellRow { table, tenant, meter, label, subject }.into_key()?;
        let aggregation = match self.aggregation.as_str() {
            "sum" => Ok(Aggregation::Sum),
            "count" => Ok(Aggregation::Count),
            "max" => Ok(Aggregation::Max),
            "last" => Ok(Aggregation::Last),
            "distinct_count" => Ok(Aggregation::DistinctCount),
            _ => Err("not an aggregation"),
        };
        Ok(WindowTotals {
            aggregation: read_column(table, "aggregation", &key, &self.aggregation, aggregation)?,
            used: self.used,
            forfeited: read_unsigned(table, "forfeited", &key, self.forfeited)?,
            tally: Tally {
                amount_sum: self.amount_sum,
                events: read_unsigned(table, "events", &key, self.events)?,
                amount_max: self.amount_max,
                last_amount: self.last_amount,
                distinct: merge_sketches(table, &key, self.distinct_sketch)?,
            },
            key,
        })
    }
}

struct PointRow {
    start: jiff_sqlx::Timestamp,
    group_value: Option<String>,
    amount_sum: i64,
    events: i64,
    amount_max: i64,
    last_amount: i64,
    sketches: Option<Vec<Vec<u8>>>,
}

impl PointRow {
    fn into_point(self, query: &HistoryQuery) -> Result<HistoryPoint, LedgerError> {
        let table = match query.grain {
            Grain::Hour => "usage_hourly",
            Grain::Day => "usage_daily",
        };
        let start = self.start.to_jiff();
        let row = format!("{}/{} at {start}", query.tenant, query.meter);
        Ok(HistoryPoint {
            start,
            group: self.group_value,
            tally: Tally {
                amount_sum: self.amount_sum,
                events: read_unsigned(table, "events", &row, self.events)?,
                amount_max: Some(self.amount_max),
                last_amount: Some(self.last_amount),
                distinct: merge_sketches(table, &row, self.sketches.unwrap_or_default())?,
            },
        })
    }
}

/// The count of the values of all `sketches` together; `None` without any.
fn merge_sketches(
    table: &'static str,
    row: impl std::fmt::Display,
    sketches: impl IntoIterator<Item = Vec<u8>>,
) -> Result<Option<DistinctCount>, LedgerError> {
    let mut merged: Option<DistinctCount> = None;
    for bytes in sketches {
        let what = format!("{} bytes", bytes.len());
        let read = DistinctCount::from_bytes(&bytes);
        let count = read_column(table, "distinct_sketch", &row, what, read)?;
        match &mut merged {
            Some(merged) => merged.merge(&count),
            None => merged = Some(count),
        }
    }
    Ok(merged)
}
