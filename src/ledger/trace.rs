//! What the ledger has of one event.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::Value;

use super::{
    cell_rows::{CellRow, read_column, read_unsigned, subject_column},
    charges::Charge,
    error::LedgerError,
    pool::Ledger,
    quarantine::QuarantineEntry,
};
use crate::domain::{
    cell_key::CellKey,
    ids::{IdempotencyKey, RunId, TenantId},
};

/// Most rows of a kind that are told of one event; an operation has a few parts, a batch more.
const ROWS_MAX: i64 = 100;

/// A row of `usage_keys`: which event was counted under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedKey {
    /// Empty for an operation.
    pub meter: String,
    pub subject: String,
    pub amount: i64,
    /// An operation's name and all that it takes; empty for an event.
    pub operation: String,
    /// Run whose event was counted, and where its record ends in the journal.
    pub run: RunId,
    pub journal_position: u64,
    /// When it reached the ledger, real time.
    pub received_at: Timestamp,
}

/// A raw event that is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptEvent {
    pub key: CellKey,
    pub event_at: Timestamp,
    pub amount: i64,
    pub idempotency_key: Option<String>,
    pub properties: Value,
    pub run: RunId,
    pub journal_position: u64,
    pub received_at: Timestamp,
    pub keep_until: Timestamp,
}

/// A row of a rollup that an event is counted in.
#[derive(Clone, Debug, PartialEq)]
pub struct RollupRow {
    /// `usage_hourly` or `usage_daily`.
    pub table: &'static str,
    /// Start of the hour or day.
    pub start: Timestamp,
    pub group_values: Value,
    pub amount_sum: i64,
    pub events: u64,
    /// Units that grants and pools cover.
    pub covered: i64,
}

impl Ledger {
    /// The event that was counted under a key; `None` when none was, or it is long ago.
    pub async fn used_key(
        &self,
        tenant: &TenantId,
        key: &IdempotencyKey,
    ) -> Result<Option<UsedKey>, LedgerError> {
        let row = sqlx::query!(
            "SELECT meter, subject, amount, operation, run, journal_position, received_at
             FROM usage_keys WHERE tenant = $1 AND idempotency_key = $2",
            tenant.as_str(),
            key.as_str()
        )
        .fetch_optional(self.query("used_key").of(tenant))
        .await?;
        row.map(|row| {
            let (run, position) = (RunId(row.run), row.journal_position);
            Ok(UsedKey {
                meter: row.meter,
                subject: row.subject,
                amount: row.amount,
                operation: row.operation,
                run,
                journal_position: read_unsigned("usage_keys", "journal_position", run, position)?,
                received_at: row.received_at.to_jiff(),
            })
        })
        .transpose()
    }

    /// The keys under which events of the record that ends at `position` of a run's journal were counted,
    /// with whose they are.
    pub async fn used_keys_of_record(
        &self,
        run: RunId,
        position: u64,
    ) -> Result<Vec<(TenantId, IdempotencyKey, UsedKey)>, LedgerError> {
        let Ok(column) = i64::try_from(position) else { return Ok(Vec::new()) };
        let rows = sqlx::query!(
            "SELECT tenant, idempotency_key, meter, subject, amount, operation, received_at
             FROM usage_keys WHERE run = $1 AND journal_position = $2
             ORDER BY tenant, idempotency_key LIMIT $3",
            run.0,
            column,
            ROWS_MAX
        )
        .fetch_all(self.query("used_keys_of_record"))
        .await?;
        let table = "usage_keys";
        rows.into_iter()
            .map(|row| {
                let tenant =
                    read_column(table, "tenant", run, &row.tenant, TenantId::stored(&row.tenant))?;
                let key = IdempotencyKey::new(&row.idempotency_key);
                let key = read_column(table, "idempotency_key", run, &row.idempotency_key, key)?;
                let used = UsedKey {
                    meter: row.meter,
                    subject: row.subject,
                    amount: row.amount,
                    operation: row.operation,
                    run,
                    journal_position: position,
                    received_at: row.received_at.to_jiff(),
                };
                Ok((tenant, key, used))
            })
            .collect()
    }

    /// Raw events of the record that ends at `position` of a run's journal, of one tenant where it is
    /// known. `received_at` spares the search where it is known.
    pub async fn kept_events_of_record(
        &self,
        tenant: Option<&TenantId>,
        run: RunId,
        position: u64,
        received_at: Option<Timestamp>,
    ) -> Result<Vec<KeptEvent>, LedgerError> {
        let Ok(column) = i64::try_from(position) else { return Ok(Vec::new()) };
        let rows = sqlx::query!(
            "SELECT tenant, meter, subject, label, event_at, amount, idempotency_key, properties,
                 run, journal_position, received_at, keep_until
             FROM usage_events
             WHERE run = $1 AND journal_position = $2 AND ($3::text IS NULL OR tenant = $3)
                 AND ($4::timestamptz IS NULL OR received_at = $4)
             ORDER BY tenant, meter, label, subject, event_at LIMIT $5",
            run.0,
            column,
            tenant.map(TenantId::as_str),
            received_at.map(ToSqlx::to_sqlx) as _,
            ROWS_MAX
        )
        .fetch_all(self.query("kept_events_of_record"))
        .await?;
        rows.into_iter()
            .map(|row| {
                let key = CellRow {
                    table: "usage_events",
                    tenant: row.tenant,
                    meter: row.meter,
                    label: row.label,
                    subject: row.subject,
                };
                Ok(KeptEvent {
                    key: key.into_key()?,
                    event_at: row.event_at.to_jiff(),
                    amount: row.amount,
                    idempotency_key: row.idempotency_key,
                    properties: row.properties,
                    run: RunId(row.run),
                    journal_position: position,
                    received_at: row.received_at.to_jiff(),
                    keep_until: row.keep_until.to_jiff(),
                })
            })
            .collect()
    }

