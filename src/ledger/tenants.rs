//! Accounts and tenants: who is checked, and who pays.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::json;
use sqlx::PgConnection;

use super::{
    catalogs::{WhichVersion, read_version, resolve_plan},
    cell_rows::{read_column, read_unsigned},
    changes::{AuditEntry, Author, next_change},
    error::{LedgerError, Refusal},
    feature_overrides::read_overrides,
    pool::Ledger,
    subscriptions::{self, SubscriptionState, read_zone},
};
use crate::domain::{
    ids::{AccountId, CatalogName, PlanName, TenantId},
    invalid::Invalid,
    tenant::{PlanVersion, Subscription, SubscriptionStatus, Tenant},
    window::{BillingInterval, WindowSchedule},
};

/// Most tenants that one page may hold.
pub const PAGE_MAX: u32 = 1_000;

/// A tenant to be created, with its subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTenant {
    pub tenant: TenantId,
    /// Who pays; created with the tenant if there is no such account.
    pub account: AccountId,
    /// For people; may be empty.
    pub name: String,
    pub catalog: CatalogName,
    pub plan: PlanName,
    pub plan_version: WhichVersion,
    pub status: SubscriptionStatus,
    /// IANA name of the tenant's zone.
    pub zone: String,
    /// Instant that billing cycles are counted from.
    pub anchor: Timestamp,
    pub interval: BillingInterval,
    /// By the tenant's clock.
    pub started_at: Timestamp,
    /// The test clock of an account that is created with it.
    pub test_clock: Option<Timestamp>,
}

/// A tenant in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedTenant {
    pub tenant: Tenant,
    pub name: String,
    /// Real time.
    pub created_at: Timestamp,
}

/// Where a walk through changed tenants stands: all up to this were seen.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ChangeCursor {
    /// Number of a change.
    pub version: u64,
    /// Last tenant seen of those with this version; `None` = all of them.
    pub tenant: Option<TenantId>,
}

impl ChangeCursor {
    /// Behind all that changed up to `version`.
    pub fn after(version: u64) -> Self {
        Self { version, tenant: None }
    }
}

/// Selects [`TenantRow`]s; the tail says which and in what order.
macro_rules! select_tenants {
    ($tail:literal, $($argument:expr),*) => {
        sqlx::query_as!(
            TenantRow,
            "SELECT t.tenant, t.account, t.name, t.change_version, t.created_at, a.test_clock,
                    s.subscription, s.catalog, s.plan, s.plan_version, s.status, s.zone, s.anchor,
                    s.billing_interval, s.anchor_version, s.started_at,
                    (SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
                                'feature', o.feature, 'expires_at', o.expires_at,
                                'reason', o.reason))
                            || jsonb_build_object('value', o.value) ORDER BY o.feature)
                     FROM feature_overrides o WHERE o.tenant = t.tenant) AS feature_overrides
             FROM tenants t
             JOIN accounts a ON a.account = t.account
             JOIN subscriptions s ON s.tenant = t.tenant "
                + $tail,
            $($argument),*
        )
    };
}

