//! Where the shared side of a lease lives.

use tokio_util::sync::CancellationToken;

use super::{
    distinct::{DistinctAnswer, DistinctCall},
    error::StoreError,
    inspect::{Cursor, Inspection, KeyPage},
    local::LocalCounters,
    redis_counters::RedisCounters,
};
use crate::{
    domain::{cell_key::CellKey, ids::RunId},
    leases::message::{Answer, Call, CloseAnswer, CloseCall, Recall},
};

/// The counters that a sidecar leases from.
pub enum Counters {
    /// Shared with other sidecars.
    Redis(RedisCounters),
    /// In this process alone.
    Local(LocalCounters),
}

impl Counters {
    /// Whether others than this process ask them.
    pub fn are_shared(&self) -> bool {
        match self {
            Self::Redis(_) => true,
            #[cfg(test)]
            Self::Local(local) => local.is_far(),
            #[cfg(not(test))]
            Self::Local(_) => false,
        }
    }

    /// Sends a call to the key.
    pub async fn call(&self, key: &CellKey, call: &Call) -> Result<Answer, StoreError> {
        match self {
            Self::Redis(redis) => redis.call(key, call).await,
            #[cfg(test)]
            Self::Local(local) => local.call_from_afar(key, call).await,
            #[cfg(not(test))]
            Self::Local(local) => local.call(key, call),
        }
    }

    /// Sends a step of a run's closing to the key.
    pub async fn close(&self, key: &CellKey, call: &CloseCall) -> Result<CloseAnswer, StoreError> {
        match self {
            Self::Redis(redis) => redis.close(key, call).await,
            Self::Local(local) => local.close(key, call),
        }
    }

    /// Sends a call to the key's distinct count.
    pub async fn distinct(
        &self,
        key: &CellKey,
        call: &DistinctCall,
    ) -> Result<DistinctAnswer, StoreError> {
        match self {
            Self::Redis(redis) => redis.distinct(key, call).await,
            Self::Local(local) => local.distinct(key, call),
        }
    }

    /// One counter as it stands; `None` if it is not there, or only remembers a closing.
    pub async fn inspect(&self, key: &CellKey) -> Result<Option<Inspection>, StoreError> {
        match self {
            Self::Redis(redis) => redis.inspect(key).await,
            Self::Local(local) => Ok(local.inspect(key)),
        }
    }

    /// Lists the counters, page by page; `from` is the page before's `next`.
    pub async fn keys(&self, from: Option<Cursor>) -> Result<KeyPage, StoreError> {
        match self {
            Self::Redis(redis) => redis.keys(from).await,
            Self::Local(local) => Ok(KeyPage { keys: local.keys(), next: None }),
        }
    }

    /// Forgets a key in this process whose window is over. Shared ones expire.
    pub fn forget_over(&self, key: &CellKey) {
        if let Self::Local(local) = self {
            local.forget_over(key);
        }
    }

    /// Gives the memory back that forgotten counters took in this process.
    pub fn shrink(&self) {
        if let Self::Local(local) = self {
            local.shrink();
        }
    }

    /// The keys that have an entry of `run`, or of which that cannot be told, found by looking at every
    /// key there is. None in this process: what its counters know of other runs is the ledger's.
    pub async fn keys_of_run(&self, run: RunId) -> Result<Vec<CellKey>, StoreError> {
        match self {
            Self::Redis(redis) => redis.keys_of_run(run).await,
            Self::Local(_) => Ok(vec![]),
        }
    }

    /// Hands every recall hint to `on_recall` until `token` is cancelled.
    pub async fn listen(&self, token: CancellationToken, on_recall: impl Fn(CellKey, Recall)) {
        match self {
            Self::Redis(redis) => redis.listen(token, on_recall).await,
            Self::Local(_) => token.cancelled().await,
        }
    }
}
