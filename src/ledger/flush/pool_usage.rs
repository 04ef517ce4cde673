//! The rows of `pool_usage`, under whose locks it is decided what of a pool comes free.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::{
    movement::{Movement, PoolUsageKey},
    write::bigint,
};
use crate::{
    domain::{cell_key::CellKey, ids::PoolId},
    ledger::{
        cell_rows::{CellColumns, CellRow, read_unsigned},
        error::LedgerError,
    },
};

/// Adds what was drawn, and answers where each member then stands, in the order of
/// `movements`. Keeps the rows locked, also those that there were none of, so that two
/// flushes of one member see one another.
pub(super) async fn write_drawn(
    tx: &mut PgConnection,
    movements: &BTreeMap<PoolUsageKey, Movement>,
) -> Result<Vec<i128>, LedgerError> {
    write(tx, movements, Movement::drawn).await
}

/// The members that stand below 0 with what they would have on these counters, their own.
pub(super) async fn in_debt(
    tx: &mut PgConnection,
    own: &[CellKey],
) -> Result<Vec<PoolUsageKey>, LedgerError> {
    if own.is_empty() {
        return Ok(vec![]);
    }
    let keys: CellColumns = own.iter().collect();
    let rows = sqlx::query!(
        "SELECT tenant, meter, label, pool FROM pool_usage
         JOIN UNNEST($1::text[], $2::text[], $3::text[]) AS own (tenant, meter, label)
             USING (tenant, meter, label)
         WHERE used < 0",
        &keys.tenants,
        &keys.meters,
        &keys.labels
    )
    .fetch_all(tx)
    .await?;
    let mut members = Vec::with_capacity(rows.len());
    for row in rows {
        let (table, subject) = ("pool_usage", String::new());
        let pool = PoolId(read_unsigned(table, "pool", &row.tenant, row.pool)?);
        let (tenant, meter, label) = (row.tenant, row.meter, row.label);
        let CellKey { tenant, meter, label, .. } =
            CellRow { table, tenant, meter, label, subject }.into_key()?;
        members.push(PoolUsageKey { tenant, pool, meter, label });
    }
    Ok(members)
}

/// Takes off what was lowered, and adds what was paid of it.
pub(super) async fn write_lowered(
    tx: &mut PgConnection,
    movements: &BTreeMap<PoolUsageKey, Movement>,
) -> Result<(), LedgerError> {
    let moves = |movement: &Movement| movement.paid - movement.lowered;
    if movements.values().any(|movement| moves(movement) != 0) {
        write(tx, movements, moves).await?;
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
