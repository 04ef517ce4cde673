//! How pools are found and written.

use anyhow::bail;
use serde_json::{Value, json};

use crate::{
    domain::ids::PoolId,
    ledger::{Ledger, pools::StoredPool},
};

/// The pool, or why there is none.
pub(super) async fn known_pool(ledger: &Ledger, pool: PoolId) -> anyhow::Result<StoredPool> {
    match ledger.pool(pool).await? {
        Some(stored) => Ok(stored),
        None => bail!("there is no pool {pool}; `tollgate pool list` lists all"),
    }
}

/// A pool as JSON; amounts in base units.
pub(super) fn as_json(stored: &StoredPool) -> Value {
    json!({
        "pool": stored.pool.id.to_string(),
        "account": stored.account,
        "catalog": stored.catalog,
        "name": stored.name,
        "meter": stored.pool.meter,
        "size": stored.pool.size,
        "classes": stored.pool.classes,
        "max_members": stored.max_members,
    })
}