impl Ledger {
    /// Creates tenants, all or none, with their accounts where these are new.
    pub async fn create_tenants(
        &self,
        new: &[NewTenant],
        author: Author<'_>,
    ) -> Result<Vec<Tenant>, LedgerError> {
        self.run_tx("create_tenants", |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                let change = next_change(tx).await?;
                let mut created = Vec::with_capacity(new.len());
                for tenant in new {
                    created.push(create_tenant(tx, tenant, change, author).await?);
                }
                Ok(created)
            })
        })
        .await
    }

    /// The tenant with this id.
    pub async fn tenant(&self, tenant: &TenantId) -> Result<Option<ListedTenant>, LedgerError> {
        let row = select_tenants!("WHERE t.tenant = $1", tenant.as_str())
            .fetch_optional(self.query("tenant"))
            .await?;
        let mut found: Vec<_> = row.map(TenantRow::into_listed).transpose()?.into_iter().collect();
        self.add_grants(found.iter_mut().map(|listed| &mut listed.tenant)).await?;
        Ok(found.pop())
    }

    /// Reads the tenants' grants. They may be newer than the tenants: nothing that a grant's counter
    /// goes by changes under one version.
    async fn add_grants<'t>(
        &self,
        tenants: impl Iterator<Item = &'t mut Tenant>,
    ) -> Result<(), LedgerError> {
        let tenants: Vec<_> = tenants.collect();
        let names: Vec<_> = tenants.iter().map(|tenant| tenant.id.as_str().to_owned()).collect();
        let mut grants = self.grants_in_force(&names).await?;
        let mut pools = self.memberships(&names).await?;
        for tenant in tenants {
            tenant.grants = grants.remove(tenant.id.as_str()).unwrap_or_default();
            tenant.pools = pools.remove(tenant.id.as_str()).unwrap_or_default();
        }
        Ok(())
    }

    /// Up to `count_max` tenants behind `after` in the order of their ids, of those whose id, name
    /// or account contains `search` (in any case; empty = all).
    pub async fn list_tenants(
        &self,
        search: &str,
        after: Option<&TenantId>,
        count_max: u32,
    ) -> Result<Vec<ListedTenant>, LedgerError> {
        let after = after.map_or("", TenantId::as_str);
        let rows = select_tenants!(
            "WHERE t.tenant > $1
                AND ($2 = '' OR strpos(lower(t.tenant), lower($2)) > 0
                    OR strpos(lower(t.name), lower($2)) > 0
                    OR strpos(lower(t.account), lower($2)) > 0)
             ORDER BY t.tenant LIMIT $3",
            after,
            search,
            i64::from(count_max.min(PAGE_MAX))
        )
        .fetch_all(self.query("list_tenants"))
        .await?;
        let mut listed: Vec<ListedTenant> =
            rows.into_iter().map(TenantRow::into_listed).collect::<Result<_, _>>()?;
        self.add_grants(listed.iter_mut().map(|listed| &mut listed.tenant)).await?;
        Ok(listed)
    }

    /// Up to `count_max` tenants that changed behind `cursor`, in the order of their changes, and
    /// where to go on. An empty page means that all were seen.
    pub async fn tenants_changed_since(
        &self,
        cursor: &ChangeCursor,
        count_max: u32,
    ) -> Result<(Vec<Tenant>, ChangeCursor), LedgerError> {
        let version = i64::try_from(cursor.version).unwrap_or(i64::MAX);
        let rows = select_tenants!(
            "WHERE t.change_version > $1 OR (t.change_version = $1 AND t.tenant > $2)
             ORDER BY t.change_version, t.tenant LIMIT $3",
            version,
            cursor.tenant.as_ref().map(TenantId::as_str),
            i64::from(count_max.min(PAGE_MAX))
        )
        .fetch_all(self.query("tenants_changed_since"))
        .await?;
        let mut tenants: Vec<Tenant> = rows
            .into_iter()
            .map(|row| Ok(row.into_listed()?.tenant))
            .collect::<Result<_, LedgerError>>()?;
        self.add_grants(tenants.iter_mut()).await?;
        let next = match tenants.last() {
            Some(last) => ChangeCursor { version: last.version, tenant: Some(last.id.clone()) },
            None => cursor.clone(),
        };
        Ok((tenants, next))
    }

    /// Sets the present of an account's tenants, or puts them back on the real one. A test clock
    /// only goes forward, since windows and bills that were closed stay closed.
    pub async fn set_test_clock(
        &self,
        account: &AccountId,
        test_clock: Option<Timestamp>,
        author: Author<'_>,
    ) -> Result<(), LedgerError> {
        self.run_tx("set_test_clock", |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                let row = sqlx::query!(
                    "SELECT test_clock FROM accounts WHERE account = $1 FOR UPDATE",
                    account.as_str()
                )
                .fetch_optional(&mut *tx)
                .await?
                .ok_or_else(|| LedgerError::not_found("account", account))?;
                let before = row.test_clock.map(|at| at.to_jiff());
                if let (Some(before), Some(after)) = (before, test_clock)
                    && after < before
                {
                    return Err(Refusal::Invalid(Invalid::new(
                        "test_clock",
                        format!("{after} is before {before}, where the clock stands"),
                        "move the clock forward, or use a new account",
                    ))
                    .into());
                }
                let change = next_change(tx).await?;
                sqlx::query!(
                    "UPDATE accounts SET test_clock = $2,
                     clock_set_at = CASE WHEN $2::timestamptz IS NULL THEN NULL ELSE now() END
                 WHERE account = $1",
                    account.as_str(),
                    test_clock.map(ToSqlx::to_sqlx) as _
                )
                .execute(&mut *tx)
                .await?;
                sqlx::query!(
                    "UPDATE tenants SET change_version = $2 WHERE account = $1",
                    account.as_str(),
                    change
                )
                .execute(&mut *tx)
                .await?;
                let text = |at: Option<Timestamp>| at.map(|at| at.to_string());
                let detail = json!({ "before": text(before), "after": text(test_clock) });
                let action = "account.set_clock";
                AuditEntry { author, action, account: Some(account), tenant: None, detail }
                    .write(tx)
                    .await
            })
        })
        .await
    }
}

