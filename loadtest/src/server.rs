//! Servers that are started to be measured, and stopped again.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tollgate::{
    dev::redis::Redis,
    proto::v1::{self, tollgate_service_client::TollgateServiceClient},
};

use crate::{scenarios::TENANTS, target::Target, tenants::write_catalog};

/// How long a server may take until it answers.
const START_MAX: Duration = Duration::from_secs(60);
/// How often a starting server is asked.
const START_POLL: Duration = Duration::from_millis(50);

/// The do-nothing server that the others are compared with.
pub const BASELINE: &str = "do-nothing, handlers inline";

/// What is measured.
#[derive(Clone, Debug)]
pub enum Kind {
    /// This program's do-nothing server, in one of its shapes.
    Noop { shape: &'static str },
    /// One script in Redis for every check, behind the same face.
    Naive,
    /// The sidecar on its own: counters in memory, the journal on disk.
    Sidecar { program: PathBuf, catalog: PathBuf },
}

impl Kind {
    /// Its name in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Noop { shape: "tonic" } => "do-nothing, tonic as it comes",
            Self::Noop { .. } => BASELINE,
            Self::Naive => "naive: a Redis script per check",
            Self::Sidecar { .. } => "tollgate sidecar",
        }
    }
}

/// A running server; it ends when this is dropped.
pub struct Server {
    process: Child,
    /// What it calls, and stops after it.
    redis: Option<Redis>,
    tcp: SocketAddr,
    socket: PathBuf,
    log: PathBuf,
}

impl Server {
    /// Starts a server that keeps its files in `directory`, and waits until it answers.
    pub fn start(kind: &Kind, directory: &Path) -> anyhow::Result<Self> {
        let tcp = free_address()?;
        let socket = directory.join("grpc.sock");
        let log = directory.join("log");
        let redis = matches!(kind, Kind::Naive).then(Redis::scratch).transpose()?;
        let mut command = command(kind, directory, tcp, &socket)?;
        command.args(redis.iter().flat_map(|redis| ["--redis".to_owned(), redis.url()]));
        let output = File::create(&log)?;
        let process = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let mut server = Self { process, redis, tcp, socket, log };
        server.wait_until_it_answers().with_context(|| format!("{} did not start", kind.name()))?;
        Ok(server)
    }

    /// Its process, and that of what it calls.
    pub fn pids(&self) -> Vec<u32> {
        let redis = self.redis.as_ref().and_then(Redis::pid);
        redis.into_iter().chain([self.process.id()]).collect()
    }

    /// Its TCP address.
    pub fn tcp(&self) -> Target {
        Target::Tcp(self.tcp)
    }

    /// Its Unix socket.
    pub fn unix(&self) -> Target {
        Target::Unix(self.socket.clone())
    }

    fn wait_until_it_answers(&mut self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait()? {
                bail!("it ended with {status}: {}", self.last_words());
            }
            match runtime.block_on(ask(self.tcp)) {
                Ok(()) => return Ok(()),
                Err(error) if start.elapsed() > START_MAX => {
                    bail!("it does not answer: {error}: {}", self.last_words())
                }
                Err(_) => std::thread::sleep(START_POLL),
            }
        }
    }

    fn last_words(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone after this.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(
    kind: &Kind,
    directory: &Path,
    tcp: SocketAddr,
    socket: &Path,
) -> anyhow::Result<Command> {
    Ok(match kind {
        Kind::Noop { shape } => {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["noop", "--shape", shape, "--listen", &tcp.to_string()]);
            command.arg("--socket").arg(socket);
            command
        }
        Kind::Naive => {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["naive", "--listen", &tcp.to_string()]).arg("--socket").arg(socket);
            command
        }
        Kind::Sidecar { program, catalog } => {
            let tenants = directory.join("catalog.yaml");
            write_catalog(catalog, &tenants, TENANTS)?;
            let mut command = Command::new(program);
            command.arg("sidecar").arg("--catalog").arg(tenants);
            command.arg("--journal-data-dir").arg(directory.join("data"));
            command.arg("--http-listen").arg(free_address()?.to_string());
            command.arg("--grpc-listen").arg(tcp.to_string());
            command.args(["--access-mode", "open"]);
            command.arg("--grpc-socket").arg(socket);
            command
        }
    })
}

/// An address that was free a moment ago.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

async fn ask(tcp: SocketAddr) -> anyhow::Result<()> {
    let mut client = TollgateServiceClient::connect(format!("http://{tcp}")).await?;
    let request = v1::CheckQuotaRequest {
        tenant: "load-0".into(),
        meter: "tokens".into(),
        amount: Some(1),
        mode: v1::Mode::Check.into(),
        ..Default::default()
    };
    client.check_quota(request).await?;
    Ok(())
}
