//! A sidecar among others: plans and tenants from the ledger, counters in Redis.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::parts::{Backing, Base, build, follow};
use crate::{
    enforcement::{
        alive::alive_within,
        background::{
            alerts,
            cut_off::CutOffClosings,
            drift::{DriftTimes, DriftWatch},
            epochs::EpochKeeper,
            leftovers::Closer,
            own_epoch::OwnEpochKeeper,
            registration::register,
        },
        directory::{Directory, Source},
        engine::Engine,
        floors::Floors,
        flusher::{FlushError, Flusher},
        leasing::Leasing,
        values::Values,
    },
    leases::message::Epoch,
    ledger::{
        Ledger,
        runs::{ClosedHow, NewRun, RunStanding},
    },
    lifecycle::{
        readiness::{Condition, Readiness},
        tasks::TaskGroup,
    },
    store::{LocalCounters, RedisCounters, counters::Counters},
};

/// How long Postgres may take to take a connection at the end, and then to close all.
const REACH_WAIT: Duration = Duration::from_secs(1);
/// How long retiring counters may take at the end.
const RETIRE_WAIT: Duration = Duration::from_secs(5);
/// How often they are looked at meanwhile.
const RETIRE_LOOK: Duration = Duration::from_millis(10);

/// What is left to do at the end.
pub struct Shared {
    closer: Arc<Closer>,
    directory: Arc<Directory>,
    leasing: Arc<Leasing>,
    /// Why Redis cannot be reached.
    trouble: watch::Receiver<Option<Arc<str>>>,
    flusher_stop: CancellationToken,
    flusher_done: CancellationToken,
}

impl Shared {
    /// Flushes everything, returns all escrow, and closes the run. What cannot be done, or not in
    /// time, the next start does: the journal has it all.
    pub async fn finish(self, engine: &Arc<Engine>) {
        self.retire_counters().await;
        self.closer.journal.close().await;
        self.flusher_stop.cancel();
        if let Err(unreachable) = self.closer.ledger.reach(REACH_WAIT).await {
            tracing::warn!(%unreachable, "the journal keeps what is not flushed; the next start does it");
            // Whoever waits for a connection now is told so.
            let _ = tokio::time::timeout(REACH_WAIT, self.closer.ledger.close()).await;
            return;
        }
        tracing::info!("flushing usage to Postgres and closing the run");
        self.flusher_done.cancelled().await;
        if !engine.is_flushed() || !self.ledger_has_all(engine).await {
            tracing::warn!("not all usage is flushed; the next start does it");
            return;
        }
        alerts::look_last(engine.clone(), self.closer.ledger.clone()).await;
        match self.closer.close(engine.run(), ClosedHow::Stopped, None).await {
            Ok(_) => {
                if let Err(error) = self.closer.journal.clone().delete() {
                    tracing::warn!(%error, "cannot delete the closed run's journal");
                }
            }
            Err(error) => tracing::warn!(%error, "cannot close the run; the next start does"),
        }
    }

    /// Whether the ledger's mark stands where this run's flushes have brought it: one that was restored
    /// since needs the journal once more.
    async fn ledger_has_all(&self, engine: &Engine) -> bool {
        let flushed_position = engine.flushed_to();
        let standing = self.closer.ledger.run_standing(engine.run()).await;
        matches!(standing, Ok(found) if found == RunStanding::Open { flushed_position })
    }

