//! The processes that suffer, and the ways between them.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::task::block_in_place;
use tollgate::{
    dev::{Postgres, Redis},
    store::{RedisConfig, RedisCounters},
};
use tonic::transport::Endpoint;

use super::{
    program::Program,
    proxy::{Mode, Proxy},
};
use crate::{
    fixture::{Database, Processes, get},
    overages::world::World,
    sidecars::cluster::Client,
};

pub const CATALOG: &str = include_str!("catalog.yaml");
/// How long a client waits for an answer before it calls its fate unknown.
pub const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// How long Postgres may take to start after it was killed.
const POSTGRES_START_MAX: Duration = Duration::from_secs(60);

/// One sidecar, with a way of its own to each store and from its clients.
pub struct Sidecar {
    pub program: Program,
    pub to_redis: Proxy,
    pub to_postgres: Proxy,
    pub from_clients: Proxy,
}

/// Everything of one round.
pub struct Stage {
    /// First, so that it is checked while the stores still stand.
    pub processes: Processes,
    pub world: World,
    pub sidecars: Vec<Sidecar>,
    pub worker: Program,
    pub worker_to_postgres: Proxy,
    /// Each guards who stops and starts the server; held while that takes.
    redis: Mutex<Redis>,
    postgres: Mutex<Postgres>,
    redis_url: String,
    dir: TempDir,
}

impl Stage {
    /// Stores with a catalog in force, and sidecars, with these settings beside those of all rounds,
    /// and a worker that are not started yet.
    pub async fn set(sidecars: usize, settings: &[(&'static str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("tollgate-torture-").tempdir().unwrap();
        // A server that root starts runs as somebody else, who has to get in.
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), everybody).unwrap();
        let (database, postgres) = Database::with_server().await;
        let database_name = database_name(&database.url).to_owned();
        let redis = block_in_place(|| Redis::lasting(&dir.path().join("redis"))).unwrap();
        let (postgres_socket, redis_socket) =
            (postgres.dir().join(".s.PGSQL.5432"), redis.dir().join("redis.sock"));
        let world = World::on(database, "torture", CATALOG).await;
        world.close_own_run().await;
        let ledger_url = |proxy: &Proxy| {
            format!("postgres://tollgate@{}/{database_name}?sslmode=disable", proxy.address)
        };
        let mut made = vec![];
        for number in 0..sidecars {
            let name = format!("sidecar-{number}");
            let to_redis = Proxy::to(&redis_socket).await;
            let to_postgres = Proxy::to(&postgres_socket).await;
            let socket = dir.path().join(format!("{name}.sock"));
            let mut arguments = vec![
                ("--journal-data-dir", dir.path().join(&name).display().to_string()),
                ("--grpc-socket", socket.display().to_string()),
                ("--grpc-listen", "127.0.0.1:0".to_owned()),
                ("--http-listen", "127.0.0.1:0".to_owned()),
                ("--ledger-url", ledger_url(&to_postgres)),
                ("--redis-url", format!("redis://{}", to_redis.address)),
                ("--access-mode", "open".to_owned()),
            ];
            arguments.extend(settings.iter().map(|(flag, value)| (*flag, (*value).to_owned())));
            let log = dir.path().join(format!("{name}.log"));
            made.push(Sidecar {
                program: Program::new(name, log, move || command("sidecar", &arguments)),
                to_redis,
                to_postgres,
                from_clients: Proxy::to(&socket).await,
            });
        }
        let worker_to_postgres = Proxy::to(&postgres_socket).await;
        let every_minute = "* * * * *".to_owned();
        let arguments = [
            ("--ledger-url", ledger_url(&worker_to_postgres)),
            ("--worker-http-listen", "127.0.0.1:0".to_owned()),
            ("--jobs-overages", every_minute.clone()),
            ("--jobs-rollover", every_minute.clone()),
            ("--jobs-cleanup", every_minute),
        ];
        let log = dir.path().join("worker.log");
        Self {
            processes: Processes::default(),
            world,
            sidecars: made,
            worker: Program::new("worker".into(), log, move || command("worker", &arguments)),
            worker_to_postgres,
            redis_url: redis.url(),
            redis: Mutex::new(redis),
            postgres: Mutex::new(postgres),
            dir,
        }
    }

    /// Where everything of the round is.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Keeps the directory when the round is over.
    pub fn keep_dir(&mut self) {
        self.dir.disable_cleanup(true);
    }

    /// All programs of ours.
    pub fn programs(&self) -> impl Iterator<Item = &Program> {
        self.sidecars.iter().map(|sidecar| &sidecar.program).chain([&self.worker])
    }

    /// Starts what does not run.
    pub fn start_programs(&self) {
        self.programs().for_each(|program| program.start(&self.processes));
    }

    /// A client of the sidecar with this number, by the way of clients, that waits so long for an
    /// answer.
    pub fn client(&self, number: usize, wait: Duration) -> Client {
        let address = self.sidecars[number].from_clients.address;
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .connect_timeout(wait)
            .timeout(wait)
            .http2_keep_alive_interval(wait)
            .keep_alive_timeout(wait)
            .connect_lazy();
        Client::new(channel)
    }

    /// What `/readyz` of the sidecar with this number answers; `None` while nobody does.
    pub fn readiness(&self, number: usize) -> Option<serde_json::Value> {
        let address: SocketAddr = self.last_logged(number, "http=")?.parse().ok()?;
        let (_, body) = block_in_place(|| get(address, "/readyz"))?;
        serde_json::from_str(&body).ok()
    }

