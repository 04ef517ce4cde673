//! Subscriptions: which version of which plan a tenant is on, and how that came about.

use std::fmt::Display;

use jiff::{Timestamp, tz::TimeZone};
use jiff_sqlx::ToSqlx;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    catalogs::{WhichVersion, read_version, resolve_plan},
    cell_rows::read_column,
    changes::{AuditEntry, Author, next_change},
    error::{LedgerError, Refusal},
    pool::Ledger,
    pool_plans::check_may_leave,
};
use crate::domain::{
    ids::{CatalogName, PlanName, TenantId},
    invalid::Invalid,
    tenant::{PlanVersion, Subscription, SubscriptionStatus, Tenant},
    window::{BillingInterval, WindowSchedule},
};

/// What a change of plan does to the windows that are being counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowsAfter {
    /// Usage goes on counting where it stands.
    Keep,
    /// Billing cycles start anew at the change, and so do all windows.
    Reset,
}

/// A change of plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanChange {
    pub catalog: CatalogName,
    pub plan: PlanName,
    pub plan_version: WhichVersion,
    /// Another billing interval starts a new schedule, whatever `windows` says.
    pub interval: Option<BillingInterval>,
    pub windows: WindowsAfter,
    /// By the tenant's clock.
    pub effective_at: Timestamp,
}

/// One state that a subscription was in.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionRevision {
    /// Counts from 1 within the subscription.
    pub revision: u32,
    /// Since when, by the tenant's clock.
    pub effective_at: Timestamp,
    pub subscription: Subscription,
    pub actor: String,
    pub reason: String,
}

/// A subscription as its rows have it.
#[derive(Clone, Debug)]
pub(super) struct SubscriptionState {
    pub(super) id: Uuid,
    pub(super) revision: i32,
    pub(super) plan: PlanVersion,
    pub(super) status: SubscriptionStatus,
    pub(super) zone: String,
    pub(super) anchor: Timestamp,
    pub(super) interval: BillingInterval,
    pub(super) anchor_version: i32,
    pub(super) started_at: Timestamp,
}

impl SubscriptionState {
    pub(super) fn into_subscription(self, zone: TimeZone) -> Subscription {
        Subscription {
            id: self.id,
            plan: self.plan,
            status: self.status,
            schedule: WindowSchedule {
                zone,
                anchor: self.anchor,
                interval: self.interval,
                version: self.anchor_version.unsigned_abs(), // A CHECK keeps it above 0.
            },
            started_at: self.started_at,
        }
    }
}