    /// Returns all escrow, as long as Redis can be reached.
    async fn retire_counters(&self) {
        let counters = self.directory.all_counters();
        tracing::info!(counters = counters.len(), "returning escrow");
        for counter in &counters {
            counter.slow().holder.retire();
            self.leasing.wake(counter);
        }
        let all_retired = async {
            while !counters.iter().all(|counter| counter.is_retired()) {
                tokio::time::sleep(RETIRE_LOOK).await;
            }
        };
        let mut trouble = self.trouble.clone();
        let out_of_reach = async {
            // Counters in this process have nobody who could tell of trouble.
            if trouble.wait_for(Option::is_some).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let retired = async {
            tokio::select! {
                biased;
                () = all_retired => true,
                () = out_of_reach => false,
            }
        };
        if !tokio::time::timeout(RETIRE_WAIT, retired).await.unwrap_or(false) {
            tracing::warn!("not all escrow could be returned; it counts until this run is closed");
        }
    }
}

/// Starts the sidecar. Neither Postgres nor Redis has to be up.
pub fn start(
    base: Base,
    readiness: &Readiness,
    tasks: &TaskGroup,
) -> anyhow::Result<(Arc<Engine>, Arc<Leasing>, Shared)> {
    let ledger = Ledger::new(&base.settings.ledger)?;
    let (epoch_sender, epoch) = watch::channel(None);
    let redis = match base.settings.redis.url.is_empty() {
        true => None,
        false => Some(RedisCounters::new(base.settings.redis.clone())?),
    };
    let counters = match &redis {
        Some(redis) => Counters::Redis(redis.clone()),
        None => Counters::Local(LocalCounters::new()),
    };
    let backing = Backing {
        source: Source::Ledger(ledger.clone()),
        counters,
        floors: Floors::Ledger(ledger.clone()),
        epoch: epoch.clone(),
        journals_keys: true,
    };
    let (engine, leasing, directory) = build(&base, backing, tasks);
    follow(&base, &ledger, &engine, &leasing, &directory, tasks);
    let started_at = base.clock.now();
    let identity = NewRun {
        run: base.run,
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        boot_id: base.journal.boot_id(),
        started_at,
        mark_at: started_at,
        flushed_position: 0,
    };
    let closer = Arc::new(Closer {
        journal: base.journal.clone(),
        ledger: ledger.clone(),
        leasing: leasing.clone(),
        directory: directory.clone(),
        alerts: engine.alerts.clone(),
        clock: base.clock.clone(),
        identity: identity.clone(),
        alive_within: alive_within(base.settings.enforcement.flush_interval()),
    });
    let flusher_stop = CancellationToken::new();
    let flusher_done = CancellationToken::new();
    // Counters of this process have no trouble.
    let untroubled = || watch::Sender::new(None).subscribe();
    let trouble = redis.as_ref().map_or_else(untroubled, RedisCounters::trouble);
    watch_counters(epoch, trouble.clone(), readiness.condition("shared_counters"), tasks);
    let work = SharedWork {
        ledger,
        identity,
        redis,
        epoch: epoch_sender,
        engine: engine.clone(),
        leasing: leasing.clone(),
        values: base.values.clone(),
        directory: directory.clone(),
        closer: closer.clone(),
        flush_interval: base.settings.enforcement.flush_interval(),
        drift_times: base.settings.enforcement.drift_times(),
        ledger_condition: readiness.condition("ledger"),
        flusher_stop: flusher_stop.clone(),
        flusher_done: flusher_done.clone(),
    };
    work.spawn(tasks);
    let leasing_too = leasing.clone();
    let shared =
        Shared { closer, directory, leasing: leasing_too, trouble, flusher_stop, flusher_done };
    Ok((engine, leasing, shared))
}

/// The tasks that need the run to be registered first.
struct SharedWork {
    ledger: Ledger,
    identity: NewRun,
    redis: Option<RedisCounters>,
    epoch: watch::Sender<Option<Epoch>>,
    engine: Arc<Engine>,
    leasing: Arc<Leasing>,
    values: Arc<Values>,
    directory: Arc<Directory>,
    closer: Arc<Closer>,
    flush_interval: Duration,
    drift_times: DriftTimes,
    ledger_condition: Condition,
    flusher_stop: CancellationToken,
    flusher_done: CancellationToken,
}

impl SharedWork {
    fn spawn(self, tasks: &TaskGroup) {
        let group = tasks.clone();
        tasks.run("registration", move |stop| async move {
            self.ledger_condition.degrade("this run is not registered in Postgres yet");
            if register(&self.ledger, &self.identity, &stop).await {
                self.ledger_condition.ok();
                self.spawn_registered(&group);
            } else {
                self.flusher_done.cancel();
            }
            stop.cancelled().await;
            Ok::<_, std::convert::Infallible>(())
        });
    }

