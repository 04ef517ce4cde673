//! What is secret stands in no log, no answer, no error and no file, whatever goes wrong and however
//! much is logged.

use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rcgen::{CertificateParams, KeyPair};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;
use tollgate::{
    dev::{Postgres, Redis},
    domain::token::Secret,
};

use crate::fixture::{Database, Process, Processes, ask, get, start_redis};

/// How long a process may take to come to what it is asked.
const WAIT_MAX: Duration = Duration::from_secs(60);

const DATABASE_PASSWORD: &str = "Xdb5ecretRightX";
const WRONG_DATABASE_PASSWORD: &str = "Xdb5ecretWrongX";
const REDIS_PASSWORD: &str = "Xredis5ecretRightX";
const WRONG_REDIS_PASSWORD: &str = "Xredis5ecretWrongX";

/// Stores that ask for passwords, and all that was said on them.
struct Secretive {
    processes: Processes,
    database: Database,
    // Stop when they are dropped.
    _postgres: Postgres,
    redis: Redis,
    dir: TempDir,
    /// What must not be said, with what it is.
    secrets: Vec<(&'static str, String)>,
    /// What was said, with where.
    said: Vec<(String, String)>,
}

impl Secretive {
    async fn start() -> Self {
        let (database, postgres) = Database::with_server().await;
        let mut admin = PgConnection::connect(&database.url).await.unwrap();
        let hba = "local all app scram-sha-256\nlocal all all trust\n";
        fs::write(postgres.dir().join("data/pg_hba.conf"), hba).unwrap();
        let login = format!(
            "CREATE ROLE app LOGIN PASSWORD '{DATABASE_PASSWORD}'; GRANT tollgate_service TO app;
             SELECT pg_reload_conf()"
        );
        admin.execute(AssertSqlSafe(login)).await.unwrap();
        let redis = start_redis().await;
        let url = redis.url();
        let mut connection = UnixStream::connect(url.trim_start_matches("redis+unix://")).unwrap();
        write!(connection, "CONFIG SET requirepass {REDIS_PASSWORD}\r\n").unwrap();
        let mut secretive = Self {
            processes: Processes::default(),
            database,
            _postgres: postgres,
            redis,
            dir: tempfile::tempdir().unwrap(),
            secrets: vec![
                ("the database's password", DATABASE_PASSWORD.into()),
                ("a wrong password of the database", WRONG_DATABASE_PASSWORD.into()),
                ("the password of Redis", REDIS_PASSWORD.into()),
                ("a wrong password of Redis", WRONG_REDIS_PASSWORD.into()),
            ],
            said: vec![],
        };
        secretive.make_certificate();
        secretive
    }

