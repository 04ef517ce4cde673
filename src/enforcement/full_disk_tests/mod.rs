//! A disk that has no room for the next segment, beneath the whole engine: what it refused is not
//! known, and not counted, whoever still waited for it.

mod at_once;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
};

use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{
    config::EnforcementConfig,
    directory::{Directory, FileSource, Source},
    embedded::EmbeddedTotals,
    engine::{Engine, EngineParts},
    error::EngineError,
    fence::Fence,
    floors::Floors,
    lease_metrics::LeaseMetrics,
    leasing::Leasing,
    retention::KeyRetentions,
    run_time::RunTime,
    values::Values,
};
use crate::{
    clock::Clock,
    domain::{
        any_check::AnyCheck,
        catalog::{
            Catalog,
            names::{OperationName, RateName},
        },
        features::compiled::Attributes,
        ids::{IdempotencyKey, MeterName, RunId, TenantId},
        operation::OperationRequest,
        properties::Properties,
        quota::{DecidedBy, QuotaAnswer, QuotaMode, QuotaRequest},
        rate::{RateMode, RateRequest},
        usage::{Durability, UsageReport},
    },
    journal::{
        Journal,
        config::{JournalConfig, SEGMENT_BYTES_MIN},
        embedded::{EmbeddedConfig, EmbeddedStore},
        faulty::{FaultyDisk, Operation},
        position::Position,
        reader::ReadLimit,
        record::Record,
        samples,
    },
    lanes::Shares,
    leases::{
        holder::{HolderSeed, LeaseTimes},
        message::Epoch,
    },
    store::{LocalCounters, counters::Counters},
};

const CATALOG: &str = r"
catalog: full-disk
title: Full disk
currency: USD
meters:
  - { name: calls, title: Calls, kind: counter, unit: call, period: month }
  - { name: free, title: Free calls, kind: counter, unit: call, period: month }
features:
  - { name: chat, title: Chat, type: boolean }
rates:
  - { name: questions, title: Questions }
  - { name: bursts, title: Bursts }
operations:
  - name: ask
    title: A question
    features: [chat]
    rates: [questions, bursts]
    meters: [{ meter: calls, amount: 7 }, { meter: free, amount: 7 }]
plans:
  - name: basic
    title: Basic
    prices: { monthly: 0 }
    limits: { calls: 1000, free: { limit: 1000, enforcement: soft } }
    features: { chat: true }
    rate_limits:
      questions: [{ requests: 100, per: day }]
      bursts: [{ requests: 50, per: day }]
tenants:
  - { id: acme, plan: basic }
";

const DATA_DIR: &str = "/data";

/// Nothing in these tests takes that long.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

struct World {
    engine: Arc<Engine>,
    journal: Journal,
    disk: FaultyDisk,
}

impl World {
    /// The engine as the faces hold it.
    fn shares(&self) -> Shares<Engine> {
        Shares::new(self.engine.clone())
    }

    fn new() -> Self {
        Self::of(CATALOG, JournalConfig::new(DATA_DIR).disk_budget_bytes)
    }

