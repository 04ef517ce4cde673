//! What a check costs in process: no sockets, counters in this process, a warm tenant.
//!
//! The first line is the baseline in the same run: the look-up that any check has to begin with.

use std::collections::BTreeMap;

use criterion::{Criterion, criterion_group, criterion_main};
use dashmap::DashMap;
use tokio::runtime::Runtime;
use tollgate::{
    clock::Clock,
    domain::{
        catalog::names::OperationName,
        ids::{MeterName, TenantId},
        operation::OperationRequest,
        properties::Properties,
        quota::{QuotaMode, QuotaRequest},
        usage::Durability,
    },
    enforcement::glance::Glance,
};

mod lone_engine;

use lone_engine::{engine, tenant};

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
    let engine = engine(dir.path(), Clock::System, &[]);
    let mut group = criterion.benchmark_group("in process");
    let tenants: DashMap<TenantId, u64, ahash::RandomState> = DashMap::default();
    let acme = tenant("acme");
    tenants.insert(acme.clone(), 1);
    group.bench_function("baseline: one look-up in a DashMap", |bencher| {
        bencher.iter(|| tenants.get(&acme).map(|found| *found));
    });
    let glance = Glance { tenant: "acme", meter: "calls", amount: 1 };
    let warm = runtime.block_on(engine.check_quota(request("calls", QuotaMode::Check, None)));
    assert!(warm.expect("an answer").allowed);
    group.bench_function("CHECK of a hard limit, at once, of many", |bencher| {
        let mut glances = engine.glances();
        assert!(glances.look(glance).is_some(), "it is warm");
        bencher.iter(|| glances.look(glance));
    });
    group.bench_function("CHECK of a hard limit, at once, alone", |bencher| {
        bencher.iter(|| engine.glances().look(glance));
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
