//! What an append costs on the machine's own disk: `cargo bench --bench journal`.
//!
//! The data directory is a fresh one under `TMPDIR` (or `/tmp`): choose one on the disk that is
//! meant, for on a file system in memory a sync costs nothing.

#![allow(clippy::unwrap_used)] // A bench that cannot go on has nothing better to do.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::{StreamExt, stream::FuturesUnordered};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tollgate::{
    domain::{
        cell_key::CellKey,
        ids::{IdempotencyKey, MeterName, RunId, TenantId},
        meter::Aggregation,
        period::Period,
        properties::Properties,
        usage::{Durability, UsageEvent},
        window::WindowLabel,
    },
    journal::{Journal, config::JournalConfig, disk::Disk, record::Record},
};
use uuid::Uuid;

/// Appends that wait at the same time.
const IN_FLIGHT: usize = 256;
/// Appends per measured round.
const ROUND: usize = 4 * IN_FLIGHT;

fn event(number: u128) -> UsageEvent {
    UsageEvent {
        key: CellKey {
            tenant: TenantId::new("acme").unwrap(),
            meter: MeterName::new("tokens").unwrap(),
            subject: None,
            label: WindowLabel { period: Period::Month, start: 1_790_812_800, anchor_version: 1 },
        },
        aggregation: Aggregation::Sum,
        amount: 1_234,
        distinct_value: None,
        time: Timestamp::from_second(1_791_000_000).unwrap(),
        idempotency_key: Some(IdempotencyKey::new(Uuid::from_u128(number).to_string()).unwrap()),
        properties: Properties::default(),
        group_by: vec![],
        event_retention_days: 0,
        from_lease: 1_234,
        reservation: None,
        parts: vec![],
        operation: None,
    }
}

fn batch(events: usize) -> Record {
    Record::Usage((0..events as u128).map(event).collect())
}

struct Bench {
    _dir: TempDir,
    journal: Journal,
}

impl Bench {
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal =
            Journal::open(JournalConfig::new(dir.path()), RunId(Uuid::new_v4()), Disk).unwrap();
        Self { _dir: dir, journal }
    }

    /// Deletes what was written, as the flusher does.
    fn release(&self) {
        let synced = *self.journal.synced().borrow();
        self.journal.release(synced).unwrap();
    }

    async fn round(&self, record: &Record, level: Durability, appends: usize, in_flight: usize) {
        let mut waiting = FuturesUnordered::new();
        let append = || self.journal.append(record, level);
        for _ in 0..appends {
            waiting.push(append());
            if waiting.len() == in_flight
                && let Some(position) = waiting.next().await
            {
                black_box(position.unwrap());
            }
        }
        while let Some(position) = waiting.next().await {
            black_box(position.unwrap());
        }
        self.release();
    }
}

fn appends(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let bench = Bench::open();
    let single = batch(1);
    let thousand = batch(1_000);

    let mut group = c.benchmark_group("journal");
    group.sample_size(20);
    group.throughput(Throughput::Elements(ROUND as u64));
    for (name, level) in [
        ("append/sync/256-in-flight", Durability::Sync),
        ("append/written/256-in-flight", Durability::Written),
        ("append/memory", Durability::Memory),
    ] {
        group.bench_function(name, |b| {
            b.to_async(&runtime).iter(|| bench.round(&single, level, ROUND, IN_FLIGHT));
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("append/sync/alone", |b| {
        b.to_async(&runtime).iter(|| bench.round(&single, Durability::Sync, 1, 1));
    });
    group.throughput(Throughput::Elements(16 * 1_000));
    group.bench_function("append/sync/batches-of-1000", |b| {
        b.to_async(&runtime).iter(|| bench.round(&thousand, Durability::Sync, 16, 8));
    });
    group.finish();
}

criterion_group!(benches, appends);
criterion_main!(benches);