    /// The latest run of the sidecar with this number.
    pub fn run_of(&self, number: usize) -> Option<String> {
        self.last_logged(number, "run=")
    }

    /// What a sidecar logged of itself when it last began to serve.
    fn last_logged(&self, number: usize, what: &str) -> Option<String> {
        let logged = self.sidecars[number].program.logged();
        let is_serving = |line: &&str| line.contains("serving") && line.contains("http=127");
        let serving = logged.lines().rfind(is_serving)?;
        serving.split(what).nth(1)?.split_whitespace().next().map(str::to_owned)
    }

    /// Runs one of the operator's commands, straight at the stores; what it printed.
    pub fn operate(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Processes::tollgate(arguments);
        command.env("TOLLGATE_LEDGER_URL", &self.world.url).env("TOLLGATE_ACTOR", "torture");
        command.env("TOLLGATE_REDIS_URL", &self.redis_url);
        let output = block_in_place(|| command.output()).unwrap();
        let options = std::fs::OpenOptions::new().create(true).append(true).to_owned();
        options.open(self.operators_log()).unwrap().write_all(&output.stderr).unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// What the operator's commands complained of.
    pub fn operators_log(&self) -> PathBuf {
        self.dir().join("operator.log")
    }

    /// Where Redis is, straight.
    pub fn redis_url(&self) -> &str {
        &self.redis_url
    }

    /// The counters, for a look.
    pub fn counters(&self) -> RedisCounters {
        RedisCounters::new(RedisConfig::at(&self.redis_url)).unwrap()
    }

    pub fn kill_redis(&self) {
        block_in_place(|| self.redis.lock().unwrap().kill()).unwrap();
    }

    /// Starts Redis after it was killed, with what it has on disk.
    pub fn start_redis(&self) {
        block_in_place(|| self.redis.lock().unwrap().start_again()).unwrap();
    }

    /// Takes away what the killed Redis has on disk.
    pub fn wipe_redis(&self) {
        let dir = self.redis.lock().unwrap().dir().join("appendonlydir");
        if dir.exists() {
            std::fs::remove_dir_all(dir).unwrap();
        }
    }

    /// Empties Redis while it runs.
    pub fn flush_redis(&self) {
        let socket = self.redis.lock().unwrap().dir().join("redis.sock");
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.write_all(b"FLUSHALL\r\n").unwrap();
        let mut answer = [0; 5];
        block_in_place(|| stream.read_exact(&mut answer)).unwrap();
        assert_eq!(&answer, b"+OK\r\n");
    }

    pub fn crash_postgres(&self) {
        block_in_place(|| self.postgres.lock().unwrap().kill()).unwrap();
    }

    /// As `kill -9` of its first process does; the others notice and end.
    pub fn kill_postgres(&self) {
        let mut postgres = self.postgres.lock().unwrap();
        send(postgres.pid(), Signal::KILL);
        block_in_place(|| {
            while postgres.is_running() {
                std::thread::sleep(Duration::from_millis(5));
            }
            postgres.stop().unwrap();
        });
    }

    /// Kills a process that serves a client.
    pub async fn kill_session_of_postgres(&self) {
        let any = "SELECT pid FROM pg_stat_activity
                   WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
                   ORDER BY random() LIMIT 1";
        let found: Result<Option<i32>, _> =
            sqlx::query_scalar(any).fetch_optional(&self.world.pool).await;
        if let Some(pid) = found.ok().flatten().and_then(Pid::from_raw) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Starts Postgres after it was killed. What its first process left behind may hold on to their
    /// shared memory for a moment.
    pub fn start_postgres(&self) {
        let mut postgres = self.postgres.lock().unwrap();
        block_in_place(|| {
            let started = Instant::now();
            while let Err(error) = postgres.start_again() {
                assert!(started.elapsed() < POSTGRES_START_MAX, "{error:#}");
                std::thread::sleep(Duration::from_millis(50));
            }
        });
    }

    /// Redis stands still, or goes on.
    pub fn signal_redis(&self, signal: Signal) {
        send(self.redis.lock().unwrap().pid(), signal);
    }

    /// Postgres takes no new connections, or goes on; sessions go on all the while.
    pub fn signal_postgres(&self, signal: Signal) {
        send(self.postgres.lock().unwrap().pid(), signal);
    }

    /// Mends every way.
    pub fn mend_ways(&self) {
        for sidecar in &self.sidecars {
            for way in [&sidecar.to_redis, &sidecar.to_postgres, &sidecar.from_clients] {
                way.set(Mode::Pass);
            }
        }
        self.worker_to_postgres.set(Mode::Pass);
    }
}

fn send(pid: Option<u32>, signal: Signal) {
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        kill_process(pid, signal).unwrap();
    }
}

fn command(name: &str, arguments: &[(&'static str, String)]) -> Command {
    let mut command = Processes::tollgate(&[name]);
    command.args(arguments.iter().flat_map(|(flag, value)| [flag, value.as_str()]));
    command
}

/// The name in `postgres://user@host/name?...`.
fn database_name(url: &str) -> &str {
    url.rsplit('/')
        .find_map(|part| part.split('?').next().filter(|it| it.starts_with("test_")))
        .unwrap_or_else(|| panic!("no database in {url}"))
}