async fn create_tenant(
    tx: &mut PgConnection,
    new: &NewTenant,
    change: i64,
    author: Author<'_>,
) -> Result<Tenant, LedgerError> {
    let zone = read_zone(&new.zone)?;
    let clock = new.test_clock.map(ToSqlx::to_sqlx);
    sqlx::query!(
        "INSERT INTO accounts (account, zone, test_clock, clock_set_at)
         VALUES ($1, $2, $3, CASE WHEN $3::timestamptz IS NULL THEN NULL ELSE now() END)
         ON CONFLICT (account) DO NOTHING",
        new.account.as_str(),
        new.zone,
        clock as _
    )
    .execute(&mut *tx)
    .await?;
    let inserted = sqlx::query!(
        "INSERT INTO tenants (tenant, account, name, change_version) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant) DO NOTHING",
        new.tenant.as_str(),
        new.account.as_str(),
        new.name,
        change
    )
    .execute(&mut *tx)
    .await?;
    if inserted.rows_affected() == 0 {
        return Err(LedgerError::exists("tenant", &new.tenant));
    }
    let plan = resolve_plan(tx, &new.catalog, &new.plan, new.plan_version).await?;
    let state = SubscriptionState {
        id: uuid::Uuid::now_v7(),
        revision: 1,
        plan,
        status: new.status,
        zone: new.zone.clone(),
        anchor: new.anchor,
        interval: new.interval,
        anchor_version: 1,
        started_at: new.started_at,
    };
    subscriptions::write(tx, &new.tenant, &state, new.started_at, change, author).await?;
    let account =
        sqlx::query!("SELECT test_clock FROM accounts WHERE account = $1", new.account.as_str())
            .fetch_one(&mut *tx)
            .await?;
    let detail = json!({ "plan": state.plan, "status": state.status, "zone": new.zone });
    AuditEntry {
        author,
        action: "tenant.create",
        account: Some(&new.account),
        tenant: Some(&new.tenant),
        detail,
    }
    .write(tx)
    .await?;
    Ok(Tenant {
        id: new.tenant.clone(),
        account: new.account.clone(),
        subscription: state.into_subscription(zone),
        test_clock: account.test_clock.map(|at| at.to_jiff()),
        feature_overrides: vec![],
        version: read_unsigned("tenants", "change_version", &new.tenant, change)?,
        grants: vec![],
        pools: vec![],
    })
}

struct TenantRow {
    tenant: String,
    account: String,
    name: String,
    change_version: i64,
    created_at: jiff_sqlx::Timestamp,
    test_clock: Option<jiff_sqlx::Timestamp>,
    subscription: uuid::Uuid,
    catalog: String,
    plan: String,
    plan_version: i32,
    status: String,
    zone: String,
    anchor: jiff_sqlx::Timestamp,
    billing_interval: String,
    anchor_version: i32,
    started_at: jiff_sqlx::Timestamp,
    feature_overrides: Option<serde_json::Value>,
}

impl TenantRow {
    fn into_listed(self) -> Result<ListedTenant, LedgerError> {
        let id = read_column("tenants", "tenant", "a row", &self.tenant, {
            TenantId::new(&self.tenant)
        })?;
        let plan = PlanVersion {
            catalog: read_column("subscriptions", "catalog", &id, &self.catalog, {
                CatalogName::new(&self.catalog)
            })?,
            plan: read_column("subscriptions", "plan", &id, &self.plan, {
                PlanName::new(&self.plan)
            })?,
            version: read_version("subscriptions", id.as_str(), self.plan_version)?,
        };
        let schedule = WindowSchedule {
            zone: read_column("subscriptions", "zone", &id, &self.zone, read_zone(&self.zone))?,
            anchor: self.anchor.to_jiff(),
            interval: subscriptions::read_interval(&id, &self.billing_interval)?,
            version: read_version("subscriptions", id.as_str(), self.anchor_version)?,
        };
        let subscription = Subscription {
            id: self.subscription,
            plan,
            status: subscriptions::read_status(&id, &self.status)?,
            schedule,
            started_at: self.started_at.to_jiff(),
        };
        let tenant = Tenant {
            account: read_column("tenants", "account", &id, &self.account, {
                AccountId::new(&self.account)
            })?,
            subscription,
            test_clock: self.test_clock.map(|at| at.to_jiff()),
            feature_overrides: match self.feature_overrides {
                Some(json) => read_overrides(&id, &json)?,
                None => vec![],
            },
            version: read_unsigned("tenants", "change_version", &id, self.change_version)?,
            // Read by themselves (`add_grants`).
            grants: vec![],
            pools: vec![],
            id,
        };
        Ok(ListedTenant { tenant, name: self.name, created_at: self.created_at.to_jiff() })
    }
}
