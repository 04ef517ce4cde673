//! Puts a sidecar's parts together.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use uuid::Uuid;

use super::{alone, parts::Base, shared};
use crate::{
    clock::Clock,
    config::Settings,
    domain::{catalog::Catalog, ids::RunId},
    enforcement::{engine::Engine, fence::Fenced, leasing::Leasing},
    journal::{Journal, disk::Disk, shared::Health},
    leases::holder::{HolderSeed, LeaseTimes},
    lifecycle::{readiness::Readiness, tasks::TaskGroup},
};

/// With whom a sidecar shares.
pub enum Mode {
    /// Alone, from a catalog file.
    Alone(Box<Catalog>),
    /// With a ledger, and a Redis if there is to be more than one sidecar.
    Shared,
}

impl Mode {
    /// Chooses from what was given; both or neither is a mistake.
    pub fn of(
        settings: &Settings,
        catalog: Option<&Path>,
        tenants: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let has_ledger = !settings.ledger.url.is_empty();
        match catalog {
            Some(_) if has_ledger => bail!(
                "--catalog and ledger.url are both given; a sidecar runs from a file or from a \
                 ledger: leave one of them out"
            ),
            Some(file) => Ok(Self::Alone(Box::new(alone::read(file, tenants)?))),
            None if has_ledger => Ok(Self::Shared),
            None => bail!(
                "neither ledger.url nor --catalog is given; set ledger.url (and redis.url) to \
                 share counters, or give --catalog FILE to run alone"
            ),
        }
    }
}

/// A sidecar at work.
pub struct Started {
    pub engine: Arc<Engine>,
    leasing: Arc<Leasing>,
    finish: Finish,
}

/// What is left to do at the end.
enum Finish {
    Alone(alone::Alone),
    Shared(shared::Shared),
}

impl Started {
    /// Waits until the counters can be leased from, at most `wait`.
    pub async fn wait_for_counters(&self, wait: Duration) {
        let mut epoch = self.leasing.epoch.clone();
        let recovered = epoch.wait_for(|epoch| epoch.is_some_and(|epoch| epoch.recovered));
        if tokio::time::timeout(wait, recovered).await.is_err() {
            tracing::warn!("serving without the shared counters");
        }
    }

    /// Resolves when this run is over by nobody's wish here.
    pub async fn fenced(&self) -> Fenced {
        self.leasing.fence.lowered().await
    }

    /// Everything acknowledged goes to where it belongs, and escrow back.
    pub async fn finish(self) {
        self.engine.close_intake();
        self.engine.release_all_reservations();
        match self.finish {
            Finish::Alone(alone) => alone.finish().await,
            Finish::Shared(shared) => shared.finish(&self.engine).await,
        }
    }
}

/// Starts everything but the faces.
pub async fn start(
    settings: &Settings,
    mode: Mode,
    readiness: &Readiness,
    tasks: &TaskGroup,
) -> anyhow::Result<Started> {
    let run = RunId(Uuid::new_v4());
    let config = settings.journal.clone();
    let journal = tokio::task::spawn_blocking(move || Journal::open(config, run, Disk))
        .await
        .context("opening the journal")??;
    watch_journal(&journal, readiness, tasks);
    let times = LeaseTimes {
        recall_wait: settings.enforcement.recall_wait(),
        settle: settings.enforcement.settle_interval(),
        ..LeaseTimes::default()
    };
    let times = match mode {
        Mode::Alone(_) => times.alone(),
        Mode::Shared => times,
    };
    let seed = HolderSeed { run, times };
    let base = Base {
        settings: settings.clone(),
        journal,
        run,
        clock: Clock::System,
        seed,
        values: Arc::default(),
    };
    match mode {
        Mode::Alone(catalog) => {
            let (engine, leasing, alone) = alone::start(base, &catalog, tasks).await?;
            Ok(Started { engine, leasing, finish: Finish::Alone(alone) })
        }
        Mode::Shared => {
            let (engine, leasing, shared) = shared::start(base, readiness, tasks)?;
            Ok(Started { engine, leasing, finish: Finish::Shared(shared) })
        }
    }
}

/// A journal that has stopped takes readiness with it.
fn watch_journal(journal: &Journal, readiness: &Readiness, tasks: &TaskGroup) {
    let condition = readiness.condition("journal");
    let mut health = journal.health();
    tasks.run("journal_health", move |stop| async move {
        loop {
            match &*health.borrow_and_update() {
                Health::Running => condition.ok(),
                Health::Failed { reason } => condition.fail(reason.as_ref()),
                // In good order, at the end.
                Health::Closed => break,
            }
            tokio::select! {
                changed = health.changed() => if changed.is_err() { break },
                () = stop.cancelled() => break,
            }
        }
        stop.cancelled().await;
        Ok::<_, std::convert::Infallible>(())
    });
}