    /// One of this catalog, whose journal takes so much of the disk at most.
    fn of(catalog: &str, disk_budget_bytes: u64) -> Self {
        let (disk, run) = (FaultyDisk::new(1), RunId(Uuid::from_u128(1)));
        let data_dir = Path::new(DATA_DIR);
        let config = JournalConfig {
            segment_bytes: SEGMENT_BYTES_MIN,
            disk_budget_bytes,
            ..JournalConfig::new(data_dir)
        };
        let journal = Journal::open(config, run, disk.clone()).unwrap();
        let store = EmbeddedStore::open(&EmbeddedConfig::default(), data_dir, disk.clone());
        let source = FileSource::of(&Catalog::parse("full-disk", catalog).unwrap());
        let seed = HolderSeed { run, times: LeaseTimes::default() };
        let directory = Arc::new(Directory::new(Source::File(Arc::new(source)), None));
        let config = EnforcementConfig::default();
        let leasing = Arc::new(Leasing {
            seed,
            counters: Counters::Local(LocalCounters::new()),
            floors: Floors::Embedded {
                totals: EmbeddedTotals::default(),
                store: Arc::new(Mutex::new(store.unwrap())),
            },
            opened_keys: None,
            epoch: watch::channel(Some(Epoch { number: 1, recovered: true })).1,
            epoch_doubt: Notify::new(),
            untold_values: Arc::default(),
            retentions: KeyRetentions {
                directory: directory.clone(),
                clock: Clock::System,
                is_local: true,
            },
            fence: Fence::default(),
            tasks: TaskTracker::new(),
            time: RunTime::start(),
            denial_cache: config.denial_cache(),
            metrics: LeaseMetrics::register(),
        });
        let (clock, values) = (Clock::System, Arc::new(Values::default()));
        let parts =
            EngineParts { config, clock, directory, leasing, journal: journal.clone(), values };
        Self { engine: Arc::new(Engine::new(parts)), journal, disk }
    }

    /// A world whose writer stands still over a sync, with so little room left in its segment that
    /// the next record needs another, for which there will be no room.
    async fn about_to_be_full() -> Self {
        Self::new().filled().await
    }

    /// The same of this world.
    async fn filled(self) -> Self {
        let world = self;
        // The file of the run admits to acknowledgements from memory.
        world.consume("free", None, Durability::Memory).await.unwrap();
        let before = world.append(0).await;
        let empty_bytes = (world.append(0).await.offset - before.offset) as usize;
        let left = (SEGMENT_BYTES_MIN - world.journal.tail().offset) as usize;
        // Room for one more that is empty, and not for what has a key.
        world.append(left - 2 * empty_bytes - 40).await;
        let synced = *world.journal.synced().borrow();
        assert_eq!((synced.segment, synced), (1, world.journal.tail()));
        world.disk.hold_syncs(true);
        world.disk.fail(Operation::Create, Some(std::io::ErrorKind::StorageFull));
        let writes = world.disk.counts().writes;
        drop(world.journal.enqueue(&samples::numbered(0, 0), Durability::Written).unwrap());
        // What is written is synced within milliseconds, and that does not end.
        in_time(async {
            while world.disk.counts().writes == writes {
                tokio::task::yield_now().await;
            }
        })
        .await;
        world
    }

    async fn append(&self, padding: usize) -> Position {
        self.journal.append(&samples::numbered(0, padding), Durability::Sync).await.unwrap()
    }

