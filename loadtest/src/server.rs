//! Servers that are started to be measured, and stopped again.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tollgate::{
    dev::redis::Redis,
    proto::v1::{self, tollgate_service_client::TollgateServiceClient},
};

use crate::{
    calls::Call,
    noop::Shape,
    scenarios::{Peer, Scenario, TENANTS},
    target::Target,
    tenants::write_files,
};

/// How long a server may take until it answers.
const START_MAX: Duration = Duration::from_secs(120);
/// How often a starting server is asked.
const START_POLL: Duration = Duration::from_millis(5);

/// The do-nothing server that the others are compared with.
pub const BASELINE: &str = "do-nothing, tonic inline";

/// What is measured.
#[derive(Clone, Debug)]
pub enum Kind {
    /// This program's do-nothing server, in one of its shapes.
    Noop { shape: Shape },
    /// One script in Redis for every check, behind the same face.
    Naive,
    /// Somebody else's server of rates, in memory, by gRPC.
    Throttlecrab { program: PathBuf },
    /// The sidecar on its own: counters in memory, the journal on disk.
    Sidecar(Sidecar),
    /// The sidecar on a Postgres and a Redis.
    Shared { program: PathBuf, ledger_url: String, redis_url: String },
}

/// A sidecar on its own.
#[derive(Clone, Debug)]
pub struct Sidecar {
    pub program: PathBuf,
    /// Whose plan `load` all tenants are on.
    pub catalog: PathBuf,
    pub tenants: usize,
    /// More arguments.
    pub settings: Vec<String>,
    /// More variables of its environment.
    pub environment: Vec<(&'static str, &'static str)>,
}

impl Sidecar {
    /// With the tenants of most scenarios, and as it comes.
    pub fn new(program: PathBuf, catalog: PathBuf) -> Self {
        Self { program, catalog, tenants: TENANTS, settings: vec![], environment: vec![] }
    }
}

impl Kind {
    /// Its name in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Noop { shape: Shape::Tonic } => "do-nothing, tonic as it comes",
            Self::Noop { shape: Shape::TonicInline } => BASELINE,
            Self::Noop { shape: Shape::Face } => "do-nothing, the sidecar's face",
            Self::Naive => "naive: a Redis script per check",
            Self::Throttlecrab { .. } => "throttlecrab, gRPC",
            Self::Sidecar(_) | Self::Shared { .. } => "tollgate sidecar",
        }
    }

    /// Whether it can be asked this.
    pub fn suits(&self, scenario: &Scenario) -> bool {
        match self {
            Self::Noop { .. } | Self::Sidecar(_) | Self::Shared { .. } => true,
            Self::Naive => scenario.peers.contains(&Peer::Naive),
            Self::Throttlecrab { .. } => scenario.peers.contains(&Peer::Throttlecrab),
        }
    }

    /// What it is called for the same thing.
    pub fn call(&self, call: Call) -> Call {
        match (self, call) {
            (Self::Throttlecrab { .. }, Call::Rate) => Call::Throttle,
            _ => call,
        }
    }

    /// A tenant that it answers for as soon as it answers for any.
    fn last_tenant(&self) -> String {
        let tenants = match self {
            Self::Sidecar(sidecar) => sidecar.tenants,
            // Its Postgres may have no more than one.
            Self::Shared { .. } => 1,
            _ => TENANTS,
        };
        format!("load-{}", tenants.saturating_sub(1))
    }
}

/// A running server; it ends when this is dropped.
pub struct Server {
    process: Child,
    /// What it calls, and stops after it.
    redis: Option<Redis>,
    tcp: SocketAddr,
    /// Where a sidecar shows its metrics.
    http: SocketAddr,
    socket: PathBuf,
    log: PathBuf,
    /// From the start of its process to its first right answer.
    pub answered_after: Duration,
}

impl Server {
    /// Starts a server that keeps its files in `directory`, and waits until it answers.
    pub fn start(kind: &Kind, directory: &Path) -> anyhow::Result<Self> {
        let (tcp, http) = (free_address()?, free_address()?);
        let socket = directory.join("grpc.sock");
        let log = directory.join("log");
        let redis = matches!(kind, Kind::Naive).then(Redis::scratch).transpose()?;
        let mut command = command(kind, directory, tcp, http, &socket)?;
        command.args(redis.iter().flat_map(|redis| ["--redis".to_owned(), redis.url()]));
        let output = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let start = Instant::now();
        let process = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let answered_after = Duration::ZERO;
        let mut server = Self { process, redis, tcp, http, socket, log, answered_after };
        server
            .wait_until_it_answers(kind, start)
            .with_context(|| format!("{} did not start", kind.name()))?;
        server.answered_after = start.elapsed();
        Ok(server)
    }

