//! The counters in Redis.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use redis::{Script, Value};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    browse::Browser,
    config::RedisConfig,
    connection::Connections,
    distinct::{DistinctAnswer, DistinctCall},
    encoding,
    error::StoreError,
    identity::Identity,
    inspect::{Cursor, Inspection, KeyPage},
    keys::{LIFE, counter_name, distinct_head_name, distinct_name},
    mend::{self, Mend, MendAnswer},
    metrics::Kind,
    recall,
};
use crate::{
    domain::{cell_key::CellKey, ids::RunId},
    leases::message::{Answer, Call, CloseAnswer, CloseCall, Recall},
};

/// The counters in Redis. Cheap to clone.
#[derive(Clone)]
pub struct RedisCounters {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) connections: Connections,
    browser: Browser,
    bound: ArcSwapOption<Bound>,
    lease: Script,
    close: Script,
    distinct: Script,
    mend: Script,
    pub(super) rate: Script,
}

/// The epoch that is served, and the counters it stands for.
struct Bound {
    epoch: u64,
    identity: Identity,
}

impl RedisCounters {
    /// Prepares the counters at the configured server. Nothing is connected before
    /// [`RedisCounters::run`].
    pub fn new(config: RedisConfig) -> Result<Self, StoreError> {
        let shared = Shared {
            browser: Browser::new(&config)?,
            connections: Connections::new(config)?,
            bound: ArcSwapOption::empty(),
            lease: Script::new(concat!(
                include_str!("scripts/key.lua"),
                include_str!("scripts/lease.lua")
            )),
            close: Script::new(concat!(
                include_str!("scripts/key.lua"),
                include_str!("scripts/close.lua")
            )),
            distinct: Script::new(include_str!("scripts/distinct.lua")),
            mend: Script::new(concat!(
                include_str!("scripts/key.lua"),
                include_str!("scripts/mend.lua")
            )),
            rate: Script::new(include_str!("scripts/rate.lua")),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Keeps the connections until `token` is cancelled. The caller spawns it, once.
    pub async fn run(&self, token: CancellationToken) {
        self.shared.connections.run(&token).await;
    }

    /// The counters that the connections find; `None` before the first connection. It changes when
    /// they have lost data: then the ledger has to name their epoch, see [`RedisCounters::bind`].
    pub fn identity(&self) -> watch::Receiver<Option<Identity>> {
        self.shared.connections.identity()
    }

    /// Why no connection serves; `None` while one does. Then only calls of the bound epoch may
    /// still be refused.
    pub fn trouble(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.shared.connections.trouble()
    }

    /// Says which counters `epoch` stands for, from the ledger, and only if it is the latest epoch.
    /// Calls of any other epoch, and connections to any other counters, are not served.
    pub fn bind(&self, epoch: u64, identity: Identity) {
        self.shared.bound.store(Some(Arc::new(Bound { epoch, identity })));
    }

    /// Calls that may wait for answers at a time.
    pub fn calls_max(&self) -> usize {
        let config = self.shared.connections.config();
        config.connections * config.calls_in_flight_max
    }

    /// Sends a call to the key.
    pub async fn call(&self, key: &CellKey, call: &Call) -> Result<Answer, StoreError> {
        if !call.fits() {
            self.shared.connections.metrics.clamped.increment(1);
            tracing::debug!(%key, ?call, "amounts of 2^53 or more are told as all there is");
        }
        let value = self
            .invoke(
                Kind::Lease,
                call.epoch.number,
                &self.shared.lease,
                &[counter_name(key)],
                |life, invocation| {
                    encoding::lease_arguments(call, life, invocation);
                },
            )
            .await?;
        let answer = encoding::lease_answer(&value)?;
        self.look_again_if(answer == Answer::EpochLost, call.epoch.number);
        Ok(answer)
    }

    /// Sends a step of a run's closing to the key.
    pub async fn close(&self, key: &CellKey, call: &CloseCall) -> Result<CloseAnswer, StoreError> {
        let value = self
            .invoke(
                Kind::Close,
                call.epoch,
                &self.shared.close,
                &[counter_name(key)],
                |life, invocation| {
                    encoding::close_arguments(call, life, invocation);
                },
            )
            .await?;
        let answer = encoding::close_answer(&value)?;
        self.look_again_if(answer == CloseAnswer::EpochLost, call.epoch);
        Ok(answer)
    }

    /// Sends a call to the key's distinct count.
    pub async fn distinct(
        &self,
        key: &CellKey,
        call: &DistinctCall,
    ) -> Result<DistinctAnswer, StoreError> {
        call.check()?;
        let names = [distinct_name(key), distinct_head_name(key)];
        let shared = &self.shared;
        let value = self
            .invoke(
                Kind::Distinct,
                call.epoch.number,
                &shared.distinct,
                &names,
                |life, invocation| {
                    encoding::distinct_arguments(call, life, invocation);
                },
            )
            .await?;
        let answer = encoding::distinct_answer(&value)?;
        self.look_again_if(answer == DistinctAnswer::EpochLost, call.epoch.number);
        Ok(answer)
    }

    /// Brings the counter to what the ledger has, as far as nobody can hold what that frees.
    pub async fn mend(
        &self,
        key: &CellKey,
        epoch: u64,
        mend: &Mend,
    ) -> Result<MendAnswer, StoreError> {
        let value = self
            .invoke(
                Kind::Close,
                epoch,
                &self.shared.mend,
                &[counter_name(key)],
                |life, invocation| mend::mend_arguments(mend, epoch, life, invocation),
            )
            .await?;
        mend::mend_answer(&value)
    }

    /// Hands every recall hint to `on_recall` until `token` is cancelled. The handler must not
    /// block. The caller spawns it, once.
    pub async fn listen(&self, token: CancellationToken, on_recall: impl Fn(CellKey, Recall)) {
        recall::listen(&self.shared.connections, &token, on_recall).await;
    }

    /// One counter as it stands; `None` if it is not there, or only remembers a closing. Needs
    /// neither [`RedisCounters::run`] nor an epoch, like all looking.
    pub async fn inspect(&self, key: &CellKey) -> Result<Option<Inspection>, StoreError> {
        self.shared.browser.inspect(key).await
    }

    /// Lists the counters, page by page; `from` is the page before's `next`.
    pub async fn keys(&self, from: Option<Cursor>) -> Result<KeyPage, StoreError> {
        self.shared.browser.keys(from).await
    }

    /// The keys that have an entry of `run`, for operators, and those of which that cannot be told: it
    /// looks at every key in Redis, page by page. Keys that come or go meanwhile may be missed.
    pub async fn keys_of_run(&self, run: RunId) -> Result<Vec<CellKey>, StoreError> {
        self.shared.browser.keys_of_run(run).await
    }

    /// The server of `epoch` was emptied under our connections.
    fn look_again_if(&self, is_lost: bool, epoch: u64) {
        let bound = self.shared.bound.load_full().filter(|bound| is_lost && bound.epoch == epoch);
        if let Some(bound) = bound {
            self.shared.connections.look_again(&bound.identity);
        }
    }

    async fn invoke(
        &self,
        kind: Kind,
        epoch: u64,
        script: &Script,
        names: &[String],
        arguments: impl FnOnce(&str, &mut redis::ScriptInvocation<'_>),
    ) -> Result<Value, StoreError> {
        let bound = self.shared.bound.load_full().filter(|bound| bound.epoch == epoch);
        let identity = bound.as_ref().map(|bound| &bound.identity);
        let mut invocation = script.prepare_invoke();
        names.iter().for_each(|name| {
            invocation.key(name);
        });
        invocation.key(LIFE);
        arguments(identity.map_or("", |identity| &identity.life), &mut invocation);
        self.shared
            .connections
            .call(kind, epoch, identity, async |connection| {
                invocation.invoke_async(connection).await
            })
            .await
    }
}