    /// Polls `call` until the journal was handed its record, and hangs up.
    fn hang_up<'a, T: std::fmt::Debug + 'a>(
        &'a self,
        call: impl Future<Output = T> + 'a,
    ) -> impl Future<Output = ()> + 'a {
        let call = Box::pin(call);
        self.hang_up_on(call)
    }

    async fn hang_up_on<T: std::fmt::Debug>(&self, call: impl Future<Output = T> + Unpin) {
        let before = self.journal.tail();
        let handed_over = async {
            while self.journal.tail() == before {
                tokio::task::yield_now().await;
            }
        };
        in_time(async {
            tokio::select! {
                early = call => panic!("it did not wait for the journal: {early:?}"),
                () = handed_over => {}
            }
        })
        .await;
        assert_eq!(self.journal.tail().segment, 2, "the record begins a segment");
    }

    /// Lets the writer find that there is no room, and makes room then.
    async fn refuse(&self) {
        self.disk.hold_syncs(false);
        let mut rewinds = self.journal.rewinds();
        in_time(rewinds.wait_for(|rewinds| *rewinds == 1)).await.unwrap();
        self.disk.fail(Operation::Create, None);
    }

    /// Other records take the place of what was refused, and are synced.
    async fn pass(&self) {
        for _ in 0..3 {
            self.append(900).await;
        }
        assert_eq!(self.journal.synced().borrow().segment, 2);
    }

    async fn consume(
        &self,
        meter: &str,
        key: Option<&str>,
        durability: Durability,
    ) -> Result<QuotaAnswer, EngineError> {
        in_time(self.engine.check_quota(request(meter, key, durability))).await
    }

    /// Has the units of one operation in hand, of the limit that may deny it.
    async fn have_in_hand(&self) {
        let mode = QuotaMode::Reserve { ttl: Some(PATIENCE) };
        let hold = QuotaRequest { mode, ..request("calls", None, Durability::Sync) };
        let held = in_time(self.engine.check_quota(hold)).await.unwrap().reservation.unwrap();
        in_time(self.engine.release_reservation(&tenant(), held.id)).await.unwrap();
    }

    /// Units that this engine counts.
    async fn used(&self, meter: &str) -> u64 {
        let looks = request(meter, None, Durability::Sync);
        let looks = QuotaRequest { mode: QuotaMode::Check, ..looks };
        in_time(self.engine.check_quota(looks)).await.unwrap().used
    }

    /// Permits that the rate has left.
    async fn permits(&self, rate: &str) -> u32 {
        let rate = RateName::new(rate).unwrap();
        let looks = RateRequest {
            tenant: tenant(),
            rate,
            subject: None,
            permits: 1,
            mode: RateMode::Check,
        };
        let answer = in_time(self.engine.check_rate(looks)).await.unwrap();
        answer.windows.tightest().unwrap().remaining
    }

    /// How many synced events have `key`.
    fn recorded(&self, key: &str) -> usize {
        let limit = ReadLimit { records_max: usize::MAX, bytes_max: usize::MAX };
        let entries = self.journal.reader(Position::START).read(limit).unwrap();
        let events = entries.iter().flat_map(|entry| match &entry.record {
            Record::Usage(events) => events.as_slice(),
            _ => &[],
        });
        let has_key = |own: &IdempotencyKey| own.as_str() == key;
        events.filter(|event| event.idempotency_key.as_ref().is_some_and(has_key)).count()
    }
}

