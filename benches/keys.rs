//! A check on one key that everybody asks about, and over 100,000 keys by Zipf's law, by one
//! thread and by two; beside what others do with a key in the same run: a look-up in a DashMap and
//! in an AHashMap that is replaced whole, and governor's check of a rate.
//!
//! A line's time is that of one call of one thread; its throughput is that of all threads together.

use std::{
    hint::black_box,
    num::NonZeroU32,
    sync::Barrier,
    time::{Duration, Instant},
};

use ahash::AHashMap;
use arc_swap::ArcSwap;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dashmap::DashMap;
use futures::executor::block_on;
use governor::{Quota, RateLimiter};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rand_distr::Zipf;
use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::runtime::{Handle, Runtime};
use tollgate::{
    clock::Clock,
    domain::{
        ids::{MeterName, TenantId},
        properties::Properties,
        quota::{QuotaMode, QuotaRequest},
    },
    enforcement::{engine::Engine, glance::Glance},
};

mod lone_engine;

use lone_engine::{engine, tenant};

// As the program itself has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEYS: usize = 100_000;
/// Draws that are made ahead, and gone through again and again.
const DRAWS: usize = 1 << 16;
/// Zipf's exponent: the second key is asked about half as often as the first.
const EXPONENT: f64 = 1.0;
const MEASURED_FOR: Duration = Duration::from_secs(3);
const WARM_FOR: Duration = Duration::from_secs(1);

/// Whose turn it is.
struct Order {
    name: &'static str,
    draws: Vec<usize>,
}

fn orders() -> [Order; 2] {
    let law = Zipf::new(KEYS as f64, EXPONENT).expect("an exponent and a number above 0");
    let mut rng = StdRng::seed_from_u64(1);
    // Ranks count from 1.
    let drawn = (0..DRAWS).map(|_| (rng.sample(law) as usize).clamp(1, KEYS) - 1);
    [
        Order { name: "one key", draws: vec![0; DRAWS] },
        Order { name: "100,000 keys", draws: drawn.collect() },
    ]
}

/// One thread's own ids, as each request brings its own: nobody else counts their references.
struct Asker {
    tenants: Vec<TenantId>,
    meter: MeterName,
}

impl Asker {
    fn new() -> Self {
        let name = |number| format!("shop-{number}");
        Self {
            tenants: (0..KEYS).map(|number| tenant(&name(number))).collect(),
            meter: MeterName::new("calls").expect("a valid name"),
        }
    }
}

/// What is measured, who asks, and the runtime that the engine's tasks run in.
struct Lines<'a> {
    criterion: &'a mut Criterion,
    askers: &'a [Asker; 2],
    runtime: Handle,
    /// Of one thread and of two, which live as long as a server's do: each keeps what it has learned.
    pools: [ThreadPool; 2],
}

/// Threads that wait for work.
fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().expect("some threads")
}

impl<'a> Lines<'a> {
    /// One line for one thread and one for two, for each order. What `caller` makes calls for one
    /// thread.
    fn of<C: FnMut(usize)>(&mut self, name: &str, caller: impl Fn(&'a Asker) -> C + Sync) {
        for order in orders() {
            let mut group = self.criterion.benchmark_group(order.name);
            group.measurement_time(MEASURED_FOR).warm_up_time(WARM_FOR);
            for pool in &self.pools {
                let threads = pool.current_num_threads() as u64;
                group.throughput(Throughput::Elements(threads));
                group.bench_function(BenchmarkId::new(name, threads), |bencher| {
                    bencher.iter_custom(|calls| {
                        beside_each_other(pool, &|thread| {
                            let _inside = self.runtime.enter();
                            // Each begins elsewhere.
                            let first = DRAWS as u64 / threads * thread as u64;
                            let mut call = caller(&self.askers[thread]);
                            for turn in first..first + calls {
                                call(order.draws[turn as usize % DRAWS]);
                            }
                        })
                    });
                });
            }
            group.finish();
        }
    }
}

/// How long it takes the threads of `pool` to do `work`, each with its number, from the first one's
/// start to the last one's end.
fn beside_each_other(pool: &ThreadPool, work: &(impl Fn(usize) + Sync)) -> Duration {
    let start = Barrier::new(pool.current_num_threads());
    let spans = pool.broadcast(|thread| {
        start.wait();
        let began = Instant::now();
        work(thread.index());
        (began, Instant::now())
    });
    let began = spans.iter().map(|(began, _)| *began).min();
    let ended = spans.iter().map(|(_, ended)| *ended).max();
    began.zip(ended).map_or(Duration::ZERO, |(began, ended)| ended - began)
}

fn keys(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let askers = [Asker::new(), Asker::new()];
    let keys = Asker::new().tenants;
    let (runtime_of_all, pools) = (runtime.handle().clone(), [pool(1), pool(2)]);
    let mut lines = Lines { criterion, askers: &askers, runtime: runtime_of_all, pools };

    let map: DashMap<_, u64, ahash::RandomState> =
        keys.iter().map(|key| (key.clone(), 1)).collect();
    lines.of("baseline: a look-up in a DashMap", |asker| {
        |key| {
            black_box(map.get(&asker.tenants[key]).map(|found| *found));
        }
    });

    let map: AHashMap<_, u64> = keys.iter().map(|key| (key.clone(), 1)).collect();
    let map = ArcSwap::from_pointee(map);
    lines.of("baseline: a look-up in an AHashMap in an ArcSwap", |asker| {
        |key| {
            black_box(map.load().get(&asker.tenants[key]).copied());
        }
    });

    // Never exceeded: what is compared is the way to an answer that allows.
    let rates = RateLimiter::dashmap(Quota::per_second(NonZeroU32::MAX));
    lines.of("baseline: governor, a rate by key", |asker| {
        |key| drop(black_box(rates.check_key(&asker.tenants[key])))
    });

    let dir = tempfile::tempdir().expect("a temporary directory");
    let engine = {
        let _inside = runtime.enter();
        let engine = engine(dir.path(), Clock::System, &keys);
        // Warm: all tenants are loaded.
        (0..KEYS).for_each(|key| check(&engine, &lines.askers[0], key));
        engine
    };
    lines.of("CheckQuota CHECK", |asker| |key| check(&engine, asker, key));
    // As CheckBatch asks: who cannot be answered at once is answered at length.
    lines.of("CheckQuota CHECK, at once, of many", |asker| {
        let mut glances = engine.glances();
        let engine = &engine;
        move |key| {
            let tenant = asker.tenants[key].as_str();
            match glances.look(Glance { tenant, meter: asker.meter.as_str(), amount: 1 }) {
                Some(answer) => drop(black_box(answer)),
                None => check(engine, asker, key),
            }
        }
    });
}

fn check(engine: &Engine, asker: &Asker, key: usize) {
    let request = QuotaRequest {
        tenant: asker.tenants[key].clone(),
        meter: asker.meter.clone(),
        subject: None,
        amount: 1,
        mode: QuotaMode::Check,
        idempotency_key: None,
        durability: None,
        properties: Properties::default(),
    };
    let answer = block_on(engine.check_quota(request)).expect("an answer");
    assert!(answer.allowed, "{answer:?}");
}

criterion_group!(benches, keys);
criterion_main!(benches);
