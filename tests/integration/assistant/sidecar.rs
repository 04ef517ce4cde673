//! A sidecar by itself with the shipped catalog and a tenant on each of its plans.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tollgate::proto::v1::tollgate_service_client::TollgateServiceClient;
use tonic::transport::{Channel, Endpoint};

use crate::fixture::{Process, Processes};

/// How long the sidecar may take to serve.
const START_MAX: Duration = Duration::from_secs(40);

/// The plans, the lowest first; each has a tenant of its name.
pub const PLANS: [&str; 5] = ["free", "starter", "pro", "business", "enterprise"];

pub struct AssistantSidecar {
    /// First, so that it is checked while the directory still stands.
    processes: Processes,
    process: Process,
    dir: TempDir,
    pub grpc: TollgateServiceClient<Channel>,
    pub http: SocketAddr,
}

impl AssistantSidecar {
    /// Starts it and waits until it serves.
    pub async fn start() -> Self {
        let processes = Processes::default();
        let dir = tempfile::tempdir().unwrap();
        let tenants = PLANS.map(|plan| format!("  - {{ id: {plan}, plan: {plan} }}\n")).concat();
        let tenants_file = dir.path().join("tenants.yaml");
        std::fs::write(&tenants_file, format!("catalog: assistant\ntenants:\n{tenants}")).unwrap();
        let catalog = format!("{}/deploy/catalogs/assistant.yaml", env!("CARGO_MANIFEST_DIR"));
        let log = dir.path().join("log");
        let to_log = std::fs::File::create(&log).unwrap();
        let socket = dir.path().join("sock");
        let mut command = Processes::tollgate(&["sidecar", "--catalog", &catalog]);
        command
            .args(["--tenants".as_ref(), tenants_file.as_os_str()])
            .args(["--journal-data-dir".as_ref(), dir.path().join("data").as_os_str()])
            .args(["--grpc-socket".as_ref(), socket.as_os_str()])
            .args(["--access-mode", "open"])
            .args(["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
            .stderr(Stdio::from(to_log.try_clone().unwrap()))
            .stdout(Stdio::from(to_log));
        let process = processes.start(&mut command);
        let http = serving_at(&log).await;
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
        let channel = endpoint.timeout(Duration::from_secs(30)).connect_lazy();
        let grpc = TollgateServiceClient::new(channel);
        Self { processes, process, dir, grpc, http }
    }

    /// Stops it in good order.
    pub fn stop(self) {
        self.process.stop();
        drop((self.processes, self.dir));
    }
}

/// Where it serves HTTP, as its log says once it does.
async fn serving_at(log: &PathBuf) -> SocketAddr {
    let started = Instant::now();
    loop {
        let logged = std::fs::read_to_string(log).unwrap_or_default();
        let serving =
            logged.lines().rfind(|line| line.contains("serving") && line.contains("http"));
        if let Some((_, port)) = serving.and_then(|line| line.rsplit_once("127.0.0.1:")) {
            return ([127, 0, 0, 1], port.trim().parse().unwrap()).into();
        }
        assert!(started.elapsed() < START_MAX, "not serving:\n{logged}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
