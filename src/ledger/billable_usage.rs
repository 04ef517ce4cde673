//! Usage as billing reads it: windows that nobody has charged for, levels hour by hour, and how a
//! window's usage is made up.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

use super::{
    cell_rows::{CellRow, read_column, subject_column},
    error::LedgerError,
    pool::Ledger,
};
use crate::domain::{
    cell_key::CellKey,
    ids::{MeterName, TenantId},
};

/// A counter's total, in all the ways that a meter may aggregate.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowUsage {
    pub key: CellKey,
    /// Units of a sum, count or level.
    pub used: i64,
    /// The largest amount, if there was an event.
    pub amount_max: Option<i64>,
    /// The amount of the latest event, if there was one.
    pub last_amount: Option<i64>,
    /// Distinct values, encoded.
    pub distinct_sketch: Option<Vec<u8>>,
}

/// How a window's usage is made up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageByProperty {
    /// Units of the window in all.
    pub used: i64,
    /// By the property's values, in their order; `None` = usage without it.
    pub by_value: Vec<(Option<String>, u64)>,
}

/// A tenant's meter that has a price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PricedMeter {
    pub tenant: TenantId,
    pub meter: MeterName,
}

/// What a level changed by within one hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HourlyChange {
    /// Start of the hour.
    pub hour: Timestamp,
    /// Base units, up or down.
    pub delta: i64,
}

impl Ledger {
    /// Windows of `meters` that have no charge of `kind`, in the order of their keys' text, from
    /// after `after` on, at most `limit`. Whether a window has ended is the caller's to tell.
    pub async fn uncharged_windows(
        &self,
        meters: &[PricedMeter],
        kind: &str,
        after: Option<&CellKey>,
        limit: u32,
    ) -> Result<Vec<WindowUsage>, LedgerError> {
        let tenants: Vec<String> = meters.iter().map(|m| m.tenant.as_str().to_owned()).collect();
        let names: Vec<String> = meters.iter().map(|m| m.meter.as_str().to_owned()).collect();
        let rows = sqlx::query_file!(
            "src/ledger/queries/uncharged_windows.sql",
            &tenants,
            &names,
            kind,
            after.map_or("", |key| key.tenant.as_str()),
            after.map_or("", |key| key.meter.as_str()),
            after.map(|key| key.label.to_string()).unwrap_or_default(),
            after.map_or("", |key| subject_column(key.subject.as_ref())),
            i64::from(limit),
        )
        .fetch_all(self.query("uncharged_windows"))
        .await?;
        rows.into_iter()
            .map(|row| {
                let key = CellRow {
                    table: "window_totals",
                    tenant: row.tenant,
                    meter: row.meter,
                    label: row.label,
                    subject: row.subject,
                };
                Ok(WindowUsage {
                    key: key.into_key()?,
                    used: row.used,
                    amount_max: row.amount_max,
                    last_amount: row.last_amount,
                    distinct_sketch: row.distinct_sketch,
                })
            })
            .collect()
    }

    /// A window's usage, and when it last changed, real time; `None` where nothing was used.
    pub async fn window_usage(
        &self,
        key: &CellKey,
    ) -> Result<Option<(WindowUsage, Timestamp)>, LedgerError> {
        let row = sqlx::query!(
            "SELECT used, amount_max, last_amount, distinct_sketch, updated_at FROM window_totals
             WHERE tenant = $1 AND meter = $2 AND label = $3 AND subject = $4",
            key.tenant.as_str(),
            key.meter.as_str(),
            key.label.to_string(),
            subject_column(key.subject.as_ref()),
        )
        .fetch_optional(self.query("window_usage"))
        .await?;
        Ok(row.map(|row| {
            let usage = WindowUsage {
                key: key.clone(),
                used: row.used,
                amount_max: row.amount_max,
                last_amount: row.last_amount,
                distinct_sketch: row.distinct_sketch,
            };
            (usage, row.updated_at.to_jiff())
        }))
    }

    /// By how much a level changed, hour by hour, as far as grants and pools do not cover it. What was before `from` is one change, at the hour
    /// of the first.
    pub async fn level_changes(
        &self,
        key: &CellKey,
        from: Timestamp,
    ) -> Result<Vec<HourlyChange>, LedgerError> {
        let rows = sqlx::query_file!(
            "src/ledger/queries/level_changes.sql",
            key.tenant.as_str(),
            key.meter.as_str(),
            key.label.to_string(),
            subject_column(key.subject.as_ref()),
            from.to_sqlx() as _,
        )
        .fetch_all(self.query("level_changes").of(&key.tenant))
        .await?;
        rows.into_iter()
            .map(|row| Ok(HourlyChange { hour: row.hour.to_jiff(), delta: row.delta }))
            .collect()
    }

    /// A window's usage, and how it is made up by the values of one of the properties that its
    /// meter groups by, both at one moment. Units for a sum, events for a count (`by_events`).
    pub async fn usage_by_property(
        &self,
        key: &CellKey,
        property: &str,
        by_events: bool,
    ) -> Result<UsageByProperty, LedgerError> {
        let rows = sqlx::query!(
            r#"WITH parts AS (
                   SELECT group_values ->> $5 AS value,
                          sum(CASE WHEN $6 THEN events ELSE amount_sum END - covered)::bigint AS units
                   FROM usage_daily
                   WHERE tenant = $1 AND meter = $2 AND label = $3 AND subject = $4
                   GROUP BY 1
               )
               SELECT w.used AS "used!", parts.value AS "value?", parts.units AS "units?"
               FROM window_totals w LEFT JOIN parts ON true
               WHERE w.tenant = $1 AND w.meter = $2 AND w.label = $3 AND w.subject = $4
               ORDER BY parts.value"#,
            key.tenant.as_str(),
            key.meter.as_str(),
            key.label.to_string(),
            subject_column(key.subject.as_ref()),
            property,
            by_events,
        )
        .fetch_all(self.query("usage_by_property").of(&key.tenant))
        .await?;
        let mut usage = UsageByProperty::default();
        for row in rows {
            usage.used = row.used;
            if let Some(units) = row.units {
                let units = read_column("usage_daily", "amount_sum", key, units, units.try_into())?;
                usage.by_value.push((row.value, units));
            }
        }
        Ok(usage)
    }
}
