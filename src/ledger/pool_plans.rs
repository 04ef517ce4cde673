//! Which accounts may have a pool: those with a tenant on a plan that the catalog in force lists for
//! it. The others of the account may be on any plan.

use sqlx::PgConnection;

use super::{
    cell_rows::read_column,
    error::{LedgerError, Refusal},
};
use crate::domain::{
    ids::{CatalogName, PoolId, TenantId},
    invalid::Invalid,
    tenant::PlanVersion,
};

/// Where a pool is described.
#[derive(Clone, Copy)]
pub(super) struct Described<'a> {
    pub pool: PoolId,
    pub catalog: &'a CatalogName,
    pub name: &'a str,
}

/// Refuses a tenant whose account has nobody on a plan that the pool is open to. Whoever calls it keeps
/// others from changing plans meanwhile.
pub(super) async fn check_may_join(
    tx: &mut PgConnection,
    described: Described<'_>,
    tenant: &TenantId,
) -> Result<(), LedgerError> {
    let Described { pool: id, catalog, name } = described;
    let Some(plans) = plans_of(tx, catalog, name).await? else {
        return Err(Refusal::Invalid(Invalid::new(
            "pool",
            format!("{id} is {name} of {catalog}, which is not in that catalog any more"),
            "add it to the catalog again, or use another pool",
        ))
        .into());
    };
    if has_tenant_on(tx, tenant, catalog, &plans).await? {
        return Ok(());
    }
    let listed = plans.join(", ");
    Err(Refusal::Invalid(Invalid::new(
        "pool",
        format!(
            "{id} is open to accounts with a tenant on {listed}, and that of {tenant} has none"
        ),
        format!("put one on such a plan first, or add a plan of theirs to the pool {name}"),
    ))
    .into())
}

/// Refuses that the last tenant of an account leaves the plans that one of its pools is open to, while
/// tenants draw on that. Whoever calls it has changed the plan already, and keeps others from changing
/// plans and members meanwhile.
pub(super) async fn check_may_leave(
    tx: &mut PgConnection,
    tenant: &TenantId,
    before: &PlanVersion,
) -> Result<(), LedgerError> {
    let rows = sqlx::query!(
        "SELECT p.pool, p.catalog, p.name FROM pools p JOIN tenants t USING (account)
         WHERE t.tenant = $1 AND EXISTS (SELECT FROM pool_members m WHERE m.pool = p.pool)
         ORDER BY p.pool",
        tenant.as_str()
    )
    .fetch_all(&mut *tx)
    .await?;
    for row in rows {
        let catalog = CatalogName::new(&row.catalog);
        let catalog = read_column("pools", "catalog", row.pool, &row.catalog, catalog)?;
        // What the catalog does not describe any more goes on for its members, and so does what it
        // had closed to this plan before.
        let Some(plans) = plans_of(tx, &catalog, &row.name).await? else { continue };
        let was_open =
            catalog == before.catalog && plans.iter().any(|one| one == before.plan.as_str());
        if !was_open || has_tenant_on(tx, tenant, &catalog, &plans).await? {
            continue;
        }
        let id = PoolId(row.pool.unsigned_abs()); // An identity, which counts from 1.
        return Err(Refusal::Invalid(Invalid::new(
            "plan",
            format!(
                "{tenant} is the last of its account on a plan that {id} is open to ({}), and tenants draw on it",
                plans.join(", ")
            ),
            format!(
                "put another tenant on such a plan first, or take the members out \
                 (`tollgate pool remove-member {id} TENANT`)"
            ),
        ))
        .into());
    }
    Ok(())
}

/// Whether a tenant of `tenant`'s account is on one of `plans`.
async fn has_tenant_on(
    tx: &mut PgConnection,
    tenant: &TenantId,
    catalog: &CatalogName,
    plans: &[String],
) -> Result<bool, LedgerError> {
    let row = sqlx::query!(
        r#"SELECT EXISTS (
               SELECT FROM tenants own JOIN tenants t USING (account)
               JOIN subscriptions s ON s.tenant = t.tenant
               WHERE own.tenant = $1 AND s.catalog = $2 AND s.plan = ANY($3)
           ) AS "has!""#,
        tenant.as_str(),
        catalog.as_str(),
        plans
    )
    .fetch_one(tx)
    .await?;
    Ok(row.has)
}

/// The plans that the catalog in force lists for its pool `name`; `None` when it has no such pool.
async fn plans_of(
    tx: &mut PgConnection,
    catalog: &CatalogName,
    name: &str,
) -> Result<Option<Vec<String>>, LedgerError> {
    let row = sqlx::query!(
        r#"SELECT described.pool -> 'plans' AS "plans!"
           FROM catalogs c
           JOIN catalog_versions v ON v.catalog = c.catalog AND v.version = c.current_version
           CROSS JOIN jsonb_array_elements(v.definition -> 'pools') AS described (pool)
           WHERE c.catalog = $1 AND described.pool ->> 'name' = $2"#,
        catalog.as_str(),
        name
    )
    .fetch_optional(tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let shown = row.plans.to_string();
    let plans = serde_json::from_value(row.plans);
    read_column("catalog_versions", "definition", catalog, shown, plans).map(Some)
}
