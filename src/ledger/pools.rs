//! Pools as rows: what tenants of an account share, and who draws on it.
//!
//! Whatever changes of a pool moves the versions of the members that it concerns, so that every sidecar
//! has it within a second.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{
    cell_rows::read_column,
    changes::{AuditEntry, Author, next_change},
    error::{LedgerError, Refusal},
    pool::Ledger,
    pool_plans::{Described, check_may_join},
    stored_pool::{PoolColumns, PoolRow, read_pool},
};
use crate::domain::{
    catalog::names::RuleName,
    ids::{AccountId, CatalogName, MeterName, PoolId, TenantId},
    invalid::Invalid,
    pool::{PoolClass, PoolMembership},
    window::BillingInterval,
};

pub use super::stored_pool::StoredPool;

/// A pool to be set up.
#[derive(Clone, Debug, PartialEq)]
pub struct NewPool {
    pub account: AccountId,
    pub catalog: CatalogName,
    pub name: RuleName,
    pub meter: MeterName,
    /// Base units in each window.
    pub size: u64,
    pub classes: Vec<PoolClass>,
    pub max_members: Option<u32>,
    /// A plan definition with the pool's meter and its window; its limit is set for each cell.
    pub definition: Value,
    pub zone: String,
    pub anchor: Timestamp,
    pub interval: BillingInterval,
}

/// A member, and what it has used of the pool in one window.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolMember {
    pub tenant: TenantId,
    pub class: Option<String>,
    /// It has left the pool, and its usage of the window stays.
    pub has_left: bool,
    pub used: i64,
}

macro_rules! select_pools {
    ($tail:literal, $($argument:expr),*) => {
        sqlx::query_as!(
            PoolRow,
            "SELECT p.account, p.pool, p.catalog, p.name, p.meter, p.size, p.classes, p.settling,
                    p.max_members, p.definition, p.zone, p.anchor, p.billing_interval, p.change_version,
                    a.test_clock
             FROM pools p JOIN accounts a USING (account) "
                + $tail,
            $($argument),*
        )
    };
}