impl Ledger {
    /// Puts a tenant on another plan, or on another version of its plan. Refused where it draws on a
    /// pool that the other plan's tenants may not draw on.
    pub async fn set_plan(
        &self,
        tenant: &TenantId,
        to: &PlanChange,
        author: Author<'_>,
    ) -> Result<Tenant, LedgerError> {
        // Across tenants, since whether it may leave a pool depends on others of its account.
        self.run_tx("set_plan", |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                let mut state = read_for_update(tx, tenant).await?;
                let before = state.plan.clone();
                state.plan = resolve_plan(tx, &to.catalog, &to.plan, to.plan_version).await?;
                let interval = to.interval.unwrap_or(state.interval);
                if interval != state.interval || to.windows == WindowsAfter::Reset {
                    state.anchor = to.effective_at;
                    state.interval = interval;
                    state.anchor_version += 1;
                }
                state.revision += 1;
                let detail = json!({ "before": &before, "after": state.plan });
                let entry = entry(author, "tenant.set_plan", tenant, detail);
                change(tx, tenant, &state, to.effective_at, entry).await?;
                // From the change on, nobody joins a pool before this is decided.
                match (&before.catalog, &before.plan) == (&state.plan.catalog, &state.plan.plan) {
                    true => Ok(()),
                    false => check_may_leave(tx, tenant, &before).await,
                }
            })
        })
        .await?;
        self.changed_tenant(tenant).await
    }

    /// Moves a tenant's subscription to another status.
    pub async fn set_status(
        &self,
        tenant: &TenantId,
        status: SubscriptionStatus,
        effective_at: Timestamp,
        author: Author<'_>,
    ) -> Result<Tenant, LedgerError> {
        self.run_tx_of("set_status", tenant, |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                let mut state = read_for_update(tx, tenant).await?;
                let detail = json!({ "before": state.status, "after": status });
                state.status = status;
                state.revision += 1;
                let entry = entry(author, "tenant.set_status", tenant, detail);
                change(tx, tenant, &state, effective_at, entry).await
            })
        })
        .await?;
        self.changed_tenant(tenant).await
    }

    /// Every state that a tenant's subscriptions were in, oldest first.
    pub async fn subscription_history(
        &self,
        tenant: &TenantId,
    ) -> Result<Vec<SubscriptionRevision>, LedgerError> {
        let rows = sqlx::query!(
            "SELECT h.subscription, h.revision, h.effective_at, h.catalog, h.plan, h.plan_version,
                    h.status, h.zone, h.anchor, h.billing_interval, h.anchor_version, h.actor,
                    h.reason, first.effective_at AS started_at
             FROM subscription_history h
             JOIN subscription_history first ON first.tenant = h.tenant
                 AND first.subscription = h.subscription AND first.revision = 1
             WHERE h.tenant = $1 ORDER BY h.change_version, h.revision",
            tenant.as_str()
        )
        .fetch_all(self.query("subscription_history").of(tenant))
        .await?;
        let table = "subscription_history";
        rows.into_iter()
            .map(|row| {
                let zone = read_column(table, "zone", tenant, &row.zone, read_zone(&row.zone))?;
                let state = SubscriptionState {
                    id: row.subscription,
                    revision: row.revision,
                    plan: read_plan(tenant, &row.catalog, &row.plan, row.plan_version)?,
                    status: read_status(tenant, &row.status)?,
                    zone: row.zone,
                    anchor: row.anchor.to_jiff(),
                    interval: read_interval(tenant, &row.billing_interval)?,
                    anchor_version: row.anchor_version,
                    started_at: row.started_at.to_jiff(),
                };
                Ok(SubscriptionRevision {
                    revision: read_version(table, tenant.as_str(), row.revision)?,
                    effective_at: row.effective_at.to_jiff(),
                    subscription: state.into_subscription(zone),
                    actor: row.actor,
                    reason: row.reason,
                })
            })
            .collect()
    }

    async fn changed_tenant(&self, tenant: &TenantId) -> Result<Tenant, LedgerError> {
        let listed = self.tenant(tenant).await?;
        Ok(listed.ok_or_else(|| LedgerError::not_found("tenant", tenant))?.tenant)
    }
}

async fn read_for_update(
    tx: &mut PgConnection,
    tenant: &TenantId,
) -> Result<SubscriptionState, LedgerError> {
    let row = sqlx::query!(
        "SELECT subscription, revision, catalog, plan, plan_version, status, zone, anchor,
                billing_interval, anchor_version, started_at
         FROM subscriptions WHERE tenant = $1 FOR UPDATE",
        tenant.as_str()
    )
    .fetch_optional(tx)
    .await?
    .ok_or_else(|| LedgerError::not_found("tenant", tenant))?;
    Ok(SubscriptionState {
        id: row.subscription,
        revision: row.revision,
        plan: read_plan(tenant, &row.catalog, &row.plan, row.plan_version)?,
        status: read_status(tenant, &row.status)?,
        zone: row.zone,
        anchor: row.anchor.to_jiff(),
        interval: read_interval(tenant, &row.billing_interval)?,
        anchor_version: row.anchor_version,
        started_at: row.started_at.to_jiff(),
    })
}

