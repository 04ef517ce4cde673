//! An engine that runs alone, without sockets: what the benches ask.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;
use tollgate::{
    clock::Clock,
    domain::{
        catalog::{Catalog, names::RuleName},
        grant::{Grant, GrantKind},
        ids::{GrantId, MeterName, PoolId, RunId, TenantId},
        period::Period,
        pool::{Pool, PoolClass, PoolMembership},
        tenant::Tenant,
    },
    enforcement::{
        config::EnforcementConfig,
        directory::{Directory, FileSource, Source},
        embedded::EmbeddedTotals,
        engine::{Engine, EngineParts},
        fence::Fence,
        floors::Floors,
        lease_metrics::LeaseMetrics,
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
    leases::{
        holder::{HolderSeed, LeaseTimes},
        message::Epoch,
    },
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

/// An engine that keeps its journal in `dir` and knows `acme`, `member` of a pool, `granted` with
/// grants, and `others`, which are like `acme`. Its tasks run in the runtime that it is called in.
pub fn engine(dir: &Path, clock: Clock, others: &[TenantId]) -> Arc<Engine> {
    let run = RunId(Uuid::new_v4());
    let journal = Journal::open(JournalConfig::new(dir), run, Disk).expect("a temporary directory");
    let store = EmbeddedStore::open(&EmbeddedConfig::default(), dir, Disk).expect("the same");
    let catalog = Catalog::parse("bench", CATALOG).expect("a valid catalog");
    let mut source = FileSource::of(&catalog);
    let acme = source.tenants.values().next().expect("the one of the catalog");
    let acme = Tenant::clone(acme);
    let pool = pool(&acme, &source);
    let membership = PoolMembership { pool: pool.pool.clone(), class: Some(class("shop")) };
    source.pools.insert(pool.pool.id, pool);
    let member = Tenant { id: tenant("member"), pools: vec![membership], ..acme.clone() };
    source.tenants.insert(member.id.clone(), member.into());
    for other in others {
        let like = Tenant { id: other.clone(), ..acme.clone() };
        source.tenants.insert(other.clone(), like.into());
    }
    let granted = granted(acme);
    source.tenants.insert(granted.id.clone(), granted.into());
    let seed = HolderSeed { run, times: LeaseTimes::default() };
    let (_, epoch) = watch::channel(Some(Epoch { number: 1, recovered: true }));
    let config = EnforcementConfig::default();
    let directory = Arc::new(Directory::new(Source::File(Arc::new(source)), None));
    let leasing = Arc::new(Leasing {
        seed,
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
            clock: clock.clone(),
            is_local: true,
        },
        fence: Fence::default(),
        tasks: TaskTracker::new(),
        time: RunTime::start(),
        denial_cache: config.denial_cache(),
        metrics: LeaseMetrics::register(),
    });
    Arc::new(Engine::new(EngineParts {
        config,
        clock,
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

/// The id of a tenant.
pub fn tenant(id: &str) -> TenantId {
    TenantId::new(id).expect("a valid id")
}
