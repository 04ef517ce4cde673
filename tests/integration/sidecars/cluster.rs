//! Sidecars as real processes, on one Redis and one Postgres.
#![allow(dead_code)] // Each test uses a part of it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tollgate::{
    dev::{Postgres, Redis},
    domain::{cell_key::CellKey, ids::TenantId},
    proto::v1::{
        CheckQuotaRequest, CheckQuotaResponse, GetUsageRequest, MeterUsage, Mode, QuotaReason,
        RecordUsageRequest, RecordUsageResponse, UsageEvent,
        tollgate_service_client::TollgateServiceClient,
    },
    store::{RedisConfig, RedisCounters, inspect::Inspection},
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::{
    fixture::{Database, Process, Processes, get, start_redis},
    overages::world::World,
};

/// How long a sidecar may take to answer its first check.
const START_MAX: Duration = Duration::from_secs(40);
/// How long usage may take to settle everywhere once all is quiet.
const QUIET_MAX: Duration = Duration::from_secs(30);

/// A tenant and a hard-limited meter that tell whether a sidecar can lease.
const PROBE: (&str, &str) = ("probe", "calls");

pub type Client = TollgateServiceClient<Channel>;

/// Stores, and the sidecars on them.
pub struct Cluster {
    /// First, so that it is checked while the stores still stand.
    pub processes: Processes,
    pub world: World,
    pub redis: Redis,
    counters: RedisCounters,
    dir: TempDir,
    flags: Vec<String>,
    is_without_redis: bool,
    access_mode: &'static str,
}

/// One sidecar's process.
pub struct Sidecar {
    pub process: Process,
    pub client: Client,
    pub endpoint: String,
}

impl Cluster {
    /// Stores with a catalog in force.
    pub async fn with_catalog(name: &str, text: &str) -> Self {
        Self::of(World::with_catalog_text(name, text).await).await
    }

    /// As [`Cluster::with_catalog`], with a Postgres that can be stopped.
    pub async fn with_own_postgres(name: &str, text: &str) -> (Self, Postgres) {
        let (database, postgres) = Database::with_server().await;
        (Self::of(World::on(database, name, text).await).await, postgres)
    }

    async fn of(world: World) -> Self {
        world.close_own_run().await;
        let redis = start_redis().await;
        world.tenant(PROBE.0, "basic").await;
        Self {
            processes: Processes::default(),
            world,
            counters: RedisCounters::new(RedisConfig { url: redis.url(), ..Default::default() })
                .unwrap(),
            redis,
            dir: tempfile::tempdir().unwrap(),
            flags: vec![],
            is_without_redis: false,
            access_mode: "open",
        }
    }

    /// Gives every sidecar that is started from now on this flag.
    pub fn flag(&mut self, flag: &str, value: &str) {
        self.flags.extend([flag.to_owned(), value.to_owned()]);
    }

    /// Lets nobody in without a token, over TCP, from now on.
    pub fn with_tokens(&mut self) {
        self.access_mode = "tokens";
    }

    /// Makes a token; the secret.
    pub fn token(&self, name: &str, flags: &[&str]) -> String {
        self.operate(&[&["token", "create", name], flags].concat()).trim().to_owned()
    }

    /// Where the sidecar of this name listens, `grpc` or `http`, once it serves.
    pub fn address(&self, name: &str, face: &str) -> std::net::SocketAddr {
        let log = self.logged(name);
        let serving = log.lines().rfind(|line| line.contains("serving") && line.contains("http"));
        let at = serving.and_then(|line| line.split(&format!("{face}=127.0.0.1:")).nth(1));
        let port = at.unwrap_or_else(|| panic!("no {face} in {serving:?}"));
        let digits: String = port.chars().take_while(char::is_ascii_digit).collect();
        ([127, 0, 0, 1], digits.parse().unwrap()).into()
    }

    /// Tells no sidecar that is started from now on of the Redis.
    pub fn without_redis(&mut self, is_without: bool) {
        self.is_without_redis = is_without;
    }

