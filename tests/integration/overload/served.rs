//! A sidecar that runs alone, as a process whose memory can be looked at.

use std::{
    net::SocketAddr,
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use tollgate::proto::v1::Mode;
use tonic::transport::Endpoint;

use crate::{
    fixture::{Processes, get},
    sidecars::cluster::{Client, Sidecar},
};

/// How long what has to happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

const CATALOG: &str = "
catalog: proving
currency: USD
meters:
  - { name: calls, kind: counter, unit: call, period: month }
plans:
  - { name: basic, prices: { monthly: 0 }, limits: { calls: 1000000000 } }
tenants:
  - { id: acme, plan: basic }
  - { id: probe, plan: basic }
";

/// The sidecar and where it listens.
pub struct Served {
    processes: Processes,
    sidecar: Sidecar,
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    _dir: TempDir,
}

impl Served {
    /// Starts it with more flags.
    pub async fn start(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("catalog.yaml"), CATALOG).unwrap();
        let log = std::fs::File::create(path("log")).unwrap();
        let mut command = Processes::tollgate(&["sidecar", "--access-mode", "open"]);
        command
            .args(["--catalog".as_ref(), path("catalog.yaml").as_os_str()])
            .args(["--journal-data-dir".as_ref(), path("data").as_os_str()])
            .args(["--grpc-socket".as_ref(), path("sock").as_os_str()])
            .args(["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
            .args(flags)
            .stderr(Stdio::from(log.try_clone().unwrap()))
            .stdout(Stdio::from(log));
        let processes = Processes::default();
        let sidecar = Sidecar::at(processes.start(&mut command), &path("sock"));
        sidecar.wait_until_serving(&path("log")).await;
        // It is told where it serves right after it does.
        let began = Instant::now();
        let logged = loop {
            let logged = std::fs::read_to_string(path("log")).unwrap();
            if logged.contains(" http=127.0.0.1:") {
                break logged;
            }
            assert!(began.elapsed() < PATIENCE, "{logged}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let at = |face: &str| {
            let (_, rest) = logged.split_once(&format!(" {face}=127.0.0.1:")).unwrap();
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            SocketAddr::from(([127, 0, 0, 1], digits.parse().unwrap()))
        };
        let (grpc, http) = (at("grpc"), at("http"));
        Self { processes, sidecar, grpc, http, _dir: dir }
    }

    /// A client on a connection of its own.
    pub fn client(&self) -> Client {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap();
        Client::new(endpoint.timeout(PATIENCE).connect_lazy())
    }

    /// Waits until somebody else is served, at once unless the machine is busy with other tests.
    pub async fn expect_others_served(&self) {
        let began = Instant::now();
        loop {
            match self.sidecar.check(Mode::Consume, "probe", "calls", 1).await {
                Ok(answer) => {
                    assert!(answer.allowed, "{answer:?}");
                    break;
                }
                Err(status) => assert!(began.elapsed() < PATIENCE, "{status}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.expect_alive();
    }

    /// Fails unless it says that it lives.
    pub fn expect_alive(&self) {
        assert_eq!(self.get("/livez").0, 200);
    }

    /// What it answers over HTTP; asked again when a busy machine was too slow to ask.
    fn get(&self, path: &str) -> (u16, String) {
        let began = Instant::now();
        loop {
            if let Some(answer) = get(self.http, path) {
                return answer;
            }
            assert!(began.elapsed() < PATIENCE, "{path} is not answered");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Resident memory of the process, bytes.
    pub fn memory(&self) -> usize {
        let id = self.sidecar.process.child.id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
        kilobytes << 10
    }

    /// The sum of a metric over its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, metrics) = self.get("/metrics");
        let lines = metrics.lines().filter_map(|line| line.strip_prefix(name));
        let lines = lines.filter(|rest| rest.starts_with([' ', '{']));
        lines.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until a metric is as expected.
    pub async fn wait_until(&self, name: &str, is_so: impl Fn(f64) -> bool) {
        let began = Instant::now();
        while !is_so(self.metric(name)) {
            assert!(began.elapsed() < PATIENCE, "{name} is {}", self.metric(name));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops it in good order: no panic, nothing left over.
    pub fn stop(self) {
        for name in ["tollgate_grpc_handler_panics_total", "tollgate_http_handler_panics_total"] {
            assert!(self.metric(name) < 0.5, "{name}");
        }
        self.sidecar.process.stop();
        drop(self.processes);
    }
}

/// Lets this process open as many files as it may at all; so many.
pub fn open_files_max() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // What is refused stays as it was, which is then what there is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let now = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(now).unwrap_or(usize::MAX)
}
