//! The pools that are settling at another size, as far as the tenants in memory draw on them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use crate::domain::{ids::PoolId, pool::Pool};

/// The pools that are settling.
#[derive(Debug, Default)]
pub struct SettlingPools {
    /// By id. Guards itself; held for a look-up.
    pools: Mutex<BTreeMap<PoolId, Pool>>,
}

impl SettlingPools {
    /// Takes in how a pool was read.
    pub fn note(&self, pool: &Pool) {
        let mut pools = self.lock();
        let is_older = |known: &Pool| known.version > pool.version;
        if pools.get(&pool.id).is_some_and(is_older) {
            return;
        }
        match pool.is_settling() {
            true => pools.insert(pool.id, pool.clone()),
            false => pools.remove(&pool.id),
        };
    }

    /// All of them.
    pub fn all(&self) -> Vec<Pool> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PoolId, Pool>> {
        self.pools.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
