//! A sidecar that is killed with a journal that nobody has flushed, and started again: how soon its
//! answers are right, how soon all of it is in the ledger, and that nothing is lost or counted twice.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;
use tollgate::{
    domain::ids::TenantId,
    proto::v1::{CheckQuotaRequest, CheckQuotaResponse, Mode, RecordUsageRequest, UsageEvent},
};
use tonic::Status;
use uuid::Uuid;

use super::{
    number,
    proxy::Mode as WayMode,
    reconciling,
    recovery::{consume, until_well},
    stage::Stage,
};
use crate::sidecars::cluster::{Client, event, quota};

/// How large the journal gets in the tests, MiB.
const MIB_IN_TESTS: u64 = 8;
/// The same where time is measured.
const MIB_MEASURED: u64 = 1024;
/// Segments of this many bytes in the tests, so that there are many.
const SEGMENT_BYTES_IN_TESTS: u64 = 1 << 20;
/// Segments as they are by default.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Who is used, all alike.
const TENANTS: usize = 100;
/// Who holds escrow when the sidecar is killed, and of whom nothing is in flight then.
const HOLDER: &str = "holder";
/// The hard limit of `calls` on the plan `vast`: as `catalog.yaml` says.
const LIMIT: i64 = 1_000_000_000;
/// Who send, each one batch after the other.
const SENDERS: u64 = 8;
const BATCH_EVENTS: usize = 1_000;
const AMOUNT_MAX: i64 = 9;

/// A machine that is busy answers late.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Far more than it takes, for a machine that is busy with other tests.
const FLUSHED_IN_TESTS_WITHIN: Duration = Duration::from_secs(300);
/// What is promised, of a journal of a gibibyte.
const RIGHT_WITHIN: Duration = Duration::from_secs(30);
const FLUSHED_WITHIN: Duration = Duration::from_secs(1_800);

/// How large it gets, and how long what comes after may take.
struct Size {
    bytes: u64,
    segment_bytes: u64,
    /// How many of the senders send under keys.
    keyed_senders: u64,
    right_within: Duration,
    flushed_within: Duration,
    /// Whether the flush has to wait until answers are right.
    flushes_late: bool,
}

/// What senders know: units by tenant.
#[derive(Default)]
struct Known {
    acknowledged: BTreeMap<String, i64>,
    /// How many batches that was.
    batches: u64,
    /// Sent when the sidecar was killed.
    unknown: Vec<Vec<UsageEvent>>,
    /// The latest of each sender that was acknowledged.
    latest: Vec<Vec<UsageEvent>>,
}

impl Known {
    fn acknowledge(&mut self, batch: &[UsageEvent]) {
        for event in batch {
            *self.acknowledged.entry(event.tenant.clone()).or_default() += event.amount();
        }
    }

