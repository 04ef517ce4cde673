//! `tollgate sidecar`: answers checks and takes usage in.

mod alone;
mod guard;
mod parts;
mod shared;
pub mod start;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{access::guarded::Guarded, service::EngineService, tls::Tls},
    cli::sidecar::start::Started,
    clock::Clock,
    config::SettingsArgs,
    enforcement::fence::Fenced,
    grpc::{
        faces::faces,
        health::Health,
        listen::Listeners,
        rls::{Asking, RateLimits},
        serve::{Services, serve},
    },
    http,
    lifecycle::{open_files, readiness::Readiness, signals::StopSignals, tasks::TaskGroup},
    telemetry::{logging, metrics::Metrics},
};

/// How long the first requests are kept waiting for Redis and Postgres; then outage policies decide.
const START_WAIT: Duration = Duration::from_secs(3);
/// Longest that tasks may take to stop once the intake is drained.
const STOP_WAIT: Duration = Duration::from_secs(20);

/// Answer checks from memory and record usage.
///
/// With a ledger (Postgres) and a Redis it shares its counters with other sidecars. With --catalog
/// it runs alone: plans and tenants come from the file, counters live in this process, and the
/// journal is the durable store.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Run alone, from this catalog file (YAML) with its tenants
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// More tenants for --catalog, in a file of their own (YAML)
    #[arg(long, value_name = "FILE", requires = "catalog")]
    tenants: Option<PathBuf>,
}

/// Serves until it is told to stop.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let settings = args.settings.load()?.settings;
    let mode = start::Mode::of(&settings, args.catalog.as_deref(), args.tenants.as_deref())?;
    guard::check(&settings)?;
    logging::init(&settings.log)?;
    open_files::raise_limit();
    let metrics = Metrics::install()?;
    let mut signals = StopSignals::catch()?;
    let readiness = Readiness::new(Clock::System);
    let tasks = TaskGroup::new(readiness.clone());

    // Certificates and sockets first: what is missing or taken is found before anything is locked
    // or written.
    let tls = Tls::open(&settings.tls)?;
    let listeners = Listeners::open(&settings.grpc).await?;
    let http_listener =
        tokio::net::TcpListener::bind(settings.http.listen).await.with_context(|| {
            let at = settings.http.listen;
            format!("cannot listen on {at}; set http.listen to a free address")
        })?;
    let grpc_at = listeners.tcp_address();
    let http_at = http_listener.local_addr()?;
    let started = start::start(&settings, mode, &readiness, &tasks).await?;
    let access = guard::start(&settings, &readiness, &tasks).await?;
    started.wait_for_counters(START_WAIT).await;

    let grpc_stop = CancellationToken::new();
    let health = Health::new().await;
    let service = EngineService::new(started.engine.clone(), grpc_stop.clone());
    let checked = match access.is_open() {
        true => Guarded::open(service.clone()),
        false => Guarded::new(service.clone()),
    };
    let calls = http::calls::router(&Arc::new(checked.clone()), &settings.http, &Clock::System);
    let rate_limits = |asking| RateLimits::server(started.engine.clone(), Clock::System, asking);
    let over_tcp = faces(checked, health.server(), &settings.grpc)?
        .beside(rate_limits(if access.is_open() { Asking::Nobody } else { Asking::Everybody }))
        .guarded_by(access.clone());
    let over_unix = faces(Guarded::open(service), health.server(), &settings.grpc)?
        .beside(rate_limits(Asking::Nobody));
    let services = Services { over_tcp, over_unix, tls: tls.clone() };
    let following = tokio::spawn(health.follow(readiness.subscribe(), grpc_stop.clone()));
    let grpc = tokio::spawn(serve(listeners, services, settings.grpc.clone(), grpc_stop.clone()));
    if let Some(tls) = tls.clone() {
        tasks.run("certificates", move |stop| async move {
            tls.follow(stop.clone()).await;
            Ok::<_, std::convert::Infallible>(())
        });
    }
    let http_stop = CancellationToken::new();
    let router = http::router(readiness.clone(), {
        let metrics = metrics.clone();
        move || metrics.render()
    });
    let router = http::guard::guarded(router.merge(calls), &access);
    let http_config = settings.http.clone();
    let http = tokio::spawn({
        let stop = http_stop.clone();
        let tls = tls.clone().filter(|_| settings.tls.on_http);
        async move { http::serve::serve(http_listener, router, &http_config, tls, stop).await }
    });
    tracing::info!(
        run = %started.engine.run(),
        grpc = grpc_at.map(tracing::field::display),
        socket = settings.grpc.socket.as_ref().map(|path| tracing::field::display(path.display())),
        http = %http_at,
        "serving"
    );

    let run = started.engine.run();
    let fenced = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, "stopping; calls in flight are answered");
            None
        }
        why = started.fenced() => {
            tracing::error!(
                %run,
                "{}; it may not serve any longer, so this sidecar stops; calls in flight are answered",
                told(why)
            );
            Some(why)
        }
    };
    let stopping = async {
        grpc_stop.cancel();
        grpc.await.context("the gRPC face ended oddly")?;
        stop(started, &tasks).await;
        http_stop.cancel();
        http.await.context("the HTTP face ended oddly")??;
        following.abort();
        tracing::info!("stopped");
        anyhow::Ok(())
    };
    signals.unless_again(Box::pin(stopping)).await??;
    if let Some(why) = fenced {
        bail!("{} (run {run}); start the sidecar again, under a new run", told(why));
    }
    Ok(())
}

fn told(why: Fenced) -> &'static str {
    match why {
        Fenced::Closed => {
            "this run was closed, by an operator (`tollgate run close`) or by a sidecar that was \
             started on a copy of its directory"
        }
        Fenced::LedgerLostData => {
            "Postgres has less of this run than it had committed (it was restored, or a replica \
             took over that lagged behind)"
        }
    }
}

async fn stop(started: Started, tasks: &TaskGroup) {
    let finished = tokio::time::timeout(STOP_WAIT, started.finish()).await;
    if finished.is_err() {
        tracing::warn!("stopping took too long; the next start closes this run");
    }
    if let Err(error) = tasks.stop(STOP_WAIT).await {
        tracing::warn!(%error, "some tasks were left behind");
    }
}
