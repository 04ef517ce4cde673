//! The private Postgres and Redis.

use std::path::Path;

use anyhow::{Context, Result};

use crate::dev::{Ended, Postgres, Redis};

/// Every new cluster has this database.
const DATABASE: &str = "postgres";

/// Both stores, running.
pub(super) struct Stores {
    pub(super) postgres: Postgres,
    pub(super) redis: Redis,
}

impl Stores {
    /// The URL of the ledger.
    pub(super) fn postgres_url(&self) -> String {
        self.postgres.url(DATABASE)
    }

    /// How one of them ended by itself.
    pub(super) fn ended(&mut self) -> Option<Ended> {
        self.postgres.ended().or_else(|| self.redis.ended())
    }

    /// Stops both in good order.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.redis.stop()?;
        self.postgres.stop()
    }
}

/// Starts both at once, with their data below `dir`.
pub(super) async fn start(dir: &Path) -> Result<Stores> {
    let (for_postgres, for_redis) = (dir.join("postgres"), dir.join("redis"));
    let (postgres, redis) = tokio::join!(
        tokio::task::spawn_blocking(move || Postgres::lasting(&for_postgres)),
        tokio::task::spawn_blocking(move || Redis::lasting(&for_redis)),
    );
    Ok(Stores {
        postgres: postgres?.context("starting the private Postgres")?,
        redis: redis?.context("starting the private Redis")?,
    })
}
