//! Plan changes and suspensions under running load: enforced everywhere within a second, in
//! mid-window, and never beyond what the new limit or what was taken before it allows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::task::JoinHandle;
use tollgate::{
    domain::cell_key::CellKey,
    proto::v1::{Mode, QuotaReason},
};

use super::cluster::{Cluster, Sidecar, current_key, quota};

const CATALOG: &str = r"
catalog: changing
title: Changing
currency: USD
meters:
  - { name: calls, title: Calls, kind: counter, unit: call, period: month }
plans:
  - name: basic
    title: Basic
    prices: { monthly: 0 }
    limits: { calls: 1000 }
  - name: large
    title: Large
    prices: { monthly: 10 }
    limits: { calls: 1000000 }
";
const SMALL: i64 = 1_000;
const CLIENTS: usize = 4;
/// A client's rest between two requests.
const PAUSE: Duration = Duration::from_millis(2);
/// The promise is a second; a busy machine may be late in telling of it.
const ENFORCED_MAX: Duration = Duration::from_secs(15);

/// What the clients of one sidecar were told last, and when that became so.
#[derive(Default)]
struct Told {
    is_allowed: AtomicBool,
    /// Milliseconds since the start of the test.
    since_ms: AtomicI64,
}

/// Clients that go on asking for one unit, whatever they are told.
struct Load {
    started: Instant,
    admitted: Arc<AtomicI64>,
    told: Vec<Arc<Told>>,
    is_over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(sidecars: &[Sidecar]) -> Self {
        let started = Instant::now();
        let mut load = Self {
            started,
            admitted: Arc::default(),
            told: sidecars.iter().map(|_| Arc::default()).collect(),
            is_over: Arc::default(),
            clients: vec![],
        };
        for (sidecar, told) in sidecars.iter().zip(&load.told) {
            for _ in 0..CLIENTS {
                let (mut client, told) = (sidecar.client.clone(), told.clone());
                let (admitted, is_over) = (load.admitted.clone(), load.is_over.clone());
                load.clients.push(tokio::spawn(async move {
                    while !is_over.load(Ordering::SeqCst) {
                        let request = quota(Mode::Consume, "acme", "calls", 1);
                        let answer = client.check_quota(request).await.unwrap().into_inner();
                        admitted.fetch_add(i64::from(answer.allowed), Ordering::SeqCst);
                        if told.is_allowed.swap(answer.allowed, Ordering::SeqCst) != answer.allowed
                        {
                            let now = i64::try_from(started.elapsed().as_millis()).unwrap();
                            told.since_ms.store(now, Ordering::SeqCst);
                        }
                        tokio::time::sleep(PAUSE).await;
                    }
                }));
            }
        }
        load
    }

    /// Until the clients of every sidecar are told so, and what that took from `changed` on: the
    /// longest of all.
    async fn until_all_are(&self, is_allowed: bool, changed: Instant) -> Duration {
        let mut longest = Duration::ZERO;
        for told in &self.told {
            while told.is_allowed.load(Ordering::SeqCst) != is_allowed {
                let took = changed.elapsed();
                assert!(took < ENFORCED_MAX, "not told in {took:?} that allowed is {is_allowed}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let since = u64::try_from(told.since_ms.load(Ordering::SeqCst)).unwrap();
            let at = self.started + Duration::from_millis(since);
            longest = longest.max(at.saturating_duration_since(changed));
        }
        longest
    }

    fn admitted(&self) -> i64 {
        self.admitted.load(Ordering::SeqCst)
    }

    async fn stop(self) -> i64 {
        self.is_over.store(true, Ordering::SeqCst);
        join_all(self.clients).await.into_iter().for_each(|ended| ended.unwrap());
        self.admitted.load(Ordering::SeqCst)
    }
}

async fn start() -> (Cluster, [Sidecar; 3], CellKey) {
    let mut cluster = Cluster::with_catalog("changing", CATALOG).await;
    cluster.flag("--enforcement-recall-wait-ms", "2000");
    cluster.world.tenant("acme", "basic").await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await, cluster.start("c").await];
    let key = current_key(&cluster.world, "acme", "calls").await;
    (cluster, sidecars, key)
}

/// Does it, on a thread that may block; the instant at which it had been done.
fn operate(cluster: &Cluster, arguments: &[&str]) -> Instant {
    tokio::task::block_in_place(|| cluster.operate(arguments));
    Instant::now()
}

/// What was taken or held when the shared counter learnt the limit.
async fn taken_when_told(cluster: &Cluster, key: &CellKey, limit: i64) -> i64 {
    let started = Instant::now();
    loop {
        let counter = cluster.inspect(key).await.unwrap();
        if counter.ceiling.and_then(|it| it.units) == Some(limit.cast_unsigned()) {
            return counter.taken();
        }
        assert!(started.elapsed() < ENFORCED_MAX, "the counter is not told: {counter:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_change_under_load_is_in_force_everywhere_within_a_second() {
    let (cluster, sidecars, key) = start().await;
    let load = Load::start(&sidecars);
    load.until_all_are(true, Instant::now()).await;
    // The small plan is used up.
    while load.admitted() < SMALL {
        tokio::time::sleep(PAUSE).await;
    }
    load.until_all_are(false, Instant::now()).await;
    assert_eq!(load.admitted(), SMALL);

    let changed = operate(&cluster, &["tenant", "set-plan", "acme", "--plan", "large"]);
    let up = load.until_all_are(true, changed).await;
    let before = load.admitted();
    while load.admitted() < before + SMALL {
        tokio::time::sleep(PAUSE).await;
    }

    // Down, below what is used.
    let changed = operate(&cluster, &["tenant", "set-plan", "acme", "--plan", "basic"]);
    let taken = taken_when_told(&cluster, &key, SMALL).await;
    let down = load.until_all_are(false, changed).await;
    println!("in force on 3 sidecars: up after {up:?}, down after {down:?}");
    let admitted = load.stop().await;
    assert!(admitted <= taken.max(SMALL), "{admitted} admitted, {taken} were taken or held");
    cluster.wait_until_ledger_has(&key, admitted).await;
    cluster.wait_until_redis_has(&key, admitted).await;
    for sidecar in &sidecars {
        let answer = sidecar.check(Mode::Consume, "acme", "calls", 1).await.unwrap();
        assert_eq!(answer.reason(), QuotaReason::LimitExceeded, "{answer:?}");
        assert_eq!((answer.limit, answer.remaining), (SMALL, 0));
    }
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_is_denied_everywhere_until_it_is_reactivated() {
    let (cluster, sidecars, key) = start().await;
    cluster.operate(&["tenant", "set-plan", "acme", "--plan", "large"]);
    let load = Load::start(&sidecars);
    load.until_all_are(true, Instant::now()).await;
    let changed = operate(&cluster, &["tenant", "suspend", "acme", "--reason", "unpaid"]);
    let suspended = load.until_all_are(false, changed).await;
    for sidecar in &sidecars {
        let answer = sidecar.check(Mode::Consume, "acme", "calls", 1).await.unwrap();
        assert_eq!(answer.reason(), QuotaReason::SubscriptionInactive, "{answer:?}");
    }
    let changed = operate(&cluster, &["tenant", "reactivate", "acme"]);
    let reactivated = load.until_all_are(true, changed).await;
    println!("suspended after {suspended:?}, reactivated after {reactivated:?}");
    let admitted = load.stop().await;
    cluster.wait_until_ledger_has(&key, admitted).await;
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}