/// Writes a changed state, announces it, and notes who did it.
async fn change(
    tx: &mut PgConnection,
    tenant: &TenantId,
    state: &SubscriptionState,
    effective_at: Timestamp,
    entry: AuditEntry<'_>,
) -> Result<(), LedgerError> {
    let version = next_change(tx).await?;
    write(tx, tenant, state, effective_at, version, entry.author).await?;
    sqlx::query!(
        "UPDATE tenants SET change_version = $2 WHERE tenant = $1",
        tenant.as_str(),
        version
    )
    .execute(&mut *tx)
    .await?;
    entry.write(tx).await
}

fn entry<'a>(
    author: Author<'a>,
    action: &'static str,
    tenant: &'a TenantId,
    detail: serde_json::Value,
) -> AuditEntry<'a> {
    AuditEntry { author, action, account: None, tenant: Some(tenant), detail }
}

/// Writes a state as the current one and appends it to the history.
pub(super) async fn write(
    tx: &mut PgConnection,
    tenant: &TenantId,
    state: &SubscriptionState,
    effective_at: Timestamp,
    change_version: i64,
    author: Author<'_>,
) -> Result<(), LedgerError> {
    let plan_version = i32::try_from(state.plan.version);
    let plan_version =
        read_column("subscriptions", "plan_version", tenant, state.plan.version, plan_version)?;
    sqlx::query_file!(
        "src/ledger/queries/write_subscription.sql",
        tenant.as_str(),
        state.id,
        state.plan.catalog.as_str(),
        state.plan.plan.as_str(),
        plan_version,
        status_name(state.status),
        state.zone,
        state.anchor.to_sqlx() as _,
        interval_name(state.interval),
        state.anchor_version,
        state.started_at.to_sqlx() as _,
        state.revision,
        effective_at.to_sqlx() as _,
        change_version,
        author.actor,
        author.reason
    )
    .execute(tx)
    .await?;
    Ok(())
}

fn read_plan(
    tenant: &TenantId,
    catalog: &str,
    plan: &str,
    version: i32,
) -> Result<PlanVersion, LedgerError> {
    let table = "subscriptions";
    Ok(PlanVersion {
        catalog: read_column(table, "catalog", tenant, catalog, CatalogName::new(catalog))?,
        plan: read_column(table, "plan", tenant, plan, PlanName::new(plan))?,
        version: read_version(table, tenant.as_str(), version)?,
    })
}

/// Finds a zone by its IANA name.
pub(super) fn read_zone(name: &str) -> Result<TimeZone, Refusal> {
    TimeZone::get(name).map_err(|_| {
        Invalid::new(
            "zone",
            format!("{name:?} is not a time zone"),
            "give an IANA name such as Europe/London",
        )
        .into()
    })
}

fn status_name(status: SubscriptionStatus) -> &'static str {
    match status {
        SubscriptionStatus::Trialing => "trialing",
        SubscriptionStatus::Active => "active",
        SubscriptionStatus::PastDue => "past_due",
        SubscriptionStatus::Suspended => "suspended",
        SubscriptionStatus::Cancelled => "cancelled",
    }
}

pub(super) fn read_status(
    key: impl Display,
    text: &str,
) -> Result<SubscriptionStatus, LedgerError> {
    let status = match text {
        "trialing" => Ok(SubscriptionStatus::Trialing),
        "active" => Ok(SubscriptionStatus::Active),
        "past_due" => Ok(SubscriptionStatus::PastDue),
        "suspended" => Ok(SubscriptionStatus::Suspended),
        "cancelled" => Ok(SubscriptionStatus::Cancelled),
        _ => Err("not a status"),
    };
    read_column("subscriptions", "status", key, text, status)
}

fn interval_name(interval: BillingInterval) -> &'static str {
    match interval {
        BillingInterval::Monthly => "monthly",
        BillingInterval::Yearly => "yearly",
    }
}

pub(super) fn read_interval(key: impl Display, text: &str) -> Result<BillingInterval, LedgerError> {
    let interval = match text {
        "monthly" => Ok(BillingInterval::Monthly),
        "yearly" => Ok(BillingInterval::Yearly),
        _ => Err("not an interval"),
    };
    read_column("subscriptions", "billing_interval", key, text, interval)
}
