//! A sidecar on private stores: started, asked, stopped and killed.

use std::{
    fs::OpenOptions,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tollgate::proto::v1::{
    self, CheckQuotaRequest, CheckQuotaResponse, tollgate_service_client::TollgateServiceClient,
};
use tonic::transport::{Channel, Endpoint};

use crate::{server::free_address, target::Target};

/// How long a sidecar may take until it answers: one that was killed reads its journal first.
const START_MAX: Duration = Duration::from_secs(600);
/// How long it may take to stop in good order; it flushes what is left and closes its run.
const STOP_MAX: Duration = Duration::from_secs(60);
/// How often it is looked at meanwhile. Short beside all times that are told.
const LOOK: Duration = Duration::from_millis(5);

/// What speaks to a sidecar.
pub type Client = TollgateServiceClient<Channel>;

/// How a sidecar is started.
#[derive(Clone, Debug)]
pub struct Setup {
    pub program: PathBuf,
    /// Its journal, beside which it logs; kept from one start to the next.
    pub data_dir: PathBuf,
    pub ledger_url: String,
    pub redis_url: String,
    /// Settings beside those, as its flags have them.
    pub settings: Vec<(&'static str, String)>,
}

/// A running sidecar; it is killed when this is dropped.
pub struct Sidecar {
    process: Child,
    grpc: SocketAddr,
    log: PathBuf,
}

impl Sidecar {
    /// Starts one, and does not wait for anything.
    pub fn start(setup: &Setup) -> anyhow::Result<Self> {
        let grpc = free_address()?;
        let log = setup.data_dir.with_extension("log");
        let output = OpenOptions::new().create(true).append(true).open(&log)?;
        let mut command = Command::new(&setup.program);
        command.arg("sidecar").arg("--journal-data-dir").arg(&setup.data_dir);
        command.args(["--ledger-url", &setup.ledger_url, "--redis-url", &setup.redis_url]);
        command.args(["--grpc-listen", &grpc.to_string(), "--http-listen", "127.0.0.1:0"]);
        command.args(["--access-mode", "open"]);
        command.args(setup.settings.iter().flat_map(|(flag, value)| [*flag, value.as_str()]));
        let process = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", setup.program.display()))?;
        Ok(Self { process, grpc, log })
    }

    /// Starts one, and waits until it gives the answer that `is_right` to `request`.
    pub async fn serving(
        setup: &Setup,
        request: &CheckQuotaRequest,
        is_right: impl Fn(&CheckQuotaResponse) -> bool,
    ) -> anyhow::Result<Self> {
        let mut sidecar = Self::start(setup)?;
        sidecar.until(request, is_right).await?;
        Ok(sidecar)
    }

    /// Asks until the answer `is_right`.
    pub async fn until(
        &mut self,
        request: &CheckQuotaRequest,
        is_right: impl Fn(&CheckQuotaResponse) -> bool,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut client = self.client()?;
        loop {
            let answer = client.check_quota(request.clone()).await;
            if answer.as_ref().is_ok_and(|answer| is_right(answer.get_ref())) {
                return Ok(());
            }
            if let Some(status) = self.process.try_wait()? {
                bail!("the sidecar ended with {status}: {}", self.last_words());
            }
            if started.elapsed() > START_MAX {
                bail!("no right answer: {answer:?}: {}", self.last_words());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A client that connects when it is first used.
    pub fn client(&self) -> anyhow::Result<Client> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc))?;
        Ok(Client::new(endpoint.connect_lazy()))
    }

    /// Where it serves.
    pub fn target(&self) -> Target {
        Target::Tcp(self.grpc)
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Stops it in good order, and waits until it has.
    pub fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.process), Signal::TERM)?;
        let asked = Instant::now();
        loop {
            match self.process.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the sidecar stopped with {status}: {}", self.last_words()),
                None if asked.elapsed() > STOP_MAX => bail!("the sidecar does not stop"),
                None => std::thread::sleep(LOOK),
            }
        }
    }

    /// As `kill -9` does.
    pub fn kill(self) {
        drop(self);
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(10).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone after this.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A check that only looks, or one that takes.
pub fn quota(mode: v1::Mode, tenant: &str, meter: &str) -> CheckQuotaRequest {
    CheckQuotaRequest {
        tenant: tenant.to_owned(),
        meter: meter.to_owned(),
        amount: Some(1),
        mode: mode.into(),
        ..Default::default()
    }
}

/// What the segments of all runs in `data_dir` take on disk, bytes.
pub fn journal_bytes(data_dir: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for run in std::fs::read_dir(data_dir.join("runs"))? {
        for file in std::fs::read_dir(run?.path())? {
            bytes += file?.metadata()?.len();
        }
    }
    Ok(bytes)
}
