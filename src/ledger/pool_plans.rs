//! Which plans' tenants may draw on a pool: those that the catalog in force lists for it.

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

/// Refuses a tenant whose plan the pool is not open to. Whoever calls it keeps others from changing
/// the plan meanwhile.
pub(super) async fn check_may_join(
    tx: &mut PgConnection,
    described: Described<'_>,
    tenant: &TenantId,
) -> Result<(), LedgerError> {
    let Described { pool: id, catalog, name } = described;
    let row =
        sqlx::query!("SELECT catalog, plan FROM subscriptions WHERE tenant = $1", tenant.as_str())
            .fetch_optional(&mut *tx)
            .await?
            .ok_or_else(|| LedgerError::not_found("tenant", tenant))?;
    let Some(plans) = plans_of(tx, catalog, name).await? else {
        return Err(Refusal::Invalid(Invalid::new(
            "pool",
            format!("{id} is {name} of {catalog}, which is not in that catalog any more"),
            "add it to the catalog again, or use another pool",
        ))
        .into());
    };
    if row.catalog == catalog.as_str() && plans.contains(&row.plan) {
        return Ok(());
    }
    let listed = plans.join(", ");
    Err(Refusal::Invalid(Invalid::new(
        "tenant",
        format!("{tenant} is on {}/{}, and {id} is open to {listed}", row.catalog, row.plan),
        format!("put it on one of these plans first, or add its plan to the pool {name}"),
    ))
    .into())
}

/// Refuses that a member of pools comes to a plan which one of them is not open to. Whoever calls it
/// keeps others from changing the tenant's pools meanwhile.
pub(super) async fn check_may_stay(
    tx: &mut PgConnection,
    tenant: &TenantId,
    plan: &PlanVersion,
) -> Result<(), LedgerError> {
    let rows = sqlx::query!(
        "SELECT p.pool, p.catalog, p.name FROM pool_members m JOIN pools p USING (pool)
         WHERE m.tenant = $1",
        tenant.as_str()
    )
    .fetch_all(&mut *tx)
    .await?;
    for row in rows {
        let catalog = CatalogName::new(&row.catalog);
        let catalog = read_column("pools", "catalog", row.pool, &row.catalog, catalog)?;
        let listed = plans_of(tx, &catalog, &row.name).await?;
        // What the catalog does not describe any more goes on for its members.
        let is_listed =
            listed.as_ref().is_none_or(|plans| plans.iter().any(|one| one == plan.plan.as_str()));
        if catalog == plan.catalog && is_listed {
            continue;
        }
        let id = PoolId(row.pool.unsigned_abs()); // An identity, which counts from 1.
        let listed = listed.unwrap_or_default().join(", ");
        return Err(Refusal::Invalid(Invalid::new(
            "plan",
            format!(
                "{}/{} is none that {id} is open to ({listed}), and {tenant} draws on it",
                plan.catalog, plan.plan
            ),
            format!(
                "take it out first (`tollgate pool remove-member {id} {tenant}`), or add the plan \
                 to the pool {}",
                row.name
            ),
        ))
        .into());
    }
    Ok(())
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
