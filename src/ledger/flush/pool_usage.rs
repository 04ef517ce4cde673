//! The rows of `pool_usage`, under whose locks it is decided what of a pool comes free.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::{
    movement::{Movement, PoolUsageKey},
    write::bigint,
};
use crate::ledger::error::LedgerError;

/// Adds what was drawn, and answers where each member then stands, in the order of
/// `movements`. Keeps the rows locked, also those that there were none of, so that two
/// flushes of one member see one another.
pub(super) async fn write_drawn(
    tx: &mut PgConnection,
    movements: &BTreeMap<PoolUsageKey, Movement>,
) -> Result<Vec<i128>, LedgerError> {
    write(tx, movements, Movement::drawn).await
}

/// Takes off what was lowered.
pub(super) async fn write_lowered(
    tx: &mut PgConnection,
    movements: &BTreeMap<PoolUsageKey, Movement>,
) -> Result<(), LedgerError> {
    if movements.values().any(|movement| movement.lowered > 0) {
        write(tx, movements, |movement| -movement.lowered).await?;
    }
    Ok(())
}

async fn write(
    tx: &mut PgConnection,
    movements: &BTreeMap<PoolUsageKey, Movement>,
    units: impl Fn(&Movement) -> i128,
) -> Result<Vec<i128>, LedgerError> {
    let mut tenants = Vec::with_capacity(movements.len());
    let mut pools = Vec::with_capacity(movements.len());
    let mut meters = Vec::with_capacity(movements.len());
    let mut labels = Vec::with_capacity(movements.len());
    let mut used = Vec::with_capacity(movements.len());
    for (row, movement) in movements {
        tenants.push(row.tenant.as_str().to_owned());
        pools.push(bigint("pool_usage.pool", row.pool.0.into())?);
        meters.push(row.meter.as_str().to_owned());
        labels.push(row.label.to_string());
        used.push(bigint("pool_usage.used", units(movement))?);
    }
    let rows = sqlx::query_scalar!(
        r#"WITH moved AS (
               SELECT * FROM UNNEST($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bigint[])
                   WITH ORDINALITY AS m (tenant, pool, meter, label, used, place)
           ), written AS (
               INSERT INTO pool_usage (tenant, pool, meter, label, used)
               SELECT tenant, pool, meter, label, used FROM moved ORDER BY place
               ON CONFLICT (tenant, pool, meter, label)
               DO UPDATE SET used = pool_usage.used + excluded.used
               RETURNING tenant, pool, meter, label, used
           )
           SELECT written.used AS "used!"
           FROM moved JOIN written USING (tenant, pool, meter, label)
           ORDER BY moved.place"#,
        &tenants,
        &pools,
        &meters,
        &labels,
        &used
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(i128::from).collect())
}
