//! All settings, one section per part of the house.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    api::{access::config::AccessConfig, tls::TlsConfig},
    domain::invalid::Invalid,
    enforcement::config::EnforcementConfig,
    grpc::config::GrpcConfig,
    http::config::HttpConfig,
    jobs::config::JobsConfig,
    journal::config::JournalConfig,
    ledger::config::LedgerConfig,
    store::config::RedisConfig,
    telemetry::logging::LogConfig,
};

/// The address of the worker's HTTP face, so that it and a sidecar can live on one machine.
const WORKER_HTTP_LISTEN: ([u8; 4], u16) = ([127, 0, 0, 1], 7432);

/// All settings of all processes. A process reads the sections of the parts that it runs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What is logged, and how.
    pub log: LogConfig,
    /// The sidecar's gRPC face.
    pub grpc: GrpcConfig,
    /// The sidecar's HTTP face: calls as JSON, liveness, readiness, metrics.
    pub http: HttpConfig,
    /// Who may call a sidecar over TCP.
    pub access: AccessConfig,
    /// TLS of the TCP ports; a Unix socket needs none.
    pub tls: TlsConfig,
    /// How checks are answered and usage is taken in.
    pub enforcement: EnforcementConfig,
    /// The sidecar's journal on disk.
    pub journal: JournalConfig,
    /// Redis. Without a URL a sidecar counts alone, in its own memory.
    pub redis: RedisConfig,
    /// Postgres. Without a URL a sidecar runs from a catalog file alone.
    pub ledger: LedgerConfig,
    /// The worker's HTTP face: liveness, readiness, metrics.
    pub worker_http: HttpConfig,
    /// The worker's jobs.
    pub jobs: JobsConfig,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            log: LogConfig::default(),
            grpc: GrpcConfig::default(),
            http: HttpConfig::default(),
            access: AccessConfig::default(),
            tls: TlsConfig::default(),
            enforcement: EnforcementConfig::default(),
            journal: JournalConfig::default(),
            redis: RedisConfig::default(),
            ledger: LedgerConfig::default(),
            worker_http: HttpConfig::at(WORKER_HTTP_LISTEN.into()),
            jobs: JobsConfig::default(),
        }
    }
}

impl Settings {
    /// Checks every section against its bounds and returns all problems.
    pub fn problems(&self) -> Vec<Invalid> {
        let mut problems = Vec::new();
        let mut note = |section: &str, checked: Result<(), Invalid>| {
            if let Err(invalid) = checked {
                let is_named = invalid.field.starts_with(&format!("{section}."));
                problems.push(if is_named { invalid } else { invalid.within(section) });
            }
        };
        note("log", self.log.check());
        note("grpc", self.grpc.check());
        note("http", self.http.check());
        note("access", self.access.check());
        note("tls", self.tls.check());
        note("journal", self.journal.check());
        if !self.redis.url.is_empty() {
            note("redis", self.redis.check());
        }
        if !self.ledger.url.is_empty() {
            note("ledger", self.ledger.check());
        }
        note("enforcement", self.enforcement.check());
        note("worker_http", self.worker_http.check());
        note("jobs", self.jobs.check());
        problems
    }
}
