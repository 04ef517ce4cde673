//! Usage alerts: which thresholds were reached, each told once per window whoever sees it.
//!
//! What decides is the ledger's own total, read under a lock of the counter: every sidecar looks
//! after its flush has committed, so whoever looks last has seen the flushes of all.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use rust_decimal::Decimal;
use sqlx::PgConnection;

use super::{
    cell_rows::{CellColumns, CellRow, read_column},
    error::LedgerError,
    pool::Ledger,
    usage::totals_of,
};
use crate::domain::{
    alerts::{AlertKind, is_reached},
    catalog::decimal::Percent,
    cell_key::CellKey,
    ids::TenantId,
};

/// Most rules that are settled at a time.
pub const COUNTERS_SETTLED_MAX: usize = 500;
/// Most alerts that one page may hold.
pub const ALERTS_PAGE_MAX: u32 = 1_000;

/// What a counter, or a class' share of a pool, is held against.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertRule {
    /// What the alerts are kept under.
    pub key: CellKey,
    /// The counters whose sum is held against the limit: that of `key`, unless it is of a pool.
    pub cells: Vec<CellKey>,
    /// Base units; `None` = unlimited.
    pub limit: Option<u64>,
    pub thresholds: Vec<AlertThreshold>,
    /// The tenant's present.
    pub now: Timestamp,
}

/// One threshold of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertThreshold {
    pub percent: Percent,
    /// What the catalog recommends, in words for people.
    pub recommended_action: Option<String>,
}

/// A threshold that stands reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandingAlert {
    pub percent: Percent,
    /// When it was first reached in this window, by the tenant's clock.
    pub raised_at: Timestamp,
}

/// What was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlertChanges {
    /// Told for the first time.
    pub raised: u64,
    /// Reached again, after it had been resolved.
    pub reopened: u64,
    pub resolved: u64,
}

/// What stands now, and what was changed to make it so.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SettledAlerts {
    /// One per rule, in their order.
    pub standing: Vec<Vec<StandingAlert>>,
    pub changes: AlertChanges,
}

/// An alert as it was noted.
#[derive(Clone, Debug, PartialEq)]
pub struct NotedAlert {
    pub key: CellKey,
    pub percent: Percent,
    pub kind: AlertKind,
    /// When it was raised, base units.
    pub limit: i64,
    pub used: i64,
    pub recommended_action: Option<String>,
    /// By the tenant's clock.
    pub raised_at: Timestamp,
    /// By the tenant's clock; `None` = it stands, or stood when its window ended.
    pub resolved_at: Option<Timestamp>,
}

impl Ledger {
    /// Raises and resolves alerts, so that those of each rule's counter agree with the counter's
    /// total. At most [`COUNTERS_SETTLED_MAX`] rules, each of another counter.
    pub async fn settle_alerts(&self, rules: &[AlertRule]) -> Result<SettledAlerts, LedgerError> {
        self.run_tx("settle_alerts", |tx| {
            Box::pin(async move { settle(tx.connection(), rules).await })
        })
        .await
    }

    /// A tenant's alerts, the latest first; of current and past windows.
    pub async fn alerts_of(
        &self,
        tenant: &TenantId,
        only_unresolved: bool,
        count_max: u32,
    ) -> Result<Vec<NotedAlert>, LedgerError> {
        let rows = sqlx::query_as!(
            AlertRow,
            "SELECT tenant, meter, label, subject, threshold_percent, limit_units, used_units,
                    recommended_action, raised_at, resolved_at
             FROM alerts WHERE tenant = $1 AND (resolved_at IS NULL OR NOT $2)
             ORDER BY created_at DESC, meter, subject, threshold_percent DESC LIMIT $3",
            tenant.as_str(),
            only_unresolved,
            i64::from(count_max.min(ALERTS_PAGE_MAX))
        )
        .fetch_all(self.query("alerts_of").of(tenant))
        .await?;
        rows.into_iter().map(AlertRow::into_alert).collect()
    }
}

