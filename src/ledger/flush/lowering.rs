//! Where levels come free that went down.
//!
//! Only the ledger knows how much of a level each counter covers, and only under the rows' locks:
//! two sidecars that decided by themselves would free the same units twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use sqlx::PgConnection;

use super::sums::Sums;
use crate::{
    domain::{cell_key::CellKey, share::Share},
    ledger::{
        cell_rows::{CellColumns, CellRow},
        error::LedgerError,
    },
};

/// Decides for all that was lowered, and adds it to the rest of `sums`.
///
/// Locks the rows of `window_totals` that the batch is going to write, in the order in which they
/// are written, so that two flushes wait for one another in one direction only.
pub(super) async fn share_out(tx: &mut PgConnection, sums: &mut Sums) -> Result<(), LedgerError> {
    if sums.lowered.is_empty() {
        return Ok(());
    }
    let lowered = mem::take(&mut sums.lowered);
    let named = lowered.keys().flat_map(|(_, may_free)| may_free);
    let covering: BTreeSet<&CellKey> =
        named.chain(sums.covering.keys()).filter(|key| !sums.windows.contains_key(key)).collect();
    let keys: CellColumns = sums.windows.keys().chain(covering).collect();
    let stood = lock(tx, &keys).await?;
    for ((slot, may_free), units) in lowered {
        let mut left = units;
        let Some((last, others)) = may_free.split_last() else { continue };
        for key in others {
            let freed = left.min(standing(&stood, sums, key).max(0));
            if freed > 0 {
                sums.lower(&slot, key, freed);
                left -= freed;
            }
        }
        if left > 0 {
            sums.lower(&slot, last, left);
        }
    }
    Ok(())
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