    /// Its process, and that of what it calls.
    pub fn pids(&self) -> Vec<u32> {
        let redis = self.redis.as_ref().and_then(Redis::pid);
        redis.into_iter().chain([self.pid()]).collect()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its TCP address.
    pub fn tcp(&self) -> Target {
        Target::Tcp(self.tcp)
    }

    /// Its Unix socket.
    pub fn unix(&self) -> Target {
        Target::Unix(self.socket.clone())
    }

    /// A client of its API.
    pub async fn client(&self) -> anyhow::Result<Client> {
        Ok(TollgateServiceClient::connect(format!("http://{}", self.tcp)).await?)
    }

    /// Where it shows its metrics, if it is a sidecar.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    fn wait_until_it_answers(&mut self, kind: &Kind, start: Instant) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        loop {
            if let Some(status) = self.process.try_wait()? {
                bail!("it ended with {status}: {}", self.last_words());
            }
            let answer = match kind {
                // It speaks another language, and listens only when all is there.
                Kind::Throttlecrab { .. } => {
                    TcpStream::connect(self.tcp).map_err(Into::into).map(drop)
                }
                _ => runtime.block_on(self.ask(kind.last_tenant())),
            };
            match answer {
                Ok(()) => return Ok(()),
                Err(error) if start.elapsed() > START_MAX => {
                    bail!("it does not answer: {error}: {}", self.last_words())
                }
                Err(_) => std::thread::sleep(START_POLL),
            }
        }
    }

    async fn ask(&self, tenant: String) -> anyhow::Result<()> {
        let request = v1::CheckQuotaRequest {
            tenant,
            meter: "tokens".into(),
            amount: Some(1),
            mode: v1::Mode::Check.into(),
            ..Default::default()
        };
        let answer = self.client().await?.check_quota(request).await?;
        if !answer.get_ref().allowed {
            bail!("it denies what is allowed: {answer:?}");
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Calls a server.
pub type Client = TollgateServiceClient<tonic::transport::Channel>;

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
    http: SocketAddr,
    socket: &Path,
) -> anyhow::Result<Command> {
    Ok(match kind {
        Kind::Noop { shape } => {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["noop", "--shape", shape.name(), "--listen", &tcp.to_string()]);
            command.arg("--socket").arg(socket);
            command
        }
        Kind::Naive => {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["naive", "--listen", &tcp.to_string()]).arg("--socket").arg(socket);
            command
        }
        Kind::Throttlecrab { program } => {
            let mut command = Command::new(program);
            command.args(["--grpc", "--grpc-host", &tcp.ip().to_string()]);
            command.args(["--grpc-port", &tcp.port().to_string(), "--log-level", "warn"]);
            command
        }
        Kind::Sidecar(sidecar) => {
            let files = write_files(&sidecar.catalog, directory, sidecar.tenants)?;
            let mut command = start_of(&sidecar.program, directory, (tcp, http), socket);
            command.arg("--catalog").arg(files.catalog);
            command.arg("--tenants").arg(files.tenants);
            command.args(&sidecar.settings).envs(sidecar.environment.iter().copied());
            command
        }
        Kind::Shared { program, ledger_url, redis_url } => {
            let mut command = start_of(program, directory, (tcp, http), socket);
            command.args(["--ledger-url", ledger_url, "--redis-url", redis_url]);
            command
        }
    })
}

/// What every sidecar is started with.
fn start_of(
    program: &Path,
    directory: &Path,
    (grpc, http): (SocketAddr, SocketAddr),
    socket: &Path,
) -> Command {
    let mut command = Command::new(program);
    command.arg("sidecar").arg("--journal-data-dir").arg(directory.join("data"));
    command.arg("--http-listen").arg(http.to_string());
    command.arg("--grpc-listen").arg(grpc.to_string());
    command.args(["--access-mode", "open"]);
    command.arg("--grpc-socket").arg(socket);
    command
}

/// The program `tollgate`: the one that is given, or the one beside this program.
pub fn program(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let program = match given {
        Some(program) => program.to_owned(),
        None => std::env::current_exe()?.with_file_name("tollgate"),
    };
    if !program.exists() {
        bail!("{} does not exist; build it or give --sidecar", program.display());
    }
    Ok(program)
}

/// An address that was free a moment ago.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