async fn settle(tx: &mut PgConnection, rules: &[AlertRule]) -> Result<SettledAlerts, LedgerError> {
    let keys: Vec<CellKey> = rules.iter().map(|rule| rule.key.clone()).collect();
    lock(tx, &keys).await?;
    // After the lock: each statement sees what is committed when it begins.
    let cells: Vec<CellKey> = rules.iter().flat_map(|rule| rule.cells.iter().cloned()).collect();
    let totals = totals_of(&mut *tx, &cells).await?;
    let mut totals = totals.into_iter();
    let noted = noted_of(tx, &keys).await?;
    let mut settled = SettledAlerts::default();
    let mut raised = Raised::default();
    let mut reopened = Reached::default();
    let mut resolved = Reached::default();
    for rule in rules {
        let of_rule = totals.by_ref().take(rule.cells.len()).flatten();
        let used = of_rule.fold(0, |used: i64, totals| used.saturating_add(totals.value()));
        let noted = noted.get(&rule.key).map(Vec::as_slice).unwrap_or_default();
        let mut standing = vec![];
        for threshold in &rule.thresholds {
            if !is_reached(threshold.percent, used, rule.limit) {
                continue;
            }
            let raised_at = match noted.iter().find(|alert| alert.percent == threshold.percent) {
                None => {
                    raised.push(rule, threshold, used);
                    rule.now
                }
                Some(alert) => {
                    if alert.resolved_at.is_some() {
                        reopened.push(&rule.key, threshold.percent, rule.now);
                    }
                    alert.raised_at
                }
            };
            standing.push(StandingAlert { percent: threshold.percent, raised_at });
        }
        for alert in noted.iter().filter(|alert| alert.resolved_at.is_none()) {
            if !standing.iter().any(|stands| stands.percent == alert.percent) {
                resolved.push(&rule.key, alert.percent, rule.now);
            }
        }
        settled.standing.push(standing);
    }
    settled.changes = AlertChanges {
        raised: raised.write(tx).await?,
        reopened: reopened.reopen(tx).await?,
        resolved: resolved.resolve(tx).await?,
    };
    Ok(settled)
}

/// Has all others wait who settle alerts of any of `keys`.
async fn lock(tx: &mut PgConnection, keys: &[CellKey]) -> Result<(), LedgerError> {
    let names: Vec<String> = keys.iter().map(ToString::to_string).collect();
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtextextended('alerts ' || name, 0))
         FROM (SELECT name FROM UNNEST($1::text[]) AS asked (name) ORDER BY name) AS sorted",
        &names
    )
    .fetch_all(tx)
    .await?;
    Ok(())
}

async fn noted_of(
    tx: &mut PgConnection,
    keys: &[CellKey],
) -> Result<BTreeMap<CellKey, Vec<NotedAlert>>, LedgerError> {
    let columns: CellColumns = keys.iter().collect();
    let rows = sqlx::query_as!(
        AlertRow,
        "SELECT a.tenant, a.meter, a.label, a.subject, a.threshold_percent, a.limit_units,
                a.used_units, a.recommended_action, a.raised_at, a.resolved_at
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[])
             AS asked (tenant, meter, label, subject)
         JOIN alerts a USING (tenant, meter, label, subject)",
        &columns.tenants,
        &columns.meters,
        &columns.labels,
        &columns.subjects
    )
    .fetch_all(tx)
    .await?;
    let mut noted: BTreeMap<CellKey, Vec<NotedAlert>> = BTreeMap::new();
    for row in rows {
        let alert = row.into_alert()?;
        noted.entry(alert.key.clone()).or_default().push(alert);
    }
    Ok(noted)
}

/// Alerts that are new.
#[derive(Default)]
struct Raised {
    reached: Reached,
    kinds: Vec<String>,
    limits: Vec<i64>,
    used: Vec<i64>,
    actions: Vec<Option<String>>,
}

impl Raised {
    fn push(&mut self, rule: &AlertRule, threshold: &AlertThreshold, used: i64) {
        self.reached.push(&rule.key, threshold.percent, rule.now);
        self.kinds.push(AlertKind::of(threshold.percent).as_str().to_owned());
        // A limit that is reached is there, and below 2^53.
        self.limits.push(rule.limit.map_or(0, u64::cast_signed));
        self.used.push(used);
        self.actions.push(threshold.recommended_action.clone());
    }

