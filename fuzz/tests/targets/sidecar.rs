//! A sidecar in this process: it runs alone, from a catalog with some of everything.

use std::{sync::Arc, time::Duration};

use axum::Router;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tollgate::{
    api::{access::guarded::Guarded, service::EngineService},
    cli::sidecar::start::{Mode, Started, start},
    clock::Clock,
    config::Settings,
    domain::{catalog::Catalog, usage::Durability},
    grpc::{
        GrpcService,
        faces::faces,
        health::Health,
        rls::{Asking, RateLimits},
    },
    http,
    lifecycle::{readiness::Readiness, tasks::TaskGroup},
};

/// How long an answer is read that does not end by itself.
pub const READ_MAX: Duration = Duration::from_millis(20);

const CATALOG: &str = include_str!("sidecar.yaml");

/// The sidecar, and what it runs on. All of it stays on the thread that made it, so that what it
/// allocates can be told.
pub struct Sidecar {
    pub runtime: Runtime,
    pub settings: Settings,
    pub started: Started,
    health: Health,
    _tasks: TaskGroup,
    pub directory: TempDir,
}

impl Sidecar {
    /// Starts it, in a directory of its own.
    pub fn start() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.journal.data_dir = directory.path().to_owned();
        settings.journal.segment_bytes = 1 << 20;
        // Answers do not wait for the disk.
        settings.enforcement.durability = Durability::Written;
        let catalog = Catalog::parse("sidecar.yaml", CATALOG).unwrap();
        let readiness = Readiness::new(Clock::System);
        let tasks = TaskGroup::new(readiness.clone());
        let mode = Mode::Alone(Box::new(catalog));
        let started = start(&settings, mode, &readiness, &tasks);
        let (started, health) =
            runtime.block_on(async { (started.await.unwrap(), Health::new().await) });
        Self { runtime, settings, started, health, _tasks: tasks, directory }
    }

    fn service(&self) -> Guarded<EngineService> {
        let engine = self.started.engine.clone();
        Guarded::open(EngineService::new(engine, CancellationToken::new()))
    }

    /// All that is called over HTTP.
    pub fn http(&self) -> Router {
        http::calls::router(&Arc::new(self.service()), &self.settings.http, &Clock::System)
    }

    /// All that is called over gRPC.
    pub fn grpc(&self) -> impl GrpcService + use<> {
        let engine = self.started.engine.clone();
        faces(self.service(), self.health.server(), &self.settings.grpc)
            .unwrap()
            .beside(RateLimits::server(engine, Clock::System, Asking::Nobody))
    }
}