impl Ledger {
    /// Sets up a pool.
    pub async fn create_pool(
        &self,
        new: &NewPool,
        author: Author<'_>,
    ) -> Result<StoredPool, LedgerError> {
        self.run_tx("create_pool", |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                let change = next_change(tx).await?;
                let added = sqlx::query!(
                    "INSERT INTO pools (account, catalog, name, meter, size, classes, max_members,
                         definition, zone, anchor, billing_interval, change_version)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
                     ON CONFLICT (account, catalog, name) DO NOTHING RETURNING pool",
                    new.account.as_str(),
                    new.catalog.as_str(),
                    new.name.as_str(),
                    new.meter.as_str(),
                    i64::try_from(new.size).unwrap_or(i64::MAX),
                    json!(new.classes),
                    new.max_members.map(|most| i32::try_from(most).unwrap_or(i32::MAX)),
                    new.definition,
                    new.zone,
                    new.anchor.to_sqlx() as _,
                    interval_name(new.interval),
                    change
                )
                .fetch_optional(&mut *tx)
                .await?
                .ok_or_else(|| LedgerError::exists("pool", &new.name))?;
                let detail = json!({
                    "pool": added.pool, "name": new.name, "meter": new.meter, "size": new.size,
                    "classes": new.classes,
                });
                let action = "pool.create";
                AuditEntry { author, action, account: Some(&new.account), tenant: None, detail }
                    .write(tx)
                    .await?;
                let row = select_pools!("WHERE p.pool = $1", added.pool).fetch_one(tx).await?;
                row.into_pool()
            })
        })
        .await
    }

    /// The pools of an account, or of all.
    pub async fn pools(&self, account: Option<&AccountId>) -> Result<Vec<StoredPool>, LedgerError> {
        let rows = select_pools!(
            "WHERE $1::text IS NULL OR p.account = $1 ORDER BY p.pool",
            account.map(AccountId::as_str)
        )
        .fetch_all(self.query("pools"))
        .await?;
        rows.into_iter().map(PoolRow::into_pool).collect()
    }

    /// The pool with this id.
    pub async fn pool(&self, pool: PoolId) -> Result<Option<StoredPool>, LedgerError> {
        let row = select_pools!("WHERE p.pool = $1", number(pool))
            .fetch_optional(self.query("pool"))
            .await?;
        row.map(PoolRow::into_pool).transpose()
    }

    /// Has a tenant of the pool's account draw on it, instead of on its plan's limit. Its plan must
    /// be one that the catalog lists for the pool.
    pub async fn add_pool_member(
        &self,
        pool: &StoredPool,
        tenant: &TenantId,
        class: Option<&RuleName>,
        author: Author<'_>,
    ) -> Result<(), LedgerError> {
        pool.pool.check_class(class).map_err(Refusal::Invalid)?;
        self.run_tx("add_pool_member", |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                touch_member(tx, tenant, &pool.account).await?;
                let StoredPool { catalog, name, .. } = pool;
                let described = Described { pool: pool.pool.id, catalog, name };
                check_may_join(tx, described, tenant).await?;
                let members = sqlx::query!(
                    r#"SELECT count(*) AS "members!" FROM pool_members WHERE pool = $1"#,
                    number(pool.pool.id)
                )
                .fetch_one(&mut *tx)
                .await?
                .members;
                if pool.max_members.is_some_and(|most| members >= i64::from(most)) {
                    return Err(Refusal::Invalid(Invalid::new(
                        "pool",
                        format!("has {members} members, as many as it may have"),
                        "remove one first, or use another pool",
                    ))
                    .into());
                }
                let added = sqlx::query!(
                    "INSERT INTO pool_members (tenant, meter, pool, class) VALUES ($1, $2, $3, $4)
                     ON CONFLICT (tenant, meter) DO NOTHING",
                    tenant.as_str(),
                    pool.pool.meter.as_str(),
                    number(pool.pool.id),
                    class.map(RuleName::as_str)
                )
                .execute(&mut *tx)
                .await?;
                if added.rows_affected() == 0 {
                    return Err(Refusal::Invalid(Invalid::new(
                        "tenant",
                        format!("{tenant} draws on a pool of {} already", pool.pool.meter),
                        "take it out of that pool first",
                    ))
                    .into());
                }
                let detail = json!({ "pool": pool.pool.id, "class": class });
                audit(tx, "pool.add_member", pool, tenant, detail, author).await
            })
        })
        .await
    }

    /// Has a tenant draw on its plan's limit again. What it used of the pool stays used. Of a level
    /// it must have nothing left there: it could only come free on its own limit.
    pub async fn remove_pool_member(
        &self,
        pool: &StoredPool,
        tenant: &TenantId,
        author: Author<'_>,
    ) -> Result<(), LedgerError> {
        self.run_tx("remove_pool_member", |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                touch_member(tx, tenant, &pool.account).await?;
                let left = sqlx::query!(
                    r#"SELECT coalesce(sum(used), 0)::bigint AS "used!" FROM pool_usage
                       WHERE tenant = $1 AND pool = $2"#,
                    tenant.as_str(),
                    number(pool.pool.id)
                )
                .fetch_one(&mut *tx)
                .await?
                .used;
                if pool.is_of_level() && left > 0 {
                    return Err(Refusal::Invalid(Invalid::new(
                        "tenant",
                        format!("{tenant} has {left} of {} in the pool", pool.pool.meter),
                        "remove it when its level there is 0",
                    ))
                    .into());
                }
                let removed = sqlx::query!(
                    "DELETE FROM pool_members WHERE tenant = $1 AND pool = $2",
                    tenant.as_str(),
                    number(pool.pool.id)
                )
                .execute(&mut *tx)
                .await?;
                if removed.rows_affected() == 0 {
                    return Err(LedgerError::not_found("member", tenant));
                }
                let detail = json!({ "pool": pool.pool.id });
                audit(tx, "pool.remove_member", pool, tenant, detail, author).await
            })
        })
        .await
    }

    /// The members of a pool, with what each has used in the window `label`.
    pub async fn pool_members(
        &self,
        pool: PoolId,
        label: &str,
    ) -> Result<Vec<PoolMember>, LedgerError> {
        let rows = sqlx::query!(
            r#"SELECT coalesce(m.tenant, u.tenant) AS "tenant!", m.class,
                   m.tenant IS NULL AS "has_left!", coalesce(u.used, 0) AS "used!"
               FROM (SELECT tenant, class FROM pool_members WHERE pool = $1) m
               FULL JOIN (SELECT tenant, used FROM pool_usage WHERE pool = $1 AND label = $2) u
                   USING (tenant)
               ORDER BY 1"#,
            number(pool),
            label
        )
        .fetch_all(self.query("pool_members"))
        .await?;
        rows.into_iter()
            .map(|row| {
                let tenant = TenantId::new(&row.tenant);
                Ok(PoolMember {
                    tenant: read_column("pool_members", "tenant", pool, row.tenant, tenant)?,
                    class: row.class,
                    has_left: row.has_left,
                    used: row.used,
                })
            })
            .collect()
    }

    /// Base units that a tenant has used of a pool in the window `label`.
    pub async fn pool_used(
        &self,
        tenant: &TenantId,
        pool: PoolId,
        label: &str,
    ) -> Result<i64, LedgerError> {
        let row = sqlx::query!(
            r#"SELECT coalesce(sum(used), 0)::bigint AS "used!" FROM pool_usage
               WHERE tenant = $1 AND pool = $2 AND label = $3"#,
            tenant.as_str(),
            number(pool),
            label
        )
        .fetch_one(self.query("pool_used").of(tenant))
        .await?;
        Ok(row.used)
    }

    /// The pools that `tenants` draw on.
    pub(super) async fn memberships(
        &self,
        tenants: &[String],
    ) -> Result<HashMap<String, Vec<PoolMembership>>, LedgerError> {
        let mut memberships: HashMap<String, Vec<PoolMembership>> = HashMap::new();
        if tenants.is_empty() {
            return Ok(memberships);
        }
        let rows = sqlx::query!(
            "SELECT m.tenant, m.class, p.pool, p.meter, p.size, p.classes, p.settling,
                    p.change_version
             FROM pool_members m JOIN pools p USING (pool) WHERE m.tenant = ANY($1)",
            tenants
        )
        .fetch_all(self.query("memberships"))
        .await?;
        for row in rows {
            let pool = read_pool(PoolColumns {
                pool: row.pool,
                meter: &row.meter,
                size: row.size,
                classes: row.classes,
                settling: row.settling,
                version: row.change_version,
            })?;
            let class = match row.class {
                Some(class) => {
                    let name = RuleName::new(&class);
                    Some(read_column("pool_members", "class", &row.tenant, class, name)?)
                }
                None => None,
            };
            memberships.entry(row.tenant).or_default().push(PoolMembership { pool, class });
        }
        Ok(memberships)
    }
}