    /// Quarantined usage of a tenant under a key.
    pub async fn quarantined_under(
        &self,
        tenant: &TenantId,
        key: &IdempotencyKey,
    ) -> Result<Vec<QuarantineEntry>, LedgerError> {
        let rows = sqlx::query_as!(
            Row,
            "SELECT entry, tenant, meter, reason, problem, event, run, journal_position,
                    quarantined_at
             FROM quarantine WHERE tenant = $1 AND event ->> 'idempotency_key' = $2
             ORDER BY entry LIMIT $3",
            tenant.as_str(),
            key.as_str(),
            ROWS_MAX
        )
        .fetch_all(self.query("quarantined_under"))
        .await?;
        rows.into_iter().map(Row::into_entry).collect()
    }

    /// Quarantined usage of the record that ends at `position` of a run's journal.
    pub async fn quarantined_of_record(
        &self,
        run: RunId,
        position: u64,
    ) -> Result<Vec<QuarantineEntry>, LedgerError> {
        let Ok(column) = i64::try_from(position) else { return Ok(Vec::new()) };
        let rows = sqlx::query_as!(
            Row,
            "SELECT entry, tenant, meter, reason, problem, event, run, journal_position,
                    quarantined_at
             FROM quarantine WHERE run = $1 AND journal_position = $2 ORDER BY entry LIMIT $3",
            run.0,
            column,
            ROWS_MAX
        )
        .fetch_all(self.query("quarantined_of_record"))
        .await?;
        rows.into_iter().map(Row::into_entry).collect()
    }

    /// The rows of the rollups that usage of `key` at `at` is counted in, by every group.
    pub async fn rollup_rows(
        &self,
        key: &CellKey,
        at: Timestamp,
    ) -> Result<Vec<RollupRow>, LedgerError> {
        let rows = sqlx::query!(
            r#"SELECT true AS "is_hour!", hour AS "start!: jiff_sqlx::Timestamp",
                   group_values AS "group_values!", amount_sum AS "amount_sum!",
                   events AS "events!", covered AS "covered!"
               FROM usage_hourly
               WHERE tenant = $1 AND meter = $2 AND label = $3 AND subject = $4
                   AND hour = date_trunc('hour', $5::timestamptz, 'UTC')
               UNION ALL
               SELECT false, day, group_values, amount_sum, events, covered
               FROM usage_daily
               WHERE tenant = $1 AND meter = $2 AND label = $3 AND subject = $4
                   AND day = date_trunc('day', $5::timestamptz, 'UTC')
               ORDER BY 1 DESC, 3 LIMIT $6"#,
            key.tenant.as_str(),
            key.meter.as_str(),
            key.label.to_string(),
            subject_column(key.subject.as_ref()),
            at.to_sqlx() as _,
            ROWS_MAX
        )
        .fetch_all(self.query("rollup_rows").of(&key.tenant))
        .await?;
        rows.into_iter()
            .map(|row| {
                let table = if row.is_hour { "usage_hourly" } else { "usage_daily" };
                Ok(RollupRow {
                    table,
                    start: row.start.to_jiff(),
                    group_values: row.group_values,
                    amount_sum: row.amount_sum,
                    events: read_unsigned(table, "events", key, row.events)?,
                    covered: row.covered,
                })
            })
            .collect()
    }

    /// The charges that usage of `key` at `at` is part of: of its window, or of its month where levels
    /// are charged by the month.
    pub async fn charges_of_usage(
        &self,
        key: &CellKey,
        at: Timestamp,
    ) -> Result<Vec<Charge>, LedgerError> {
        let mut found = Vec::new();
        let mut after: Option<Charge> = None;
        loop {
            let page = self.charges_after(&key.tenant, after.as_ref(), 500).await?;
            let Some(last) = page.last() else { return Ok(found) };
            after = Some(last.clone());
            found.extend(page.into_iter().filter(|charge| {
                let of = &charge.key;
                let is_of_month = key.label.is_endless()
                    && !of.label.is_of_grant()
                    && charge.period_start <= at
                    && at < charge.period_end;
                (&of.meter, &of.subject) == (&key.meter, &key.subject)
                    && (of.label == key.label || is_of_month)
            }));
        }
    }
}

struct Row {
    entry: i64,
    tenant: String,
    meter: String,
    reason: String,
    problem: String,
    event: Value,
    run: uuid::Uuid,
    journal_position: i64,
    quarantined_at: jiff_sqlx::Timestamp,
}

impl Row {
    fn into_entry(self) -> Result<QuarantineEntry, LedgerError> {
        let (table, entry) = ("quarantine", self.entry);
        Ok(QuarantineEntry {
            entry: read_unsigned(table, "entry", entry, entry)?,
            tenant: self.tenant,
            meter: self.meter,
            reason: self.reason,
            problem: self.problem,
            event: self.event,
            run: RunId(self.run),
            journal_position: read_unsigned(
                table,
                "journal_position",
                entry,
                self.journal_position,
            )?,
            quarantined_at: self.quarantined_at.to_jiff(),
        })
    }
}
