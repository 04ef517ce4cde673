//! Looks at counters beside the calls: for `reconcile`, operators and tests.
//!
//! From a pool of its own, so that a long listing never stands in the way of a call. Nothing is
//! changed, and nothing granted on what is seen, so these connections need no check and no epoch.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use deadpool_redis::{
    Connection, CreatePoolError, Pool, PoolConfig, Runtime, Timeouts,
    redis::{FromRedisValue, RedisResult, cmd, pipe},
};
use tokio::time::timeout;

use super::{
    config::RedisConfig,
    error::StoreError,
    inspect::{Cursor, InspectedRun, Inspection, KeyPage},
    keys::{COUNTER_PREFIX, counter_name, counter_of_name},
};
use crate::{
    domain::{amount::saturated, cell_key::CellKey, ids::RunId},
    leases::message::{Ceiling, Totals},
};

/// Connections for looking.
const CONNECTIONS_MAX: usize = 2;
/// Names that the server looks at for one page of a listing.
const PAGE: usize = 1_000;
/// Start of the names of the fields that hold entries.
const ENTRY_PREFIX: &str = "r:";

/// Looks at counters. Cheap to clone.
#[derive(Clone)]
pub(super) struct Browser {
    pool: Pool,
    wait_max_ms: u64,
}

impl fmt::Debug for Browser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Browser").field("wait_max_ms", &self.wait_max_ms).finish_non_exhaustive()
    }
}

impl Browser {
    /// Connects when it is first used.
    pub(super) fn new(config: &RedisConfig) -> Result<Self, StoreError> {
        let wait_max = Some(Duration::from_millis(config.connect_timeout_ms));
        let timeouts = Timeouts { wait: wait_max, create: wait_max, recycle: wait_max };
        let pool = deadpool_redis::Config {
            pool: Some(PoolConfig { timeouts, ..PoolConfig::new(CONNECTIONS_MAX) }),
            ..deadpool_redis::Config::from_url(&config.url)
        };
        match pool.create_pool(Some(Runtime::Tokio1)) {
            Ok(pool) => Ok(Self { pool, wait_max_ms: config.connect_timeout_ms }),
            Err(CreatePoolError::Config(deadpool_redis::ConfigError::Redis(error))) => {
                Err(error.into())
            }
            // Neither url and connection are both given, nor is the runtime missing.
            Err(error) => unreachable!("the pool's settings are ours: {error}"),
        }
    }

    /// One counter; `None` if it is not there, or a stub.
    pub(super) async fn inspect(&self, key: &CellKey) -> Result<Option<Inspection>, StoreError> {
        let name = counter_name(key);
        let hash = cmd("HGETALL").arg(&name).to_owned();
        let fields: BTreeMap<String, String> =
            self.ask(async |connection| hash.query_async(connection).await).await?;
        if !fields.contains_key("c") {
            return Ok(None);
        }
        match inspection(&fields) {
            Some(inspection) => Ok(Some(inspection)),
            None => {
                Err(StoreError::Unreadable { script: "HGETALL", answer: format!("{fields:?}") })
            }
        }
    }

    /// A page of the counters. Names that no counter has are left out.
    pub(super) async fn keys(&self, from: Option<Cursor>) -> Result<KeyPage, StoreError> {
        let (names, next) = self.names(from).await?;
        Ok(KeyPage { keys: names.iter().filter_map(|name| counter_of_name(name)).collect(), next })
    }

    /// The counters that have an entry of `run`, or may have had one before something of another type
    /// took their place: looks at every counter, page by page.
    pub(super) async fn keys_of_run(&self, run: RunId) -> Result<Vec<CellKey>, StoreError> {
        let field = format!("{ENTRY_PREFIX}{run}");
        let mut found = BTreeSet::new();
        let mut cursor = None;
        loop {
            let (names, next) = self.names(cursor).await?;
            let mut questions = pipe();
            questions.ignore_errors();
            for name in &names {
                questions.cmd("HEXISTS").arg(name).arg(&field);
            }
            if !names.is_empty() {
                let answers: Vec<RedisResult<bool>> =
                    self.ask(async |connection| questions.query_async(connection).await).await?;
                for (name, answer) in names.iter().zip(answers) {
                    let is_touched = match answer.map_err(StoreError::from) {
                        Ok(is_touched) => is_touched,
                        Err(error) if error.is_about_content() => true,
                        Err(error) => return Err(error),
                    };
                    found.extend(is_touched.then(|| counter_of_name(name)).flatten());
                }
            }
            match next {
                Some(_) => cursor = next,
                None => return Ok(found.into_iter().collect()),
            }
        }
    }

    async fn names(
        &self,
        from: Option<Cursor>,
    ) -> Result<(Vec<String>, Option<Cursor>), StoreError> {
        let mut scan = cmd("SCAN");
        scan.arg(from.map_or(0, |Cursor(cursor)| cursor));
        scan.arg("MATCH").arg(format!("{COUNTER_PREFIX}*")).arg("COUNT").arg(PAGE);
        let (next, names): (u64, Vec<Vec<u8>>) =
            self.ask(async |connection| scan.query_async(connection).await).await?;
        // A name that is no text is not one of ours.
        let names = names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect();
        Ok((names, (next != 0).then_some(Cursor(next))))
    }

    async fn ask<T: FromRedisValue>(
        &self,
        ask: impl AsyncFnOnce(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        let connection = self.pool.get().await;
        let mut connection = connection.map_err(|error| {
            tracing::debug!(%error, "cannot look at Redis");
            StoreError::Unreachable
        })?;
        let wait_max = Duration::from_millis(self.wait_max_ms);
        match timeout(wait_max, ask(&mut connection)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => {
                // A connection that is stuck is not worth going back to.
                drop(Connection::take(connection));
                Err(StoreError::Timeout(self.wait_max_ms))
            }
        }
    }
}

/// Reads the fields of a hash; the layout is in [`super::keys`].
fn inspection(fields: &BTreeMap<String, String>) -> Option<Inspection> {
    let signed = |name: &str| -> Option<i64> { fields.get(name)?.parse().ok() };
    let unsigned = |name: &str| signed(name).and_then(|number| u64::try_from(number).ok());
    let entries = fields
        .iter()
        .filter_map(|(name, entry)| Some(read_entry(name.strip_prefix(ENTRY_PREFIX)?, entry)));
    let mut runs = entries.collect::<Option<Vec<_>>>()?;
    runs.sort_by_key(|entry| entry.run);
    Some(Inspection {
        epoch: unsigned("e")?,
        base: saturated(signed("b")?),
        used: saturated(signed("b")?.saturating_add(signed("u")?)),
        outstanding: saturated(signed("t")?.saturating_sub(signed("u")?)),
        forfeited: unsigned("x")?,
        ceiling: unsigned("v").map(|version| Ceiling { units: unsigned("l"), version }),
        runs,
    })
}

fn read_entry(run: &str, entry: &str) -> Option<InspectedRun> {
    let read = |number: &str| u64::try_from(number.parse::<i64>().ok()?).ok();
    let numbers = entry.split(' ').map(read).collect::<Option<Vec<u64>>>()?;
    let [granted, returned, consumed, recorded, undone, flushed, _, _] = *numbers else {
        return None;
    };
    let totals = Totals { granted, returned, consumed, recorded, undone };
    Some(InspectedRun { run: run.parse().ok()?, totals, flushed })
}
