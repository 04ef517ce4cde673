//! A sidecar with many tenants.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Scale, touch::touch};
use crate::{
    process::resident_bytes,
    server::{Kind, Server, Sidecar},
};

/// Tenants that a sidecar reads of two files today: each may have 250,000 values and 16 MiB.
const FILES_TENANTS_MAX: usize = 99_900;

/// A sidecar that runs, and its files.
pub struct Populated {
    // Before its files: it ends before they go.
    pub server: Server,
    _files: TempDir,
    /// Tenants that it knows.
    pub tenants: usize,
    /// Why it does not know as many as were wanted.
    pub refused: Option<String>,
}

impl Populated {
    /// Starts a sidecar that knows `tenants`, or as many as it takes.
    pub fn start(scale: &Scale, sidecar: Sidecar, tenants: usize) -> anyhow::Result<Self> {
        let files = scale.scratch()?;
        let start = |tenants| {
            let kind = Kind::Sidecar(Sidecar { tenants, ..sidecar.clone() });
            Server::start(&kind, files.path())
        };
        let (server, tenants, refused) = match start(tenants) {
            Ok(server) => (server, tenants, None),
            Err(refusal) if tenants > FILES_TENANTS_MAX => {
                // Its last line says why; what was before it, and where its files are, is of no use.
                let why = refusal.root_cause().to_string();
                let why = why.trim().lines().last().unwrap_or_default();
                let why = why.replace(&format!("{}/", files.path().display()), "");
                (start(FILES_TENANTS_MAX)?, FILES_TENANTS_MAX, Some(why))
            }
            Err(error) => return Err(error),
        };
        Ok(Self { server, _files: files, tenants, refused })
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