    async fn write(self, tx: &mut PgConnection) -> Result<u64, LedgerError> {
        if self.kinds.is_empty() {
            return Ok(0);
        }
        let done = sqlx::query!(
            "INSERT INTO alerts (tenant, meter, label, subject, threshold_percent, raised_at, kind,
                 limit_units, used_units, recommended_action)
             SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::numeric[],
                 $6::timestamptz[], $7::text[], $8::bigint[], $9::bigint[], $10::text[])
             ON CONFLICT DO NOTHING",
            &self.reached.cells.tenants,
            &self.reached.cells.meters,
            &self.reached.cells.labels,
            &self.reached.cells.subjects,
            &self.reached.percents,
            &self.reached.at as _,
            &self.kinds,
            &self.limits,
            &self.used,
            &self.actions as _
        )
        .execute(tx)
        .await?;
        Ok(done.rows_affected())
    }
}

/// Thresholds of counters, and when something became of them.
#[derive(Default)]
struct Reached {
    cells: CellColumns,
    percents: Vec<Decimal>,
    at: Vec<jiff_sqlx::Timestamp>,
}

impl Reached {
    fn push(&mut self, key: &CellKey, percent: Percent, at: Timestamp) {
        self.cells.push(key);
        self.percents.push(percent.get());
        self.at.push(at.to_sqlx());
    }

    async fn reopen(self, tx: &mut PgConnection) -> Result<u64, LedgerError> {
        if self.percents.is_empty() {
            return Ok(0);
        }
        let done = sqlx::query!(
            "UPDATE alerts a SET resolved_at = NULL
             FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::numeric[])
                 AS again (tenant, meter, label, subject, threshold_percent)
             WHERE (a.tenant, a.meter, a.label, a.subject, a.threshold_percent)
                 = (again.tenant, again.meter, again.label, again.subject, again.threshold_percent)",
            &self.cells.tenants,
            &self.cells.meters,
            &self.cells.labels,
            &self.cells.subjects,
            &self.percents
        )
        .execute(tx)
        .await?;
        Ok(done.rows_affected())
    }

    async fn resolve(self, tx: &mut PgConnection) -> Result<u64, LedgerError> {
        if self.percents.is_empty() {
            return Ok(0);
        }
        let done = sqlx::query!(
            "UPDATE alerts a SET resolved_at = past.at
             FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::numeric[],
                 $6::timestamptz[]) AS past (tenant, meter, label, subject, threshold_percent, at)
             WHERE (a.tenant, a.meter, a.label, a.subject, a.threshold_percent)
                 = (past.tenant, past.meter, past.label, past.subject, past.threshold_percent)",
            &self.cells.tenants,
            &self.cells.meters,
            &self.cells.labels,
            &self.cells.subjects,
            &self.percents,
            &self.at as _
        )
        .execute(tx)
        .await?;
        Ok(done.rows_affected())
    }
}

struct AlertRow {
    tenant: String,
    meter: String,
    label: String,
    subject: String,
    threshold_percent: Decimal,
    limit_units: i64,
    used_units: i64,
    recommended_action: Option<String>,
    raised_at: jiff_sqlx::Timestamp,
    resolved_at: Option<jiff_sqlx::Timestamp>,
}

impl AlertRow {
    fn into_alert(self) -> Result<NotedAlert, LedgerError> {
        let table = "alerts";
        let (tenant, meter, label, subject) = (self.tenant, self.meter, self.label, self.subject);
        let key = CellRow { table, tenant, meter, label, subject }.into_key()?;
        let text = self.threshold_percent.normalize().to_string();
        let percent = read_column(table, "threshold_percent", &key, &text, text.parse())?;
        Ok(NotedAlert {
            kind: AlertKind::of(percent),
            percent,
            limit: self.limit_units,
            used: self.used_units,
            recommended_action: self.recommended_action,
            raised_at: self.raised_at.to_jiff(),
            resolved_at: self.resolved_at.map(jiff_sqlx::Timestamp::to_jiff),
            key,
        })
    }
}
