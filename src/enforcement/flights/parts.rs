//! What the driver stands on in a world.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use super::time::SimulatedTime;
use crate::{
    clock::Clock,
    domain::{
        cell_key::CellKey,
        period::Period,
        window::{Window, WindowLabel},
    },
    enforcement::{
        directory::{Directory, Source},
        embedded::EmbeddedTotals,
        fence::Fence,
        floors::Floors,
        lease_metrics::LeaseMetrics,
        leasing::Leasing,
        retention::KeyRetentions,
        run_time::RunTime,
    },
    journal::{
        disk::Disk,
        embedded::{EmbeddedConfig, EmbeddedStore},
    },
    leases::{holder::HolderSeed, message::Epoch},
    store::{LocalCounters, counters::Counters, far::Way},
};

/// What drives the counter, which calls the other side by `way`.
pub(super) fn leasing(
    way: Way,
    epoch: watch::Receiver<Option<Epoch>>,
    seed: HolderSeed,
    time: &SimulatedTime,
) -> Leasing {
    let clock = Clock::manual(Timestamp::UNIX_EPOCH);
    let directory = Arc::new(Directory::new(Source::File(Arc::default()), None));
    Leasing {
        seed,
        counters: Counters::Local(LocalCounters::far(way)),
        floors: floors(),
        opened_keys: None,
        epoch,
        epoch_doubt: Notify::new(),
        untold_values: Arc::default(),
        retentions: KeyRetentions { directory, clock, is_local: true },
        fence: Fence::default(),
        tasks: TaskTracker::new(),
        time: RunTime::Simulated(time.clone()),
        denial_cache: Duration::from_secs(1),
        metrics: LeaseMetrics::register(),
    }
}

/// Of a ledger that has never counted anything.
fn floors() -> Floors {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&EmbeddedConfig::default(), dir.path(), Disk).unwrap();
    Floors::Embedded { totals: EmbeddedTotals::default(), store: Arc::new(Mutex::new(store)) }
}

/// A key, and its window.
pub(super) fn cell() -> (CellKey, Window) {
    let label = WindowLabel { period: Period::Lifetime, start: 0, anchor_version: 0 };
    let key = CellKey {
        tenant: "acme".parse().unwrap(),
        meter: "calls".parse().unwrap(),
        subject: None,
        label,
    };
    (key, Window { label, start: Timestamp::UNIX_EPOCH, end: None })
}
