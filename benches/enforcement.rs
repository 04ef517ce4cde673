//! What a check costs in process: no sockets, counters in this process, a warm tenant.
//!
//! The first line is the baseline in the same run: the look-up that any check has to begin with.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use criterion::{Criterion, criterion_group, criterion_main};
use dashmap::DashMap;
use jiff::Timestamp;
use serde_json::json;
use tokio::{runtime::Runtime, sync::Notify, sync::watch};
use tokio_util::task::TaskTracker;
use tollgate::{
    clock::Clock,
    domain::{
        catalog::{
            Catalog,
            names::{OperationName, RuleName},
        },
        grant::{Grant, GrantKind},
        ids::{GrantId, MeterName, PoolId, RunId, TenantId},
        operation::OperationRequest,
        period::Period,
        pool::{Pool, PoolClass, PoolMembership},
        properties::Properties,
        quota::{QuotaMode, QuotaRequest},
        tenant::Tenant,
        usage::Durability,
    },
    enforcement::{
        config::EnforcementConfig,
        counter::CounterSeed,
        directory::{Directory, FileSource, Source},
        embedded::EmbeddedTotals,
        engine::{Engine, EngineParts},
        fence::Fence,
        floors::Floors,
        leasing::Leasing,
        retention::KeyRetentions,
        run_time::RunTime,
        values::Values,
    },
    journal::{
        Journal,
        config::JournalConfig,
        disk::Disk,
        embedded::{EmbeddedConfig, EmbeddedStore},
    },
    leases::{holder::LeaseTimes, message::Epoch},
    ledger::pools::StoredPool,
    store::{LocalCounters, counters::Counters},
};
use uuid::Uuid;

const CATALOG: &str = r"
catalog: bench
title: Bench
currency: USD
meters:
  - { name: calls, title: Calls, kind: counter, unit: call, period: month }
  - { name: soft, title: Soft calls, kind: counter, unit: call, period: month }
features:
  - { name: chat, title: Chat }
rates:
  - { name: api, title: API requests, scope: sidecar }
operations:
  - name: answer
    title: An answer
    features: [chat]
    rates: [api]
    meters: [{ meter: calls, amount: 1 }, { meter: soft, amount: 1 }]
plans:
  - name: basic
    title: Basic
    prices: { monthly: 0 }
    limits:
      calls: 1000000000000
      soft: { limit: 1000, enforcement: soft }
    features: { chat: true }
    rate_limits: { api: [{ requests: 1000000, per: second, burst: 1000000 }] }
tenants:
  - { id: acme, plan: basic }
";

/// An engine that runs alone, in `dir`.
fn engine(dir: &std::path::Path) -> Arc<Engine> {
    let run = RunId(Uuid::new_v4());
    let journal = Journal::open(JournalConfig::new(dir), run, Disk).expect("a temporary directory");
    let store = EmbeddedStore::open(&EmbeddedConfig::default(), dir, Disk).expect("the same");
    let catalog = Catalog::parse("bench", CATALOG).expect("a valid catalog");
    let mut source = FileSource::of(&catalog);
    let acme = source.tenants.values().next().expect("the one of the catalog").clone();
    let pool = pool(&acme, &source);
    let membership = PoolMembership { pool: pool.pool.clone(), class: Some(class("shop")) };
    source.pools.insert(pool.pool.id, pool);
    let member = Tenant { id: tenant("member"), pools: vec![membership], ..acme.clone() };
    source.tenants.insert(member.id.clone(), member);
    let granted = granted(acme);
    source.tenants.insert(granted.id.clone(), granted);
    let seed = CounterSeed { run, times: LeaseTimes::default() };
    let (_, epoch) = watch::channel(Some(Epoch { number: 1, recovered: true }));
    let config = EnforcementConfig::default();
    let directory = Arc::new(Directory::new(Source::File(Arc::new(source)), seed, None));
    let leasing = Arc::new(Leasing {
        counters: Counters::Local(LocalCounters::new()),
        floors: Floors::Embedded {
            totals: EmbeddedTotals::default(),
            store: Arc::new(Mutex::new(store)),
        },
        opened_keys: None,
        epoch,
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
        metrics: tollgate::enforcement::lease_metrics::LeaseMetrics::register(),
    });
    Arc::new(Engine::new(EngineParts {
        config,
        clock: Clock::System,
        directory,
        leasing,
        journal,
        values: Arc::new(Values::default()),
    }))
}

