//! A sidecar with many tenants.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Scale, touch::touch};
use crate::{
    process::resident_bytes,
    server::{Kind, Server, Sidecar},
};

/// A sidecar that runs, and its files.
pub struct Populated {
    // Before its files: it ends before they go.
    pub server: Server,
    _files: TempDir,
    /// Tenants that it knows.
    pub tenants: usize,
}

impl Populated {
    /// Starts a sidecar that knows `tenants`.
    pub fn start(scale: &Scale, sidecar: Sidecar, tenants: usize) -> anyhow::Result<Self> {
        let files = scale.scratch()?;
        let server = Server::start(&Kind::Sidecar(Sidecar { tenants, ..sidecar }), files.path())?;
        Ok(Self { server, _files: files, tenants })
    }

    /// Uses every tenant's meters once; answers how long that took.
    pub fn touch_all(&self, meters: &[String]) -> anyhow::Result<Duration> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let start = Instant::now();
        runtime.block_on(touch(&self.server, self.tenants, meters))?;
        Ok(start.elapsed())
    }

    /// Bytes that it has resident.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        resident_bytes(self.server.pid())
    }
}
