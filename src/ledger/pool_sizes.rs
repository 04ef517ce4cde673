//! Pools that are given another size, and how they settle at it.

use serde_json::json;
use sqlx::PgConnection;

use super::{
    changes::{AuditEntry, Author, lock_changes, next_change},
    error::LedgerError,
    pool::Ledger,
    pools::{number, pool_in},
    stored_pool::StoredPool,
};
use crate::domain::{ids::PoolId, pool::Pool};

impl Ledger {
    /// Gives a pool another size, at once: of a smaller one, what was used or is held stays so, and
    /// nothing more is admitted until that fits. Each class keeps back its percentage.
    pub async fn resize_pool(
        &self,
        pool: PoolId,
        size: u64,
        author: Author<'_>,
    ) -> Result<StoredPool, LedgerError> {
        self.run_tx("resize_pool", |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                // Whoever changes anything waits from here on.
                let change = next_change(tx).await?;
                let missing = || LedgerError::not_found("pool", pool);
                let before = pool_in(tx, pool).await?.ok_or_else(missing)?;
                let resized = before.pool.at_size(size);
                write(tx, &resized, change).await?;
                let detail = json!({
                    "pool": pool, "size": size, "classes": resized.classes,
                    "before": before.pool.size,
                });
                let (action, account) = ("pool.resize", Some(&before.account));
                AuditEntry { author, action, account, tenant: None, detail }.write(tx).await?;
                pool_in(tx, pool).await?.ok_or_else(missing)
            })
        })
        .await
    }

    /// Lets the cells of a settling pool admit what is free for them, now that so much has been seen
    /// to be `taken` of each (in the order of [`Pool::cells`]) under the ceilings that `seen` has.
    /// Whether that changed anything: not if the pool is another meanwhile.
    pub async fn settle_pool(&self, seen: &Pool, taken: &[u64]) -> Result<bool, LedgerError> {
        self.run_tx("settle_pool", |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                lock_changes(tx).await?;
                let stored = pool_in(tx, seen.id).await?;
                let stored = stored.filter(|stored| stored.pool.version == seen.version);
                let Some(settled) = stored.and_then(|stored| stored.pool.settled_by(taken)) else {
                    return Ok(false);
                };
                let change = next_change(tx).await?;
                write(tx, &settled, change).await?;
                Ok(true)
            })
        })
        .await
    }
}

/// Writes the shares of a pool, and has every sidecar that knows a member take them in.
async fn write(tx: &mut PgConnection, pool: &Pool, change: i64) -> Result<(), LedgerError> {
    sqlx::query!(
        "UPDATE pools SET size = $2, classes = $3, settling = $4, change_version = $5
         WHERE pool = $1",
        number(pool.id),
        i64::try_from(pool.size).unwrap_or(i64::MAX),
        json!(pool.classes),
        json!(pool.settling),
        change
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "UPDATE tenants SET change_version = $2
         WHERE tenant IN (SELECT tenant FROM pool_members WHERE pool = $1)",
        number(pool.id),
        change
    )
    .execute(tx)
    .await?;
    Ok(())
}