fn in_time<'a, T: 'a>(work: impl Future<Output = T> + 'a) -> impl Future<Output = T> + 'a {
    let work = Box::pin(work);
    async move { tokio::time::timeout(PATIENCE, work).await.expect("within a minute") }
}

fn tenant() -> TenantId {
    TenantId::new("acme").unwrap()
}

fn meter(name: &str) -> MeterName {
    MeterName::new(name).unwrap()
}

fn idempotency_key(key: Option<&str>) -> Option<IdempotencyKey> {
    key.map(|key| IdempotencyKey::new(key).unwrap())
}

fn request(name: &str, key: Option<&str>, durability: Durability) -> QuotaRequest {
    QuotaRequest {
        tenant: tenant(),
        meter: meter(name),
        subject: None,
        amount: 7,
        mode: QuotaMode::Consume,
        idempotency_key: idempotency_key(key),
        durability: Some(durability),
        properties: Properties::default(),
    }
}

fn report(key: &str) -> UsageReport {
    UsageReport {
        tenant: tenant(),
        meter: meter("calls"),
        subject: None,
        amount: 7,
        idempotency_key: idempotency_key(Some(key)),
        time: None,
        properties: Properties::default(),
        reservation: None,
    }
}

fn operation(key: &str) -> OperationRequest {
    OperationRequest {
        tenant: tenant(),
        operation: OperationName::new("ask").unwrap(),
        subject: None,
        amounts: BTreeMap::new(),
        mode: QuotaMode::Consume,
        idempotency_key: idempotency_key(Some(key)),
        durability: None,
        properties: Properties::default(),
        attributes: Attributes::default(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consume_that_was_hung_up_on_and_refused_is_taken_as_new() {
    for passed in [false, true] {
        let world = World::about_to_be_full().await;
        world.hang_up(world.consume("calls", Some("once"), Durability::Sync)).await;
        world.refuse().await;
        if passed {
            world.pass().await;
        }
        let again = world.consume("calls", Some("once"), Durability::Sync).await.unwrap();
        assert_ne!(again.decided_by, DecidedBy::Replay);
        assert_eq!((again.used, world.recorded("once")), (7, 1), "the first is given back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_of_what_was_refused_come_back_although_nobody_asks_again() {
    let world = World::about_to_be_full().await;
    world.hang_up(world.consume("calls", None, Durability::Written)).await;
    assert_eq!(world.used("calls").await, 7);
    world.refuse().await;
    in_time(async {
        while world.used("calls").await > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_hung_up_on_and_kept_stands() {
    let world = World::about_to_be_full().await;
    world.disk.fail(Operation::Create, None);
    world.hang_up(world.consume("calls", Some("once"), Durability::Sync)).await;
    world.disk.hold_syncs(false);
    let again = world.consume("calls", Some("once"), Durability::Sync).await.unwrap();
    assert_eq!(again.decided_by, DecidedBy::Replay);
    assert_eq!((again.used, world.used("calls").await, world.recorded("once")), (7, 7, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_was_hung_up_on_and_refused_is_taken_as_new() {
    let world = World::about_to_be_full().await;
    let reports = || vec![report("one"), report("two")];
    world.hang_up(world.engine.record_usage(reports(), None)).await;
    world.refuse().await;
    world.pass().await;
    let receipt = in_time(world.engine.record_usage(reports(), None)).await.unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates), (2, 0));
    assert_eq!((world.recorded("one"), world.recorded("two")), (1, 1));
    assert_eq!(world.used("calls").await, 14);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_was_hung_up_on_and_refused_is_taken_as_new() {
    let world = World::about_to_be_full().await;
    // Also where it is one of many, whose answers wait beside each other.
    let checks = vec![Ok(AnyCheck::Operation(operation("once")))];
    world.hang_up(world.engine.check_batch(checks.into_iter(), drop)).await;
    world.refuse().await;
    world.pass().await;
    let again = in_time(world.engine.check_operation(&operation("once"))).await.unwrap();
    assert_eq!(again.denied_by, None);
    assert_ne!(again.decided_by, DecidedBy::Replay);
    assert_eq!(world.recorded("once"), 2, "an event for each of its meters");
    // The one before is of the world's beginning.
    assert_eq!((world.used("calls").await, world.used("free").await), (7, 14));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_from_memory_and_refused_is_never_acknowledged_as_more() {
    for durability in [Durability::Sync, Durability::Written, Durability::Memory] {
        let world = World::about_to_be_full().await;
        world.consume("free", Some("once"), Durability::Memory).await.unwrap();
        world.refuse().await;
        world.pass().await;
        let again = world.consume("free", Some("once"), durability).await.unwrap();
        assert_ne!(again.decided_by, DecidedBy::Replay, "{durability:?}");
        world.append(0).await;
        assert_eq!(world.recorded("once"), 1, "{durability:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_first_that_is_refused_is_told_to_send_it_again() {
    let world = World::about_to_be_full().await;
    world.consume("free", Some("once"), Durability::Memory).await.unwrap();
    let repeat = world.engine.check_quota(request("free", Some("once"), Durability::Sync));
    let told = async {
        // It waits by then: it is polled first.
        tokio::task::yield_now().await;
        world.refuse().await;
    };
    let (repeat, ()) = in_time(async { tokio::join!(biased; repeat, told) }).await;
    assert!(matches!(repeat, Err(EngineError::Unavailable(_))), "{repeat:?}");
    world.consume("free", Some("once"), Durability::Sync).await.unwrap();
    assert_eq!(world.recorded("once"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_known_whatever_is_refused_after_it() {
    let world = World::new();
    let first = world.consume("calls", Some("once"), Durability::Written).await.unwrap();
    world.disk.fail(Operation::Create, Some(std::io::ErrorKind::StorageFull));
    let large = samples::numbered(0, SEGMENT_BYTES_MIN as usize);
    world.journal.append(&large, Durability::Sync).await.unwrap_err();
    let again = world.consume("calls", Some("once"), Durability::Sync).await.unwrap();
    assert_eq!((again.decided_by, again.used), (DecidedBy::Replay, first.used));
}
