//! What is running.

use std::{path::PathBuf, thread};

use anyhow::Result;

use super::{addresses::Addresses, stores::Stores};
use crate::{
    cli::print::news,
    dev::{Companion, Ended},
};

/// Everything that was started.
pub(super) struct Up {
    pub(super) dir: PathBuf,
    pub(super) addresses: Addresses,
    /// Sidecar and worker.
    pub(super) companions: Vec<Companion>,
    pub(super) stores: Stores,
    /// What was replayed of recorded usage, in words.
    pub(super) replayed: Option<String>,
}

impl Up {
    /// How one of the processes ended by itself. A store comes first: who stands on it may end for
    /// its sake.
    pub(super) fn ended(&mut self) -> Option<Ended> {
        self.stores.ended().or_else(|| self.companions.iter_mut().find_map(Companion::ended))
    }

    /// Stops everything in good order: the stores after those that need them.
    pub(super) fn stop(mut self) -> Result<()> {
        news("stopping the sidecar and the worker (usage is flushed, escrow returned)");
        let stopped: Result<()> = thread::scope(|scope| {
            let companions = self.companions.iter_mut();
            let stopping: Vec<_> =
                companions.map(|companion| scope.spawn(|| companion.stop())).collect();
            // A panic there has been told on standard error already.
            stopping.into_iter().try_for_each(|stop| stop.join().unwrap_or(Ok(())))
        });
        news("stopping Redis and Postgres");
        self.stores.stop()?;
        stopped
    }
}