    /// Runs one of the operator's commands, which must succeed; what it printed.
    pub fn operate(&self, arguments: &[&str]) -> String {
        let mut command = Processes::tollgate(arguments);
        command.env("TOLLGATE_LEDGER_URL", &self.world.url).env("TOLLGATE_ACTOR", "tester");
        command.env("TOLLGATE_REDIS_URL", self.redis.url());
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs one of the operator's commands, which must be refused; what it said.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let mut command = Processes::tollgate(arguments);
        command.env("TOLLGATE_LEDGER_URL", &self.world.url).env("TOLLGATE_ACTOR", "tester");
        if !self.is_without_redis {
            command.env("TOLLGATE_REDIS_URL", self.redis.url());
        }
        let output = command.output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Where the sidecar of this name keeps its data.
    pub fn data_dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the sidecar of this name; a second start finds the data of the first.
    pub async fn start(&self, name: &str) -> Sidecar {
        let sidecar = self.start_unready(name);
        sidecar.wait_until_serving(&self.log(name)).await;
        sidecar
    }

    /// As [`Self::start`], without waiting until it can lease.
    pub fn start_unready(&self, name: &str) -> Sidecar {
        let socket = self.dir.path().join(format!("{name}.sock"));
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join(format!("{name}.log")))
            .unwrap();
        let mut command = Processes::tollgate(&["sidecar"]);
        command
            .args(["--journal-data-dir".as_ref(), self.data_dir(name).as_os_str()])
            .args(["--grpc-socket".as_ref(), socket.as_os_str()])
            .args(["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
            .args(["--ledger-url", &self.world.url, "--access-mode", self.access_mode])
            // On a machine that is busy with other tests a sidecar answers a recall late, and Redis a
            // call: a denial that did not wait for them proves nothing. Flags go before.
            .env("TOLLGATE_ENFORCEMENT_RECALL_WAIT_MS", "1000")
            .env("TOLLGATE_REDIS_CALL_TIMEOUT_MS", "5000")
            .args(&self.flags)
            .stderr(Stdio::from(log.try_clone().unwrap()))
            .stdout(Stdio::from(log));
        if !self.is_without_redis {
            command.args(["--redis-url", &self.redis.url()]);
        }
        Sidecar::at(self.processes.start(&mut command), &socket)
    }

    /// Where the sidecar of this name logs.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    /// What the sidecar of this name has logged.
    pub fn logged(&self, name: &str) -> String {
        std::fs::read_to_string(self.log(name)).unwrap_or_default()
    }

    /// What the sidecar of this name answers over HTTP, once it serves.
    pub fn get(&self, name: &str, path: &str) -> String {
        let log = self.logged(name);
        let serving = log.lines().rfind(|line| line.contains("serving") && line.contains("http"));
        let (_, port) = serving.unwrap().rsplit_once("127.0.0.1:").unwrap();
        let port: u16 = port.trim().parse().unwrap();
        get(([127, 0, 0, 1], port).into(), path).unwrap().1
    }

    /// Waits until the ledger has `used` units of `key`, and fails if it ends elsewhere.
    pub async fn wait_until_ledger_has(&self, key: &CellKey, used: i64) {
        let started = Instant::now();
        loop {
            let totals = self.world.ledger.window_totals(std::slice::from_ref(key)).await.unwrap();
            let now = totals[0].as_ref().map_or(0, |totals| totals.used);
            if now == used {
                return;
            }
            assert!(started.elapsed() < QUIET_MAX, "{key}: the ledger has {now}, not {used}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Cluster {
    /// A connection to Redis, for what no sidecar does.
    pub fn redis_connection(&self) -> redis::Connection {
        redis::Client::open(self.redis.url()).unwrap().get_connection().unwrap()
    }

    /// A counter in Redis, if it is there.
    pub async fn inspect(&self, key: &CellKey) -> Option<Inspection> {
        self.counters.inspect(key).await.unwrap()
    }

    /// Waits until `used` units of `key` are in Redis, and fails if it ends elsewhere.
    pub async fn wait_until_redis_has(&self, key: &CellKey, used: i64) {
        let started = Instant::now();
        loop {
            let now = self.inspect(key).await;
            if now.as_ref().is_some_and(|counter| counter.used == used) {
                return;
            }
            assert!(started.elapsed() < QUIET_MAX, "{key}: Redis has {now:?}, not {used}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Sidecar {
    /// The sidecar of that process, which listens or is about to.
    pub fn at(process: Process, socket: &Path) -> Self {
        let endpoint = format!("unix://{}", socket.display());
        let channel = Endpoint::from_shared(endpoint.clone())
            .unwrap()
            .timeout(Duration::from_secs(30))
            .connect_lazy();
        Self { process, client: Client::new(channel), endpoint }
    }

    /// Until it answers from the shared counters.
    pub async fn wait_until_serving(&self, log: &Path) {
        let started = Instant::now();
        let mut latest = None;
        loop {
            match self.check(Mode::Consume, PROBE.0, PROBE.1, 1).await {
                Ok(answer) if answer.allowed => return,
                other => latest = Some(other).or(latest),
            }
            let logged = || std::fs::read_to_string(log).unwrap_or_default();
            assert!(started.elapsed() < START_MAX, "not serving: {latest:?}\n{}", logged());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// One CheckQuota.
    pub async fn check(
        &self,
        mode: Mode,
        tenant: &str,
        meter: &str,
        amount: i64,
    ) -> Result<CheckQuotaResponse, Status> {
        let request = quota(mode, tenant, meter, amount);
        Ok(self.client.clone().check_quota(request).await?.into_inner())
    }

    /// Consumes until not a single unit is left; the units admitted. Fails if denials go on having
    /// another reason: they would prove nothing. The outage policy may decide while a counter is found.
    pub async fn spend_all(&self, tenant: &str, meter: &str) -> i64 {
        let (mut admitted, started) = (0, Instant::now());
        for amount in [1_000, 100, 10, 1] {
            loop {
                let answer = self.check(Mode::Consume, tenant, meter, amount).await.unwrap();
                let is_undecided = answer.reason() == QuotaReason::DeniedByOutagePolicy;
                if is_undecided && started.elapsed() < START_MAX {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
                if !answer.allowed {
                    assert_eq!(answer.reason(), QuotaReason::LimitExceeded, "{answer:?}");
                    break;
                }
                admitted += amount;
            }
        }
        admitted
    }

    /// One RecordUsage at the default durability.
    pub async fn record(&self, events: Vec<UsageEvent>) -> Result<RecordUsageResponse, Status> {
        let request = RecordUsageRequest { events, ..Default::default() };
        Ok(self.client.clone().record_usage(request).await?.into_inner())
    }

    /// One meter of GetUsage.
    pub async fn usage(&self, tenant: &str, meter: &str) -> MeterUsage {
        let request = GetUsageRequest {
            tenant: tenant.into(),
            meters: vec![meter.into()],
            ..Default::default()
        };
        let response = self.client.clone().get_usage(request).await.unwrap().into_inner();
        response.meters.into_iter().next().unwrap()
    }

    /// Waits until GetUsage says `used`, and fails if it ends elsewhere.
    pub async fn wait_until_used(&self, tenant: &str, meter: &str, used: i64) {
        let started = Instant::now();
        loop {
            let now = self.usage(tenant, meter).await;
            if now.used == used && now.unsettled == 0 {
                return;
            }
            assert!(started.elapsed() < QUIET_MAX, "{tenant}/{meter}: {now:?}, not {used}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A CheckQuota without a key.
pub fn quota(mode: Mode, tenant: &str, meter: &str, amount: i64) -> CheckQuotaRequest {
    CheckQuotaRequest {
        tenant: tenant.into(),
        meter: meter.into(),
        amount: Some(amount),
        mode: mode.into(),
        ..Default::default()
    }
}

/// An event with a key; an empty one is none.
pub fn event(tenant: &str, meter: &str, amount: i64, key: &str) -> UsageEvent {
    UsageEvent {
        tenant: tenant.into(),
        meter: meter.into(),
        amount: Some(amount),
        idempotency_key: key.into(),
        ..Default::default()
    }
}

/// The key of a tenant's counter in the window that holds now.
pub async fn current_key(world: &World, tenant: &str, meter: &str) -> CellKey {
    let tenant = TenantId::new(tenant).unwrap();
    let found = world.ledger.tenant(&tenant).await.unwrap().unwrap().tenant;
    let definition = world.ledger.plan_definition(&found.subscription.plan).await.unwrap().unwrap();
    let plan =
        tollgate::domain::catalog::compiled_plan::CompiledPlan::from_json(&definition).unwrap();
    let meter = plan.meter(meter).unwrap();
    #[allow(clippy::disallowed_methods)] // The sidecars ask the real clock too.
    let now = found.now(jiff::Timestamp::now());
    let window = found.subscription.schedule.window(meter.limit.period, now);
    CellKey { tenant, meter: meter.meter.name.clone(), subject: None, label: window.label }
}

impl Drop for Cluster {
    /// A failed test shows what its sidecars had to say.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for entry in std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
                eprintln!("--- {}\n{log}", entry.path().display());
            }
        }
    }
}