    /// What may be said of a tenant.
    fn range(&self, tenant: &str) -> std::ops::RangeInclusive<i64> {
        let known = self.acknowledged.get(tenant).copied().unwrap_or(0);
        let unknown = self.unknown.iter().flatten().filter(|event| event.tenant == tenant);
        known..=known + unknown.map(UsageEvent::amount).sum::<i64>()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_sidecars_usage_is_known_before_it_is_flushed_and_flushed_once() {
    let size = Size {
        bytes: MIB_IN_TESTS << 20,
        segment_bytes: SEGMENT_BYTES_IN_TESTS,
        keyed_senders: SENDERS / 2,
        right_within: FLUSHED_IN_TESTS_WITHIN,
        flushed_within: FLUSHED_IN_TESTS_WITHIN,
        flushes_late: true,
    };
    restart(&size).await;
}

/// `make recovery`.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "minutes: make recovery"]
async fn a_killed_sidecar_with_a_large_journal_is_soon_right() {
    let mib = number("RECOVERY_MIB").unwrap_or(MIB_MEASURED);
    for keyed_senders in [SENDERS, 0] {
        let size = Size {
            bytes: mib << 20,
            segment_bytes: SEGMENT_BYTES,
            keyed_senders,
            right_within: RIGHT_WITHIN,
            flushed_within: FLUSHED_WITHIN,
            flushes_late: false,
        };
        restart(&size).await;
    }
}

async fn restart(size: &Size) {
    let segment = size.segment_bytes.to_string();
    // Patient: see `recovery.rs`.
    let settings = [
        ("--journal-segment-bytes", segment.as_str()),
        ("--enforcement-recall-wait-ms", "1000"),
        ("--redis-call-timeout-ms", "5000"),
    ];
    let stage = Stage::set(1, &settings).await;
    let tenants: Vec<String> = (0..TENANTS).map(|number| format!("tenant-{number}")).collect();
    let all: Vec<&str> = tenants.iter().map(String::as_str).chain([HOLDER]).collect();
    stage.world.tenants(all.iter().map(|tenant| (*tenant, "vast"))).await;
    stage.start_programs();
    until_well(&stage).await;
    let client = stage.client(0, ANSWER_WAIT);
    for tenant in &all {
        assert!(consume(&client, tenant, 1).await.allowed, "before Postgres is away");
    }

    let killed = stage.run_of(0).unwrap();
    stage.sidecars[0].to_postgres.set(WayMode::Reset);
    let journal = stage.dir().join("sidecar-0/runs");
    let filling = Instant::now();
    let (mut known, events) = fill_and_kill(&stage, &tenants, size, &journal).await;
    println!(
        "{} MiB of journal: {events} events of {TENANTS} tenants in {:.0?}, of {} of {SENDERS} \
         senders under keys",
        bytes_in(&journal) >> 20,
        filling.elapsed(),
        size.keyed_senders
    );
    for tenant in &all {
        *known.acknowledged.entry((*tenant).to_owned()).or_default() += 1;
    }

    // Nothing of the killed run is flushed while its row is locked.
    let mut lock = stage.world.pool.begin().await.unwrap();
    if size.flushes_late {
        let run: Uuid = killed.parse().unwrap();
        let locked = sqlx::query("SELECT 1 FROM runs WHERE run = $1 FOR UPDATE").bind(run);
        assert_eq!(locked.execute(&mut *lock).await.unwrap().rows_affected(), 1);
    }
    stage.sidecars[0].to_postgres.set(WayMode::Pass);
    let started = Instant::now();
    let row = |what: &str| println!("  {what:<44}{:>10.2?}", started.elapsed());
    stage.start_programs();
    let client = stage.client(0, ANSWER_WAIT);
    // Nothing of the holder was in flight, and all that it had used was settled in Redis.
    let look = quota(Mode::Check, HOLDER, "calls", 1);
    until(&client, look, size.right_within, |answer| answer.used == 1).await;
    row("the first right answer");
    for tenant in &all {
        let range = known.range(tenant);
        let look = quota(Mode::Check, tenant, "calls", 1);
        until(&client, look, size.flushed_within, |answer| range.contains(&answer.used)).await;
    }
    row("right answers of all tenants");
    // What the killed run held in escrow, too.
    let rest = quota(Mode::Consume, HOLDER, "calls", LIMIT - 1);
    until(&client, rest, size.flushed_within, |answer| answer.allowed).await;
    row("all that is left can be had");
    assert!(!consume(&client, HOLDER, 1).await.allowed, "nothing is left");
    if size.flushes_late {
        assert_eq!(runs_in(&journal).len(), 2, "all of this was known before the flush");
    }
    lock.rollback().await.unwrap();
    known.acknowledged.insert(HOLDER.to_owned(), LIMIT);
    while runs_in(&journal).len() > 1 {
        assert!(started.elapsed() < size.flushed_within, "not flushed");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    row("all is flushed, and the killed run closed");
    println!("  {:.0} events per second", events as f64 / started.elapsed().as_secs_f64());

    // What was in flight may count or not; sent again, it counts once, as does what was acknowledged.
    for batch in known.latest.iter().chain(&known.unknown) {
        record(&client, batch).await.unwrap();
    }
    for batch in std::mem::take(&mut known.unknown) {
        known.acknowledge(&batch);
    }
    for (tenant, units) in &known.acknowledged {
        assert_eq!(in_ledger(&stage, tenant, *units).await, *units, "{tenant}");
    }
    until_well(&stage).await;
    assert_eq!(reconciling::differences(&stage), [""; 0]);
    stage.programs().for_each(|program| program.stop().unwrap());
}

/// Sends until the journal is that large, and kills the sidecar amid the sending under keys. What is
/// known, and how many events were acknowledged.
async fn fill_and_kill(
    stage: &Stage,
    tenants: &[String],
    size: &Size,
    journal: &Path,
) -> (Known, u64) {
    let known: Arc<Mutex<Known>> = Arc::default();
    let is_full = Arc::new(AtomicBool::new(false));
    let mut senders = JoinSet::new();
    for number in 0..SENDERS {
        let sender = Sender {
            client: stage.client(0, ANSWER_WAIT),
            random: StdRng::seed_from_u64(number),
            tenants: tenants.to_vec(),
            is_keyed: number < size.keyed_senders,
            known: known.clone(),
        };
        senders.spawn(sender.send(is_full.clone()));
    }
    // The next segment is made ahead.
    while bytes_in(journal) < size.bytes + size.segment_bytes {
        tokio::time::sleep(LOOK_EVERY).await;
        assert!(senders.try_join_next().is_none(), "a sender has ended");
    }
    is_full.store(true, Ordering::SeqCst);
    for _ in size.keyed_senders..SENDERS {
        senders.join_next().await.unwrap().unwrap();
    }
    stage.sidecars[0].program.kill();
    senders.join_all().await;
    let known = std::mem::take(&mut *known.lock().unwrap());
    let acknowledged = known.batches * BATCH_EVENTS as u64;
    (known, acknowledged)
}

struct Sender {
    client: Client,
    random: StdRng,
    tenants: Vec<String>,
    is_keyed: bool,
    known: Arc<Mutex<Known>>,
}

impl Sender {
    /// Without keys: until the journal is full. Under keys, which tell what became of a batch: until
    /// the sidecar is gone.
    async fn send(mut self, is_full: Arc<AtomicBool>) {
        let mut latest = vec![];
        while self.is_keyed || !is_full.load(Ordering::SeqCst) {
            let batch = self.batch();
            let answer = record(&self.client, &batch).await;
            let mut known = self.known.lock().unwrap();
            match answer {
                Ok(()) => {
                    known.acknowledge(&batch);
                    known.batches += 1;
                    latest = batch;
                }
                Err(status) => {
                    assert!(is_full.load(Ordering::SeqCst) && self.is_keyed, "{status}");
                    known.latest.push(latest);
                    known.unknown.push(batch);
                    return;
                }
            }
        }
    }

    fn batch(&mut self) -> Vec<UsageEvent> {
        let events = (0..BATCH_EVENTS).map(|_| {
            let tenant = &self.tenants[self.random.random_range(0..self.tenants.len())];
            let amount = self.random.random_range(1..=AMOUNT_MAX);
            let key = match self.is_keyed {
                true => format!("{:036x}", self.random.random::<u128>()),
                false => String::new(),
            };
            event(tenant, "calls", amount, &key)
        });
        events.collect()
    }
}

async fn record(client: &Client, batch: &[UsageEvent]) -> Result<(), Status> {
    let request = RecordUsageRequest { events: batch.to_vec(), ..Default::default() };
    client.clone().record_usage(request).await.map(drop)
}

/// Asks until the answer is such a one; a sidecar that has just started may not answer yet.
async fn until(
    client: &Client,
    request: CheckQuotaRequest,
    within: Duration,
    is_it: impl Fn(&CheckQuotaResponse) -> bool,
) {
    let asked = Instant::now();
    loop {
        let answer = client.clone().check_quota(request.clone()).await;
        let answer = answer.map(tonic::Response::into_inner);
        if answer.as_ref().is_ok_and(&is_it) {
            return;
        }
        assert!(asked.elapsed() < within, "{}: {answer:?}", request.tenant);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What the ledger says was used, once it is `expected`, or stays something else.
async fn in_ledger(stage: &Stage, tenant: &str, expected: i64) -> i64 {
    let started = Instant::now();
    let tenant = TenantId::new(tenant).unwrap();
    loop {
        let windows = stage.world.ledger.tenant_windows(&tenant, None, 10).await.unwrap();
        let used = windows.iter().map(|window| window.used).sum();
        if used == expected || started.elapsed() > ANSWER_WAIT {
            return used;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What the segments of all runs take on disk.
fn bytes_in(runs: &Path) -> u64 {
    let files = runs_in(runs).into_iter().flat_map(|run| std::fs::read_dir(run).unwrap());
    files.map(|file| file.unwrap().metadata().map_or(0, |file| file.len())).sum()
}

/// The directories of the runs whose journals are there.
fn runs_in(runs: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(runs).unwrap();
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
}