    fn make_certificate(&mut self) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        fs::write(self.path("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let pem = key.serialize_pem();
        let line = pem.lines().nth(1).unwrap().to_owned();
        fs::write(self.path("key.pem"), &pem).unwrap();
        // As a key that cannot be read, and yet is one.
        fs::write(self.path("torn.pem"), format!("-----BEGIN PRIVATE KEY-----\n{line}")).unwrap();
        self.secrets.push(("the key of TLS", line));
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn ledger_url(&self, password: &str) -> String {
        self.database.url.replacen("tollgate@", &format!("app:{password}@"), 1)
    }

    fn redis_url(&self, password: &str) -> String {
        format!("{}?pass={password}", self.redis.url())
    }

    /// A command that logs all that it can, with these stores.
    fn command(&self, arguments: &[&str], ledger: &str, redis: &str) -> Command {
        let mut command = Processes::tollgate(arguments);
        command
            .current_dir(self.dir.path())
            .env("RUST_BACKTRACE", "1")
            .env("TOLLGATE_LOG_FILTER", "trace")
            .env("TOLLGATE_LEDGER_URL", ledger)
            .env("TOLLGATE_LEDGER_ACQUIRE_TIMEOUT_MS", "2000")
            .env("TOLLGATE_REDIS_URL", redis);
        command
    }

    /// Runs a command to its end; what it printed. What it said beside that is kept.
    fn run(&mut self, mut command: Command) -> String {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        self.said.push((format!("{command:?}"), said));
        String::from_utf8(output.stdout).unwrap()
    }

    /// As [`Self::run`], where what is printed is no secret either.
    fn show(&mut self, command: Command) -> String {
        let name = format!("the output of {command:?}");
        let printed = self.run(command);
        self.said.push((name, printed.clone()));
        printed
    }

    /// A process that goes on; its log.
    fn serve(&self, name: &str, command: &mut Command) -> Process {
        let log = fs::File::create(self.path(name)).unwrap();
        command.stdout(Stdio::from(log.try_clone().unwrap())).stderr(Stdio::from(log));
        self.processes.start(command)
    }

    fn logged(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn wait_until_logged(&self, name: &str, words: &str) -> String {
        let started = Instant::now();
        loop {
            let logged = self.logged(name);
            if logged.contains(words) {
                return logged;
            }
            assert!(started.elapsed() < WAIT_MAX, "no {words:?} in the log of {name}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where the sidecar of this log listens.
    fn address(&self, name: &str, face: &str) -> SocketAddr {
        let logged = self.wait_until_logged(name, "http=127.0.0.1:");
        let line = logged.lines().rfind(|line| line.contains("http=127.0.0.1:")).unwrap();
        let (_, rest) = line.split_once(&format!("{face}=127.0.0.1:")).unwrap();
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        ([127, 0, 0, 1], digits.parse().unwrap()).into()
    }

    /// Keeps all that stands in the files below, and what they are called.
    fn keep_files(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            self.said.push(("the names of files".into(), path.display().to_string()));
            if path.is_dir() {
                self.keep_files(&path);
            } else if !path.extension().is_some_and(|ending| ending == "pem" || ending == "toml") {
                let content = fs::read(&path).unwrap_or_default();
                let content = String::from_utf8_lossy(&content).into_owned();
                self.said.push((format!("the file {}", path.display()), content));
            }
        }
    }

    fn check(&self) {
        for (place, said) in &self.said {
            for (what, secret) in &self.secrets {
                let Some(at) = said.find(secret.as_str()) else { continue };
                let line = said[..at].lines().count();
                let shown = said.lines().nth(line.saturating_sub(1)).unwrap_or_default();
                // The place names arguments; their values are this test's own.
                panic!("{what} stands in {place}:\n{shown}");
            }
        }
    }
}

/// Calls of all sorts with all sorts of tokens; what was answered.
fn call(http: SocketAddr, token: &str) -> Vec<(String, String)> {
    let check = r#"{"tenant":"acme","meter":"calls","amount":1,"mode":"MODE_CHECK"}"#;
    let bearer = format!("Bearer {token}");
    let basic = format!("Basic {token}");
    let mut answers = vec![];
    let mut keep = |answer: (u16, String)| {
        answers.push(("an answer".to_owned(), format!("{} {}", answer.0, answer.1)));
    };
    for header in
        [("authorization", bearer.as_str()), ("authorization", &basic), ("x-token", token)]
    {
        keep(ask(http, "POST", "/v1/check-quota", &[header], check));
        keep(ask(http, "POST", "/v1/check-quota", &[header], "{"));
        keep(ask(http, "GET", "/metrics", &[header], ""));
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_said_by_processes_that_work() {
    let mut secretive = Secretive::start().await;
    let ledger = secretive.ledger_url(DATABASE_PASSWORD);
    let redis = secretive.redis_url(REDIS_PASSWORD);
    let owner = secretive.database.url.replacen("tollgate@", "tollgate:Xowner5ecretX@", 1);
    secretive.secrets.push(("the owner's password", "Xowner5ecretX".into()));
    let migrate = secretive.command(&["migrate"], &owner, &redis);
    assert!(secretive.show(migrate).contains("up to date"));
    for arguments in [&["config"][..], &["config", "--json"]] {
        let config = secretive.command(arguments, &ledger, &redis);
        assert!(secretive.show(config).contains("ledger"));
    }
    let create = secretive.command(&["token", "create", "shop"], &ledger, &redis);
    let token = secretive.run(create).trim().to_owned();
    assert!(Secret::is_well_formed(&token), "{token:?}");
    let unknown = Secret::of([9; 32]).as_str().to_owned();
    let mistyped = format!("{}x", &unknown[..unknown.len() - 1]);
    secretive.secrets.push(("a token", token.clone()));
    secretive.secrets.push(("an unknown token", unknown.clone()));
    secretive.secrets.push(("a mistyped token", mistyped.clone()));
    for arguments in [&["token", "list", "--json"][..], &["token", "list"], &["tenant", "list"]] {
        let list = secretive.command(arguments, &ledger, &redis);
        secretive.show(list);
    }

    let listen = ["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
    let tls = ["--tls-cert", "cert.pem", "--tls-key", "key.pem", "--tls-on-http", "false"];
    let mut sidecar = secretive.command(&["sidecar"], &ledger, &redis);
    sidecar.args(listen).args(tls).args(["--journal-data-dir", "data", "--grpc-socket", "sock"]);
    let sidecar = secretive.serve("sidecar.log", &mut sidecar);
    let http = secretive.address("sidecar.log", "http");
    let started = Instant::now();
    while get(http, "/readyz").is_none_or(|(status, _)| status != 200) {
        assert!(started.elapsed() < WAIT_MAX, "not ready: {:?}", get(http, "/readyz"));
        std::thread::sleep(Duration::from_millis(50));
    }
    for token in [&token, &unknown, &mistyped] {
        secretive.said.extend(call(http, token));
    }
    for path in ["/readyz", "/livez", "/metrics", "/openapi.json"] {
        secretive.said.push((path.into(), get(http, path).unwrap().1));
    }
    // Without TLS to a port that wants it, with a token in clear.
    let mut plain = TcpStream::connect(secretive.address("sidecar.log", "grpc")).unwrap();
    write!(plain, "GET / HTTP/1.1\r\nauthorization: Bearer {token}\r\n\r\n").unwrap();
    drop(plain);
    // The client, with tokens that do not hold.
    for token in [&token, &unknown, &mistyped] {
        for endpoint in ["unix://sock", &format!("http://{http}"), "http://127.0.0.1:1"] {
            let arguments = ["check", "acme", "calls", "1", "--endpoint", endpoint];
            let mut client = secretive.command(&arguments, "", "");
            client.env_remove("TOLLGATE_LEDGER_URL").env_remove("TOLLGATE_REDIS_URL");
            client.env("TOLLGATE_TOKEN", token);
            secretive.show(client);
        }
    }
    let mut worker = secretive.command(&["worker"], &ledger, &redis);
    worker.args(["--worker-http-listen", "127.0.0.1:0"]);
    let worker = secretive.serve("worker.log", &mut worker);
    secretive.wait_until_logged("worker.log", "the worker's HTTP is served");
    worker.stop();
    sidecar.stop();
    let folder = secretive.dir.path().to_owned();
    secretive.keep_files(&folder);
    assert!(secretive.logged("sidecar.log").contains("TRACE"), "the test logs too little");
    secretive.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_said_by_processes_that_cannot_work() {
    let mut secretive = Secretive::start().await;
    let away = |scheme: &str, password: &str| format!("{scheme}://me:{password}@127.0.0.1:1");
    let stores = [
        (secretive.ledger_url(WRONG_DATABASE_PASSWORD), secretive.redis_url(WRONG_REDIS_PASSWORD)),
        (away("postgres", DATABASE_PASSWORD) + "/none", away("redis", REDIS_PASSWORD)),
    ];
    for (number, (ledger, redis)) in stores.iter().enumerate() {
        for arguments in [&["migrate"][..], &["token", "create", "shop"], &["tenant", "list"]] {
            let command = secretive.command(arguments, ledger, redis);
            assert_eq!(secretive.show(command), "");
        }
        let mut sidecar = secretive.command(&["sidecar", "--access-mode", "open"], ledger, redis);
        sidecar.args(["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
        sidecar.args(["--journal-data-dir", &format!("data{number}")]);
        let log = format!("sidecar{number}.log");
        let sidecar = secretive.serve(&log, &mut sidecar);
        let mut worker = secretive.command(&["worker"], ledger, redis);
        worker.args(["--worker-http-listen", "127.0.0.1:0"]);
        let worker_log = format!("worker{number}.log");
        let worker = secretive.serve(&worker_log, &mut worker);
        secretive.wait_until_logged(&worker_log, "no job is run yet");
        let http = secretive.address(&log, "http");
        keep_told(&mut secretive, http, |told| told.contains("not registered in Postgres"));
        secretive.said.push(("/metrics".into(), get(http, "/metrics").unwrap().1));
        worker.stop();
        sidecar.stop();
    }
    // Redis is asked only once the run is registered.
    let ledger = secretive.ledger_url(DATABASE_PASSWORD);
    for (number, (_, redis)) in stores.iter().enumerate() {
        let mut sidecar = secretive.command(&["sidecar", "--access-mode", "open"], &ledger, redis);
        sidecar.args(["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
        sidecar.args(["--journal-data-dir", &format!("registered{number}")]);
        let log = format!("registered{number}.log");
        let sidecar = secretive.serve(&log, &mut sidecar);
        let http = secretive.address(&log, "http");
        keep_told(&mut secretive, http, |told| {
            told.contains("Redis is out of reach")
                && !told.contains("no connection has been made yet")
        });
        sidecar.stop();
    }
    refused_starts(&mut secretive);
    let folder = secretive.dir.path().to_owned();
    secretive.keep_files(&folder);
    secretive.check();
}

/// Keeps what a process tells of itself until that is so.
fn keep_told(secretive: &mut Secretive, http: SocketAddr, is_so: impl Fn(&str) -> bool) {
    let started = Instant::now();
    loop {
        let (_, told) = get(http, "/readyz").unwrap();
        secretive.said.push(("/readyz".into(), told.clone()));
        if is_so(&told) {
            return;
        }
        assert!(started.elapsed() < WAIT_MAX, "{told}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Settings that cannot be used, in every shape that a secret may have in them.
fn refused_starts(secretive: &mut Secretive) {
    let (password, redis_password) = (DATABASE_PASSWORD, REDIS_PASSWORD);
    let ledgers = [
        format!("postgres://me:{password}@host:port/db"),
        format!("postgres://me:{password}@ho st/db"),
        format!("postgres://me:a/{password}@host/db"),
        format!("postgres://me:a@{password}@host:1:2/db"),
        format!("postgres://host/db?password={password}&sslmode=nonsense"),
        format!("postgres://host/db?sslmode={password}"),
        format!("mysql://me:{password}@host/db"),
        format!("host=here password={password}"),
        password.to_owned(),
    ];
    let redises = [
        format!("redis://:{redis_password}@host:port/0"),
        format!("redis://:{redis_password}@127.0.0.1:1/database"),
        format!("http://:{redis_password}@host"),
        format!("redis+unix:///nowhere?pass={redis_password}&db=x"),
        format!(":{redis_password}@host"),
        redis_password.to_owned(),
    ];
    let fine = ("postgres://127.0.0.1:1/none", "redis://127.0.0.1:1");
    let cases = ledgers.iter().map(|ledger| (ledger.as_str(), fine.1));
    let cases = cases.chain(redises.iter().map(|redis| (fine.0, redis.as_str())));
    for (ledger, redis) in cases {
        for arguments in [&["config"][..], &["config", "--json"]] {
            let command = secretive.command(arguments, ledger, redis);
            secretive.show(command);
        }
        // It is not to start with what can be read after all.
        let mut worker = secretive.command(&["worker"], ledger, redis);
        worker.env("TOLLGATE_WORKER_HTTP_LISTEN", "no address");
        secretive.show(worker);
    }
    let files = [
        format!("[ledger]\nurl = postgres://me:{password}@host/db\n"),
        format!("[ledger]\nurl = \"postgres://me:{password}@host/db\n"),
        format!("[ledger]\nurll = \"postgres://me:{password}@host/db\"\n"),
        format!("[ledger]\nurl = [\"postgres://me:{password}@host/db\"]\n"),
        format!("[ledger]\nurl = {{ password = \"{password}\" }}\n"),
        format!("ledger = \"postgres://me:{password}@host/db\"\n"),
        format!("[redis\nurl = \"redis://:{redis_password}@host\"\n"),
        format!("[redis]\nurl = \"redis://:{redis_password}@host\"\nurl = \"x\"\n"),
    ];
    for text in files {
        fs::write(secretive.path("settings.toml"), text).unwrap();
        let mut command = secretive.command(&["config", "--config", "settings.toml"], "", "");
        command.env_remove("TOLLGATE_LEDGER_URL").env_remove("TOLLGATE_REDIS_URL");
        let printed = secretive.show(command);
        assert_eq!(printed, "", "a setting that cannot be was taken");
    }
    for (cert, key) in [("cert.pem", "torn.pem"), ("key.pem", "key.pem"), ("key.pem", "cert.pem")] {
        let arguments = ["sidecar", "--access-mode", "open", "--tls-cert", cert, "--tls-key", key];
        let command = secretive.command(&arguments, fine.0, fine.1);
        assert_eq!(secretive.show(command), "");
    }
}
