//! A sidecar by itself: its journal is all that it has, and enough.

use std::{
    collections::HashSet,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use tempfile::TempDir;
use tollgate::proto::v1::{CheckQuotaRequest, DecidedBy, Mode, QuotaReason};

use super::{
    CATALOG,
    cluster::{Client, Sidecar, event, quota},
};
use crate::fixture::{Processes, get, post};

/// What the catalog allows `acme`.
const LIMIT: i64 = 10_000;
/// What every CONSUME of these tests asks for; the limit is a multiple of it, and so large a one
/// that a kill which comes late on a busy machine still hits many.
const AMOUNT: i64 = 2;
const CLIENTS: usize = 16;
const QUIET_MAX: Duration = Duration::from_secs(120);

const TENANTS: &str = "
tenants:
  - { id: acme, plan: basic }
  - { id: probe, plan: basic }
";

/// A catalog with tenants, and the directory of the sidecar that runs from it.
struct Alone {
    processes: Processes,
    dir: TempDir,
}

impl Alone {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("catalog.yaml"), format!("{CATALOG}{TENANTS}")).unwrap();
        Self { processes: Processes::default(), dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the sidecar; a second start finds the data of the first.
    async fn start(&self) -> Sidecar {
        let log = self.path("log");
        let to_log = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut command = Processes::tollgate(&["sidecar"]);
        command
            .args(["--catalog".as_ref(), self.path("catalog.yaml").as_os_str()])
            .args(["--journal-data-dir".as_ref(), self.path("data").as_os_str()])
            .args(["--grpc-socket".as_ref(), self.path("sock").as_os_str()])
            .args(["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
            .args(["--access-mode", "open"])
            .stderr(Stdio::from(to_log.try_clone().unwrap()))
            .stdout(Stdio::from(to_log));
        let sidecar = Sidecar::at(self.processes.start(&mut command), &self.path("sock"));
        sidecar.wait_until_serving(&log).await;
        sidecar
    }
}

/// CONSUMEs of [`AMOUNT`], each with a key of its own.
#[derive(Default)]
struct Consumers {
    next_key: AtomicUsize,
    /// Guards the keys that were acknowledged.
    acknowledged: Mutex<HashSet<String>>,
    /// Guards the keys whose fate is unknown.
    unknown: Mutex<Vec<String>>,
}

impl Consumers {
    fn units_acknowledged(&self) -> i64 {
        AMOUNT * i64::try_from(self.acknowledged.lock().unwrap().len()).unwrap()
    }

    /// One client: until it is denied, or the sidecar is gone.
    async fn consume_until_denied(&self, mut client: Client) {
        loop {
            let key = format!("key-{}", self.next_key.fetch_add(1, Ordering::Relaxed));
            match client.check_quota(keyed(&key)).await.map(|answer| answer.into_inner()) {
                Ok(answer) if answer.allowed => {
                    self.acknowledged.lock().unwrap().insert(key);
                }
                Ok(answer) => {
                    assert_eq!(answer.reason(), QuotaReason::LimitExceeded);
                    return;
                }
                Err(_) => return self.unknown.lock().unwrap().push(key),
            }
        }
    }

    /// As a caller does that got no answer: the same again.
    async fn retry_unknown(&self, mut client: Client) {
        let unknown = std::mem::take(&mut *self.unknown.lock().unwrap());
        assert!(!unknown.is_empty(), "the kill hit nobody");
        for key in unknown {
            let answer = client.check_quota(keyed(&key)).await.unwrap().into_inner();
            assert!(answer.allowed, "{key}: {answer:?}");
            self.acknowledged.lock().unwrap().insert(key);
        }
    }
}

fn keyed(key: &str) -> CheckQuotaRequest {
    CheckQuotaRequest {
        idempotency_key: key.into(),
        ..quota(Mode::Consume, "acme", "calls", AMOUNT)
    }
}

fn spawn_all(consumers: &Arc<Consumers>, sidecar: &Sidecar) -> impl Future<Output = ()> + use<> {
    let clients = (0..CLIENTS).map(|_| {
        let (consumers, client) = (consumers.clone(), sidecar.client.clone());
        tokio::spawn(async move { consumers.consume_until_denied(client).await })
    });
    let clients: Vec<_> = clients.collect();
    async { join_all(clients).await.into_iter().for_each(|done| done.unwrap()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_sidecar_acknowledged_is_counted_and_its_limit_stays_exact() {
    let alone = Alone::new();
    let consumers = Arc::new(Consumers::default());
    let sidecar = alone.start().await;
    let working = spawn_all(&consumers, &sidecar);
    while consumers.units_acknowledged() < LIMIT / 10 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    sidecar.process.kill();
    working.await;
    let acknowledged = consumers.units_acknowledged();
    assert!(acknowledged < LIMIT, "the kill came too late");

    let sidecar = alone.start().await;
    let used = sidecar.usage("acme", "calls").await.used;
    let unanswered = AMOUNT * i64::try_from(CLIENTS).unwrap();
    assert!(
        (acknowledged..=acknowledged + unanswered).contains(&used),
        "{used} used, {acknowledged} acknowledged"
    );
    consumers.retry_unknown(sidecar.client.clone()).await;
    // A repeat of what the killed run had recorded takes units until the journal is taken in.
    let started = Instant::now();
    while consumers.units_acknowledged() < LIMIT {
        spawn_all(&consumers, &sidecar).await;
        let acknowledged = consumers.units_acknowledged();
        assert!(started.elapsed() < QUIET_MAX, "{acknowledged} acknowledged");
    }
    assert_eq!(consumers.units_acknowledged(), LIMIT);
    sidecar.wait_until_used("acme", "calls", LIMIT).await;
    sidecar.process.kill();

    let sidecar = alone.start().await;
    sidecar.wait_until_used("acme", "calls", LIMIT).await;
    let answer = sidecar.check(Mode::Consume, "acme", "calls", 1).await.unwrap();
    assert_eq!(answer.reason(), QuotaReason::LimitExceeded);
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_was_stopped_goes_on_where_it_stood() {
    let alone = Alone::new();
    let sidecar = alone.start().await;
    assert!(sidecar.check(Mode::Consume, "acme", "calls", 6_000).await.unwrap().allowed);
    // What is held when the sidecar stops is free again.
    assert!(sidecar.check(Mode::Reserve, "acme", "calls", 3_000).await.unwrap().allowed);
    let events = vec![event("acme", "tokens", 77, "first"), event("acme", "seats", 4, "")];
    assert_eq!(sidecar.record(events.clone()).await.unwrap().accepted, 2);
    sidecar.process.stop();

    let sidecar = alone.start().await;
    assert_eq!(sidecar.usage("acme", "calls").await.used, 6_000);
    assert_eq!(sidecar.usage("acme", "seats").await.used, 4);
    // The key is known from before the stop.
    sidecar.record(events[..1].to_vec()).await.unwrap();
    sidecar.wait_until_used("acme", "tokens", 77).await;
    let answer = sidecar.check(Mode::Consume, "acme", "calls", 4_001).await.unwrap();
    assert_eq!(answer.reason(), QuotaReason::LimitExceeded);
    assert!(sidecar.check(Mode::Consume, "acme", "calls", 4_000).await.unwrap().allowed);
    assert!(!sidecar.check(Mode::Consume, "acme", "calls", 1).await.unwrap().allowed);
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_of_earlier_runs_is_in_the_answers_of_a_limit_that_never_denies() {
    let alone = Alone::new();
    let sidecar = alone.start().await;
    let before = 1_000_500;
    assert!(sidecar.check(Mode::Consume, "acme", "tokens", before).await.unwrap().allowed);
    sidecar.process.stop();

    let sidecar = alone.start().await;
    // The first answers may not know it yet; nobody asks for usage, which would find out.
    let started = Instant::now();
    for own in 1.. {
        let answer = sidecar.check(Mode::Consume, "acme", "tokens", 1).await.unwrap();
        if answer.used > before {
            assert_eq!((answer.used, answer.overage), (before + own, 500 + own));
            assert_eq!(answer.reason(), QuotaReason::Overage);
            break;
        }
        assert!(started.elapsed() < QUIET_MAX, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sidecar_alone_answers_it_decides_in_its_memory() {
    let alone = Alone::new();
    let sidecar = alone.start().await;
    let visit = |visitor: &str| CheckQuotaRequest {
        properties: [("visitor".to_owned(), visitor.to_owned())].into(),
        ..quota(Mode::Consume, "acme", "visitors", 1)
    };
    let asked = [
        quota(Mode::Check, "acme", "calls", 1),
        quota(Mode::Consume, "acme", "calls", 5_000),
        quota(Mode::Reserve, "acme", "calls", 5_000),
        quota(Mode::Consume, "acme", "calls", 1),
        quota(Mode::Check, "acme", "calls", 1),
        visit("ann"),
        visit("ann"),
    ];
    for request in asked {
        let answer = sidecar.client.clone().check_quota(request.clone()).await.unwrap();
        let answer = answer.into_inner();
        assert_eq!(answer.decided_by(), DecidedBy::Memory, "{request:?}: {answer:?}");
    }
    let log = std::fs::read_to_string(alone.path("log")).unwrap();
    let serving = log.lines().rfind(|line| line.contains("serving") && line.contains("http"));
    let (_, port) = serving.unwrap().rsplit_once("127.0.0.1:").unwrap();
    let address = ([127, 0, 0, 1], port.trim().parse().unwrap()).into();
    let (_, answer) = post(
        address,
        "/v1/check-quota",
        r#"{"tenant": "acme", "meter": "tokens", "mode": "MODE_CONSUME", "amount": 1}"#,
    );
    assert!(answer.contains("DECIDED_BY_MEMORY"), "{answer}");
    let (_, metrics) = get(address, "/metrics").unwrap();
    let of_redis =
        |line: &&str| line.starts_with("tollgate_checks_total") && line.contains("redis");
    let counted: Vec<_> =
        metrics.lines().filter(of_redis).filter(|line| !line.ends_with(" 0")).collect();
    assert_eq!(counted, [""; 0]);
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_for_ahead_is_not_spent_once_recorded_usage_has_passed_the_limit() {
    let alone = Alone::new();
    let sidecar = alone.start().await;
    let take = || sidecar.check(Mode::Consume, "acme", "calls", AMOUNT);
    // As much as makes it ask for all that may be asked for ahead.
    for _ in 0..200 {
        assert!(take().await.unwrap().allowed);
    }
    sidecar.record(vec![event("acme", "calls", LIMIT, "")]).await.unwrap();
    let started = Instant::now();
    let mut admitted = 0;
    while take().await.unwrap().allowed {
        admitted += AMOUNT;
        assert!(started.elapsed() < QUIET_MAX, "{admitted} units beyond the limit");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(admitted < LIMIT / 50, "{admitted} units beyond the limit");
    sidecar.process.stop();
}
