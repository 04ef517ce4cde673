//! `tollgate worker`: runs jobs when they are due, beside any number of other workers.

use std::{convert::Infallible, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::worker_name::worker_name;
use crate::{
    clock::Clock,
    config::{Settings, SettingsArgs},
    http,
    jobs::{
        registry,
        runner::{self, Runner},
    },
    ledger::{Ledger, LedgerError},
    lifecycle::{
        readiness::{Condition, Readiness},
        signals::StopSignals,
        tasks::TaskGroup,
    },
    telemetry::{logging, metrics::Metrics},
};

/// How often Postgres is asked whether it is there.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// How long Postgres may take to take a connection at the end, and then to close all.
const REACH_WAIT: Duration = Duration::from_secs(1);
/// How long stopping may take: a job's own wait, and a little to give its run back.
const STOP_WAIT_MAX: Duration = Duration::from_secs(15);

/// Run scheduled jobs; any number of workers share them through Postgres
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let settings = args.settings.load()?.settings;
    logging::init(&settings.log)?;
    let metrics = Metrics::install()?;
    let mut signals = StopSignals::catch()?;
    let stop = CancellationToken::new();
    let worker = serve(&settings, metrics, stop.clone());
    tokio::pin!(worker);
    tokio::select! {
        ended = &mut worker => return ended,
        signal = signals.next() => tracing::info!(signal, "stopping"),
    }
    stop.cancel();
    signals.unless_again(worker).await?
}

/// Runs a worker until `stop`, with the process's `metrics`.
pub async fn serve(
    settings: &Settings,
    metrics: Metrics,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let clock = Clock::System;
    runner::describe_metrics();
    if settings.ledger.url.is_empty() {
        bail!("a worker needs Postgres; give --ledger-url or set TOLLGATE_LEDGER_URL");
    }
    let ledger = Ledger::new(&settings.ledger)?;
    let jobs = registry::jobs(&ledger, &settings.jobs)?;
    let runner = Arc::new(Runner::new(ledger.clone(), jobs, clock.clone(), worker_name()));
    let readiness = Readiness::new(clock);
    let condition = readiness.condition("ledger");

    let listen = settings.worker_http.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| {
        format!("cannot listen on {listen}; set worker_http.listen to a free address")
    })?;
    tracing::info!(address = %listener.local_addr()?, "the worker's HTTP is served");
    let faces = TaskGroup::new(readiness.clone());
    let http_config = settings.worker_http.clone();
    let router = http::router(readiness.clone(), move || metrics.render());
    faces.run("http", async move |stop| {
        http::serve::serve(listener, router, &http_config, None, stop).await
    });

    let work = TaskGroup::new(readiness);
    let schema = tokio::select! {
        schema = wait_for_schema(&ledger, &condition) => schema,
        () = stop.cancelled() => Ok(()),
    };
    if schema.is_ok() && !stop.is_cancelled() {
        let probed = ledger.clone();
        work.run("ledger", async move |stop| probe(&probed, &condition, stop).await);
        work.run("jobs", async move |stop| {
            runner.run(stop).await;
            Ok::<(), Infallible>(())
        });
        stop.cancelled().await;
    }
    if let Err(unreachable) = ledger.reach(REACH_WAIT).await {
        tracing::warn!(%unreachable, "jobs under way are left to other workers");
        // Whoever waits for a connection now is told so.
        let _ = tokio::time::timeout(REACH_WAIT, ledger.close()).await;
    }
    // Jobs first: while they come to an end, the faces still tell how it goes.
    let stopped = work.stop(STOP_WAIT_MAX).await;
    faces.stop(STOP_WAIT_MAX).await?;
    let _ = tokio::time::timeout(REACH_WAIT, ledger.close()).await;
    schema?;
    Ok(stopped?)
}

/// Waits until Postgres can be reached; a schema that is not this version's is an error.
async fn wait_for_schema(ledger: &Ledger, condition: &Condition) -> anyhow::Result<()> {
    let mut told = None;
    loop {
        match ledger.check_schema().await {
            Ok(()) => return Ok(()),
            Err(error @ LedgerError::Schema(_)) => {
                return Err(error).context("cannot use the ledger");
            }
            Err(error) => {
                let reached = ledger.reach(REACH_WAIT).await;
                let why = reached.err().map_or_else(|| error.to_string(), |why| why.to_string());
                condition.fail(why.as_str());
                if told.as_deref() != Some(why.as_str()) {
                    tracing::warn!(reason = why, "no job is run yet");
                    told = Some(why);
                }
            }
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}

async fn probe(
    ledger: &Ledger,
    condition: &Condition,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    while !stop.is_cancelled() {
        match ledger.ping().await {
            Ok(()) => condition.ok(),
            Err(error) => condition.fail(error.to_string()),
        }
        tokio::select! {
            () = tokio::time::sleep(PROBE_INTERVAL) => {}
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}