/// The pool with this id, as `tx` sees it.
pub(super) async fn pool_in(
    tx: &mut PgConnection,
    pool: PoolId,
) -> Result<Option<StoredPool>, LedgerError> {
    let row = select_pools!("WHERE p.pool = $1", number(pool)).fetch_optional(tx).await?;
    row.map(PoolRow::into_pool).transpose()
}

/// Moves the version of a tenant of the account.
async fn touch_member(
    tx: &mut PgConnection,
    tenant: &TenantId,
    account: &AccountId,
) -> Result<(), LedgerError> {
    let change = next_change(tx).await?;
    let touched = sqlx::query!(
        "UPDATE tenants SET change_version = $3 WHERE tenant = $1 AND account = $2",
        tenant.as_str(),
        account.as_str(),
        change
    )
    .execute(tx)
    .await?;
    match touched.rows_affected() {
        1 => Ok(()),
        _ => Err(Refusal::Invalid(Invalid::new(
            "tenant",
            format!("{tenant} is not a tenant of the account {account}, whose pool it is"),
            "name one of that account; `tollgate tenant list` shows each tenant's",
        ))
        .into()),
    }
}

async fn audit(
    tx: &mut PgConnection,
    action: &'static str,
    pool: &StoredPool,
    tenant: &TenantId,
    detail: Value,
    author: Author<'_>,
) -> Result<(), LedgerError> {
    let (account, tenant) = (Some(&pool.account), Some(tenant));
    AuditEntry { author, action, account, tenant, detail }.write(tx).await
}

pub(super) fn number(pool: PoolId) -> i64 {
    i64::try_from(pool.0).unwrap_or(i64::MAX)
}

fn interval_name(interval: BillingInterval) -> &'static str {
    match interval {
        BillingInterval::Monthly => "monthly",
        BillingInterval::Yearly => "yearly",
    }
}
