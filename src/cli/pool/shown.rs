//! How pools are found and written.

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::{
    domain::{catalog::compiled_plan::CompiledPlan, ids::PoolId, period::Period},
    ledger::{Ledger, pools::StoredPool},
};

/// The pool, or why there is none.
pub(super) async fn known_pool(ledger: &Ledger, pool: PoolId) -> anyhow::Result<StoredPool> {
    match ledger.pool(pool).await? {
        Some(stored) => Ok(stored),
        None => bail!("there is no pool {pool}; `tollgate pool list` lists all"),
    }
}

/// What follows a pool's size: that it holds anew in each window, if it does.
pub(super) fn each_window(stored: &StoredPool) -> anyhow::Result<String> {
    let plan = CompiledPlan::from_json(&stored.definition)?;
    let meter = plan.meter(stored.pool.meter.as_str()).context("the pool lacks its meter")?;
    Ok(match meter.limit.period {
        Period::Lifetime => String::new(),
        period => format!(" in each window ({period})"),
    })
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
        "is_settling": stored.pool.is_settling(),
        "max_members": stored.max_members,
    })
}
