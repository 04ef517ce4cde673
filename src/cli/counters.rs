//! The shared counters, as an operator's tool reaches them.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use crate::{
    ledger::{Ledger, epochs::Epoch},
    store::{
        LocalCounters, RedisCounters, config::RedisConfig, counters::Counters, identity::Identity,
    },
};

/// How long Redis may take to answer.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// The counters of the epoch in force.
pub(super) struct Reached {
    pub counters: Counters,
    pub epoch: u64,
    stop: CancellationToken,
}

impl Reached {
    /// The counters in Redis, if that is where they are.
    pub fn redis(&self) -> Option<&RedisCounters> {
        match &self.counters {
            Counters::Redis(redis) => Some(redis),
            Counters::Local(_) => None,
        }
    }
}

impl Drop for Reached {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Connects to the counters that the ledger's latest epoch stands for.
pub(super) async fn reach(config: RedisConfig, ledger: &Ledger) -> anyhow::Result<Reached> {
    let latest = ledger.latest_epoch().await?;
    let stop = CancellationToken::new();
    if config.url.is_empty() {
        if latest.as_ref().is_some_and(Epoch::is_shared) {
            bail!(
                "the counters in force are in a Redis, and no redis.url is set: nothing was changed; \
                 give --redis-url, or the configuration of the sidecars"
            );
        }
        // Counters in a sidecar's memory end with it: there is nothing to fold a run into.
        let epoch = latest.map_or(1, |latest| latest.number);
        return Ok(Reached { counters: Counters::Local(LocalCounters::new()), epoch, stop });
    }
    let redis = RedisCounters::new(config)?;
    let connections = redis.clone();
    let token = stop.clone();
    tokio::spawn(async move { connections.run(token).await });
    let mut identity = redis.identity();
    let found = tokio::time::timeout(CONNECT_WAIT, identity.wait_for(Option::is_some)).await;
    let identity: Identity = match found {
        Ok(Ok(found)) => found.clone().context("Redis cannot be reached (redis.url)")?,
        _ => bail!("Redis cannot be reached (redis.url)"),
    };
    match latest {
        Some(latest) if latest.counters == identity.to_string() => {
            redis.bind(latest.number, identity);
            Ok(Reached { counters: Counters::Redis(redis), epoch: latest.number, stop })
        }
        _ => bail!(
            "this Redis is not the one of the epoch in force, or has lost its data since; start a \
             sidecar on it first, which begins a new epoch"
        ),
    }
}