/// A tenant like `like`, with a top-up, and allowance that it has anew each month.
fn granted(like: Tenant) -> Tenant {
    let grant = |number, kind, every| Grant {
        id: GrantId(number),
        kind,
        meter: MeterName::new("calls").expect("a valid name"),
        subject: None,
        amount: 1_000,
        priority: 0,
        starts_at: Timestamp::UNIX_EPOCH,
        expires_at: None,
        every,
        covers_level: false,
        is_revoked: false,
    };
    let grants =
        vec![grant(1, GrantKind::TopUp, None), grant(2, GrantKind::Recurring, Some(Period::Month))];
    Tenant { id: tenant("granted"), grants, ..like }
}

/// A pool of calls with two classes, of which the higher one draws on all of its three counters.
fn pool(of: &Tenant, source: &FileSource) -> StoredPool {
    let size = 1_000_000_000_000;
    let keeps_back = |name: &str| PoolClass {
        name: class(name),
        keeps_back: size / 10,
        keeps_back_percent: "10".parse().expect("a valid percentage"),
    };
    let mut definition = source.plans[&of.subscription.plan].clone();
    definition["plan"]["limits"] = json!({ "calls": { "limit": size, "period": "month" } });
    StoredPool {
        pool: Pool {
            id: PoolId(1),
            meter: MeterName::new("calls").expect("a valid name"),
            size,
            classes: vec![keeps_back("shop"), keeps_back("site")],
            version: 1,
            settling: vec![],
        },
        account: of.account.clone(),
        catalog: of.subscription.plan.catalog.clone(),
        name: "calls".into(),
        max_members: None,
        definition,
        schedule: of.subscription.schedule.clone(),
        test_clock: None,
    }
}

fn class(name: &str) -> RuleName {
    RuleName::new(name).expect("a valid name")
}

fn tenant(id: &str) -> TenantId {
    TenantId::new(id).expect("a valid id")
}

fn request(meter: &str, mode: QuotaMode, durability: Option<Durability>) -> QuotaRequest {
    QuotaRequest {
        tenant: tenant("acme"),
        meter: MeterName::new(meter).expect("a valid name"),
        subject: None,
        amount: 1,
        mode,
        idempotency_key: None,
        durability,
        properties: Properties::default(),
    }
}

fn checks(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let engine = engine(dir.path());
    let mut group = criterion.benchmark_group("in process");
    let tenants: DashMap<TenantId, u64, ahash::RandomState> = DashMap::default();
    let acme = tenant("acme");
    tenants.insert(acme.clone(), 1);
    group.bench_function("baseline: one look-up in a DashMap", |bencher| {
        bencher.iter(|| tenants.get(&acme).map(|found| *found));
    });
    let cases = [
        ("CHECK of a hard limit", request("calls", QuotaMode::Check, None)),
        ("CHECK of a hard limit, with two grants beside it", {
            let tenant = tenant("granted");
            QuotaRequest { tenant, ..request("calls", QuotaMode::Check, None) }
        }),
        ("CHECK of a pool of three counters", {
            let tenant = tenant("member");
            QuotaRequest { tenant, ..request("calls", QuotaMode::Check, None) }
        }),
        ("CONSUME of a soft limit, memory", {
            request("soft", QuotaMode::Consume, Some(Durability::Memory))
        }),
    ];
    for (name, request) in cases {
        // Warm: the tenant is loaded and the first lease is in hand.
        let warm = request.clone();
        let answer = runtime.block_on(engine.check_quota(warm)).expect("an answer");
        assert!(answer.allowed, "{answer:?}");
        group.bench_function(name, |bencher| {
            bencher.to_async(&runtime).iter(|| engine.check_quota(request.clone()));
        });
    }
    let name = "CHECK of an operation: a feature, a rate, a hard and a soft limit";
    let operation = OperationRequest {
        tenant: acme,
        operation: OperationName::new("answer").expect("a valid name"),
        subject: None,
        amounts: BTreeMap::new(),
        mode: QuotaMode::Check,
        idempotency_key: None,
        durability: None,
        properties: Properties::default(),
        attributes: BTreeMap::new(),
    };
    let answer = runtime.block_on(engine.check_operation(&operation)).expect("an answer");
    assert!(answer.is_allowed(), "{answer:?}");
    group.bench_function(name, |bencher| {
        bencher.to_async(&runtime).iter(|| engine.check_operation(&operation));
    });
    group.finish();
}

criterion_group!(benches, checks);
criterion_main!(benches);
