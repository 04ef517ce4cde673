//! What both kinds of sidecar are made of.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::{
    clock::Clock,
    config::Settings,
    domain::ids::RunId,
    enforcement::{
        background::{alerts, changes, distinct, housekeeping, pools, recalls},
        directory::{Directory, Source},
        engine::{Engine, EngineParts},
        fence::Fence,
        floors::Floors,
        lease_metrics::LeaseMetrics,
        leasing::Leasing,
        retention::KeyRetentions,
        run_time::RunTime,
        values::Values,
    },
    journal::Journal,
    leases::{holder::HolderSeed, message::Epoch},
    ledger::Ledger,
    lifecycle::tasks::TaskGroup,
    store::counters::Counters,
};

/// What both modes build on.
pub struct Base {
    pub settings: Settings,
    pub journal: Journal,
    pub run: RunId,
    pub clock: Clock,
    pub seed: HolderSeed,
    pub values: Arc<Values>,
}

/// What tells the modes apart.
pub struct Backing {
    pub source: Source,
    pub counters: Counters,
    pub floors: Floors,
    pub epoch: tokio::sync::watch::Receiver<Option<Epoch>>,
    /// Whether keys that are touched have to be journalled, for whoever closes the run.
    pub journals_keys: bool,
}

/// The engine over a backing, with the tasks that every engine has.
pub fn build(
    base: &Base,
    backing: Backing,
    tasks: &TaskGroup,
) -> (Arc<Engine>, Arc<Leasing>, Arc<Directory>) {
    let Backing { source, counters, floors, epoch, journals_keys } = backing;
    let snapshot = matches!(source, Source::Ledger(_))
        .then(|| base.settings.journal.data_dir.join("tenants.json"));
    let directory = Arc::new(Directory::new(source, snapshot));
    directory.restore();
    let retentions = KeyRetentions {
        directory: directory.clone(),
        clock: base.clock.clone(),
        is_local: matches!(counters, Counters::Local(_)),
    };
    let leasing = Arc::new(Leasing {
        seed: base.seed,
        counters,
        floors,
        opened_keys: journals_keys.then(|| base.journal.clone()),
        epoch,
        epoch_doubt: Notify::new(),
        untold_values: Arc::default(),
        retentions,
        fence: Fence::default(),
        tasks: TaskTracker::new(),
        time: RunTime::start(),
        denial_cache: base.settings.enforcement.denial_cache(),
        metrics: LeaseMetrics::register(),
    });
    let engine = Arc::new(Engine::new(EngineParts {
        config: base.settings.enforcement.clone(),
        clock: base.clock.clone(),
        directory: directory.clone(),
        leasing: leasing.clone(),
        journal: base.journal.clone(),
        values: base.values.clone(),
    }));
    let keeper = engine.clone();
    tasks.run("housekeeping", |stop| async move {
        housekeeping::keep(keeper, stop).await;
        Ok::<_, std::convert::Infallible>(())
    });
    let (values, teller) = (base.values.clone(), leasing.clone());
    tasks.run("distinct", move |stop| async move {
        distinct::tell(values, teller, stop).await;
        Ok::<_, std::convert::Infallible>(())
    });
    (engine, leasing, directory)
}

/// Follows changes of tenants and recall hints, keeps alerts true and settles pools.
pub fn follow(
    base: &Base,
    ledger: &Ledger,
    engine: &Arc<Engine>,
    leasing: &Arc<Leasing>,
    directory: &Arc<Directory>,
    tasks: &TaskGroup,
) {
    let poll = base.settings.enforcement.change_poll();
    let (follower, ledger_too) = (engine.clone(), ledger.clone());
    tasks.run("changes", move |stop| async move {
        changes::follow(follower, ledger_too, poll, stop).await;
        Ok::<_, std::convert::Infallible>(())
    });
    let ledger_of_pools = ledger.clone();
    let (keeper, ledger) = (engine.clone(), ledger.clone());
    tasks.run("alerts", move |stop| async move {
        alerts::keep(keeper, ledger, stop).await;
        Ok::<_, std::convert::Infallible>(())
    });
    let (keeper, ledger) = (engine.clone(), ledger_of_pools);
    tasks.run("pools", move |stop| async move {
        pools::keep(keeper, ledger, stop).await;
        Ok::<_, std::convert::Infallible>(())
    });
    let (leasing, directory) = (leasing.clone(), directory.clone());
    tasks.run("recalls", move |stop| async move {
        recalls::listen(directory, leasing, stop).await;
        Ok::<_, std::convert::Infallible>(())
    });
}
