//! `WatchUsage`: what `GetUsage` says, and then what changes.

use std::{sync::Arc, time::Duration};

use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{engine::Engine, error::EngineError};
use crate::domain::usage_status::{UsageQuery, UsageStatus};

/// Several watchers of one tenant ask the shared counters once in this time.
const FRESH_FOR: Duration = Duration::from_millis(500);

/// One caller's watch over a tenant's usage.
pub struct UsageWatch {
    engine: Arc<Engine>,
    query: UsageQuery,
    /// Shortest time between two looks.
    interval: Duration,
    looked_at: Option<Instant>,
    last: Option<UsageStatus>,
    /// One of so many watches that are allowed at a time.
    _place: OwnedSemaphorePermit,
}

impl Engine {
    /// Begins to watch; looks every `interval`. Refused while too many others watch.
    pub fn watch_usage(
        self: &Arc<Self>,
        query: UsageQuery,
        interval: Duration,
    ) -> Result<UsageWatch, EngineError> {
        let bound = self.config.watchers_max;
        let place = self
            .watchers
            .clone()
            .try_acquire_owned()
            .map_err(|_| EngineError::Overloaded { what: "streams that watch usage", bound })?;
        let engine = self.clone();
        Ok(UsageWatch { engine, query, interval, looked_at: None, last: None, _place: place })
    }
}

impl UsageWatch {
    /// Everything at first; afterwards waits until something has changed, and answers that.
    pub async fn next(&mut self) -> Result<UsageStatus, EngineError> {
        loop {
            if let Some(looked_at) = self.looked_at {
                tokio::time::sleep_until(looked_at + self.interval).await;
            }
            self.looked_at = Some(Instant::now());
            let status = self.engine.usage_as_of(&self.query, FRESH_FOR).await?;
            let news = match &self.last {
                None => Some(status.clone()),
                Some(last) => status.changes_since(last),
            };
            self.last = Some(status);
            if let Some(news) = news {
                return Ok(news);
            }
        }
    }
}