    fn spawn_registered(self, tasks: &TaskGroup) {
        let run = self.identity.run;
        let condition = self.ledger_condition;
        let report = move |problem: Option<String>| match problem {
            None => condition.ok(),
            Some(problem) => condition.degrade(problem),
        };
        let (engine, ledger) = (self.engine.clone(), self.ledger.clone());
        let mut flusher = Flusher::new(engine, ledger, self.flush_interval, Box::new(report));
        let (stop, done) = (self.flusher_stop, self.flusher_done);
        tasks.run("flusher", move |group_stop| async move {
            let done = done.drop_guard();
            let result = match flusher.run(stop.clone()).await {
                // The journal keeps the rest for the next start.
                Err(FlushError::Ledger(error)) if stop.is_cancelled() && error.is_passing() => {
                    tracing::info!(%error, "flushing has stopped");
                    Ok(())
                }
                result => result,
            };
            drop(done);
            if result.is_ok() {
                group_stop.cancelled().await;
            }
            result
        });
        match self.redis {
            Some(counters) => {
                let connections = counters.clone();
                tasks.run("redis", move |stop| async move {
                    connections.run(stop).await;
                    Ok::<_, std::convert::Infallible>(())
                });
                let (ledger, directory) = (self.ledger.clone(), self.directory.clone());
                let epoch = self.epoch.subscribe();
                let counters_too = counters.clone();
                let drift =
                    DriftWatch::new(ledger, counters_too, directory, epoch, self.drift_times);
                tasks.run("drift", move |stop| async move {
                    drift.keep(stop).await;
                    Ok::<_, std::convert::Infallible>(())
                });
                let keeper = EpochKeeper {
                    ledger: self.ledger,
                    counters,
                    leasing: self.leasing,
                    directory: self.directory,
                    values: self.values,
                    epoch: self.epoch,
                };
                tasks.run("epochs", move |stop| async move {
                    keeper.keep(run, stop).await;
                    Ok::<_, std::convert::Infallible>(())
                });
            }
            None => {
                let keeper = OwnEpochKeeper {
                    ledger: self.ledger,
                    leasing: self.leasing,
                    directory: self.directory,
                    epoch: self.epoch,
                };
                tasks.run("epochs", move |stop| async move {
                    keeper.keep(run, stop).await;
                    Ok::<_, std::convert::Infallible>(())
                });
            }
        }
        let cut_off = CutOffClosings::new(self.closer.clone());
        tasks.run("cut_off_closings", move |stop| async move {
            cut_off.keep(stop).await;
            Ok::<_, std::convert::Infallible>(())
        });
        tasks.run("leftovers", move |stop| async move {
            self.closer.close_all(&stop).await;
            stop.cancelled().await;
            Ok::<_, std::convert::Infallible>(())
        });
    }
}

/// Says in readiness when the shared counters cannot be used: limits are then decided by their
/// outage policies, which is no reason to send work elsewhere.
fn watch_counters(
    mut epoch: watch::Receiver<Option<Epoch>>,
    mut trouble: watch::Receiver<Option<Arc<str>>>,
    condition: Condition,
    tasks: &TaskGroup,
) {
    tasks.run("counters_health", move |stop| async move {
        // Connections that a stop closes are no trouble.
        while !stop.is_cancelled() {
            let why = trouble.borrow_and_update().clone();
            match (why, *epoch.borrow_and_update()) {
                (Some(why), _) => condition.degrade(format!(
                    "Redis is out of reach ({why}); outage policies decide what escrow does not cover"
                )),
                (None, Some(Epoch { recovered: true, .. })) => condition.ok(),
                (None, Some(Epoch { recovered: false, number })) => condition.degrade(format!(
                    "epoch {number} waits for all runs to report; no escrow is granted"
                )),
                (None, None) => condition
                    .degrade("the epoch of Redis' counters is not known; outage policies decide"),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                changed = epoch.changed() => if changed.is_err() { break },
                // Without a Redis its sender is gone.
                Ok(()) = trouble.changed() => {}
            }
        }
        stop.cancelled().await;
        Ok::<_, std::convert::Infallible>(())
    });
}
