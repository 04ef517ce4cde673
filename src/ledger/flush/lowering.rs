//! Where levels come free that went down.
//!
//! Only the ledger knows how much of a level each counter covers, and how much of a pool each member
//! uses, and only under the rows' locks: two sidecars that decided by themselves would free the same
//! units twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use sqlx::PgConnection;

use super::{
    movement::PoolUsageKey,
    pool_usage::{in_debt, write_drawn, write_lowered},
    slot::Slot,
    sums::Sums,
};
use crate::{
    domain::{cell_key::CellKey, share::Share},
    ledger::{
        cell_rows::{CellColumns, CellRow},
        error::LedgerError,
    },
};

/// Decides for all that was lowered, and for what members of pools add that had lowered more than
/// they had, as far as was flushed then; adds it to the rest of `sums`.
///
/// Locks rows in the order in which all flushes do, so that two wait for one another in one direction
/// only: members' use of pools, and then, where something was lowered, the rows of `window_totals`
/// that the batch is going to write, in the order in which they are written.
pub(super) async fn share_out(tx: &mut PgConnection, sums: &mut Sums) -> Result<(), LedgerError> {
    let lowered = mem::take(&mut sums.lowered);
    // These rows are locked before it is known how much is the pool's.
    let lowering = lowered.keys().filter_map(|(slot, may_free)| {
        PoolUsageKey::of(&slot.key.tenant, pool_part(may_free).first()?)
    });
    let in_debt = in_debt(tx, &grown_at_home(sums)).await?;
    for row in lowering.chain(in_debt) {
        sums.pool_usage.entry(row).or_default();
    }
    if lowered.is_empty() && sums.pool_usage.is_empty() {
        return Ok(());
    }
    let standing_of_members = write_drawn(tx, &sums.pool_usage).await?;
    let stood = match lowered.is_empty() {
        true => BTreeMap::new(),
        false => lock(tx, &to_lock(sums, &lowered)).await?,
    };
    for ((slot, may_free), units) in lowered {
        lower(sums, &stood, &slot, &may_free, units);
    }
    let mut movements = mem::take(&mut sums.pool_usage);
    for ((row, movement), stands) in movements.iter_mut().zip(standing_of_members) {
        let shares = movement.share_out(movement.freed(stands), |key| standing(&stood, sums, key));
        shares.iter().for_each(|(key, units)| sums.free(key, *units));
        movement.paid = pay_at_home(sums, row, movement.lowered - stands);
    }
    write_lowered(tx, &movements).await
}

/// What a member had before it joined and no other flush knew of pays its debt at the pool: it comes
/// free, up to `debt`, as if it had been drawn there. Answers how much did.
fn pay_at_home(sums: &mut Sums, row: &PoolUsageKey, debt: i128) -> i128 {
    if debt <= 0 {
        // Next to all: whoever draws on a pool costs no look through the batch's counters.
        return 0;
    }
    let mut left = debt;
    for key in grown_at_home(sums).into_iter().filter(|key| row.is_instead_of(key)) {
        let grown = sums.windows.get(&key).map_or(0, |window| window.share.used());
        let units = left.min(grown);
        sums.cover(&key, units);
        left -= units;
    }
    debt - left
}

/// The levels' own counters that go up.
fn grown_at_home(sums: &Sums) -> Vec<CellKey> {
    let is_level = |key: &CellKey| key.label.is_endless();
    let grown = sums.windows.iter().filter(|(_, window)| window.share.used() > 0);
    grown.map(|(key, _)| key).filter(|key| is_level(key)).cloned().collect()
}

/// Of where a level may come free, the cells of a pool: the end.
fn pool_part(may_free: &[CellKey]) -> &[CellKey] {
    let is_pools = |key: &CellKey| key.tenant.pool().is_some();
    let start = may_free.iter().position(is_pools).unwrap_or(may_free.len());
    &may_free[start..]
}

/// Lowers what the member has at home by what stands there, and then the pool; without a pool the
/// last place takes what the others do not.
fn lower(
    sums: &mut Sums,
    stood: &BTreeMap<CellKey, i128>,
    slot: &Slot,
    may_free: &[CellKey],
    units: i128,
) {
    let pool = pool_part(may_free);
    let home = &may_free[..may_free.len() - pool.len()];
    let (last, others) = match home.split_last() {
        Some((last, others)) if pool.is_empty() => (Some(last), others),
        _ => (None, home),
    };
    let mut left = units;
    for key in others {
        let freed = left.min(standing(stood, sums, key).max(0));
        if freed > 0 {
            sums.lower(slot, key, freed);
            left -= freed;
        }
    }
    match last {
        _ if left == 0 => {}
        Some(last) => sums.lower(slot, last, left),
        None => sums.lower_pool(slot, pool, left),
    }
}

/// The rows of `window_totals` that the batch is going to write.
fn to_lock(sums: &Sums, lowered: &BTreeMap<(Slot, Vec<CellKey>), i128>) -> CellColumns {
    let named = lowered.keys().flat_map(|(_, may_free)| may_free);
    let covering: BTreeSet<&CellKey> =
        named.chain(sums.covering.keys()).filter(|key| !sums.windows.contains_key(key)).collect();
    sums.windows.keys().chain(covering).collect()
}

/// Where a counter will stand with what the batch adds up to now.
fn standing(stood: &BTreeMap<CellKey, i128>, sums: &Sums, key: &CellKey) -> i128 {
    let own = sums.windows.get(key).map(|window| window.share);
    let added = own.or(sums.covering.get(key).copied()).map_or(0, Share::used);
    stood.get(key).copied().unwrap_or(0) + added
}

async fn lock(
    tx: &mut PgConnection,
    keys: &CellColumns,
) -> Result<BTreeMap<CellKey, i128>, LedgerError> {
    let rows = sqlx::query!(
        r#"SELECT w.tenant, w.meter, w.label, w.subject, w.used
           FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY
               AS k (tenant, meter, label, subject, place)
           JOIN window_totals w USING (tenant, meter, label, subject)
           ORDER BY k.place
           FOR UPDATE OF w"#,
        &keys.tenants,
        &keys.meters,
        &keys.labels,
        &keys.subjects
    )
    .fetch_all(tx)
    .await?;
    let read = |(key, used): (CellRow, i64)| Ok((key.into_key()?, i128::from(used)));
    rows.into_iter()
        .map(|row| {
            let key = CellRow {
                table: "window_totals",
                tenant: row.tenant,
                meter: row.meter,
                label: row.label,
                subject: row.subject,
            };
            (key, row.used)
        })
        .map(read)
        .collect()
}
