//! What `compare` measures, and what is aimed at.

use crate::{
    calls::{Call, Durability},
    run::Load,
};

/// Tenants of most scenarios, drawn by Zipf's law.
pub const TENANTS: usize = 10_000;
/// What the tenants' ids start with.
const PREFIX: &str = "load-";

/// What is aimed at, beside the fastest do-nothing server of tonic alone, in the same run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// CPU of the server per request, as a multiple of the do-nothing server's.
    CpuAtMost(f64),
    /// Requests a second, as a multiple of the do-nothing server's.
    ThroughputAtLeast(f64),
    /// 99th percentile of the latency, as a multiple of the do-nothing server's.
    P99AtMost(f64),
    /// Events a second.
    EventsAtLeast(f64),
    /// CPU of the server per event or check, in microseconds.
    CpuPerEventAtMost(f64),
    /// 99th percentile of the latency: so many times what a sync takes the disk, and milliseconds
    /// beside.
    P99AtMostSyncs { syncs: f64, beside_ms: f64 },
}

/// One way of loading a server.
pub struct Scenario {
    pub name: &'static str,
    pub over_unix: bool,
    pub load: Load,
    /// None: the row is for comparison.
    pub aims: Vec<Aim>,
    /// Who can be asked this, too.
    pub peers: &'static [Peer],
}

/// A server of another design that can be asked some of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// One script in Redis for every check.
    Naive,
    /// Somebody else's server of rates.
    Throttlecrab,
}

/// What is aimed at where one sidecar is measured by itself (`scale`).
pub mod alone {
    use std::time::Duration;

    /// Few tenants, and many.
    pub const TENANTS_FEW: usize = 1_000;
    pub const TENANTS_MANY: usize = 1_000_000;
    /// Requests a second with many tenants, as a multiple of those with few.
    pub const GROWTH_MIN: f64 = 0.6;
    /// Tenants that a sidecar knows when it starts.
    pub const TENANTS_AT_START: usize = 100_000;
    /// How long the first right answer may take after the process was started.
    pub const START_MAX: Duration = Duration::from_secs(2);
    /// Resident memory of an active tenant and meter, all told, in bytes.
    pub const ACTIVE_BYTES_MAX: f64 = 400.0;
}

impl Scenario {
    fn new(name: &'static str, load: Load, aims: impl Into<Vec<Aim>>) -> Self {
        Self { name, over_unix: false, load, aims: aims.into(), peers: &[] }
    }

    fn over_unix(self) -> Self {
        Self { over_unix: true, ..self }
    }

    fn also(self, peers: &'static [Peer]) -> Self {
        Self { peers, ..self }
    }
}

/// The load that most of them vary.
pub fn check(seconds: f64) -> Load {
    Load {
        call: Call::Check,
        meter: "tokens".into(),
        tenants: TENANTS,
        zipf: true,
        tenant_prefix: PREFIX.into(),
        amount: 1,
        batch: 1,
        durability: Durability::Sync,
        token: None,
        keys: false,
        connections: 4,
        in_flight: 16,
        rate: None,
        warmup: 0.5,
        seconds,
        threads: 1,
    }
}

/// All of them, each measured for `seconds`.
pub fn scenarios(seconds: f64) -> Vec<Scenario> {
    let check = check(seconds);
    let other = |call| Load { call, ..check.clone() };
    let soft =
        Load { meter: "soft".into(), durability: Durability::Memory, ..other(Call::Consume) };
    let written = Load { durability: Durability::Written, ..other(Call::Consume) };
    let synced = Load { in_flight: 64, ..other(Call::Consume) };
    let record = Load { keys: true, in_flight: 64, ..other(Call::Record) };
    let batches = Load { batch: 1_000, in_flight: 4, ..record.clone() };
    let alone = Load { connections: 1, in_flight: 1, ..check.clone() };
    let paced = Load { rate: Some(20_000.0), in_flight: 64, ..check.clone() };
    let operation = Load { durability: Durability::Written, ..other(Call::Operation) };
    let checks = Load { batch: 1_000, in_flight: 4, ..other(Call::Batch) };
    let [rate, feature, stream] = [Call::Rate, Call::Feature, Call::Stream].map(other);
    let on_par = [Aim::CpuAtMost(1.15)];
    let half_as_many = Aim::ThroughputAtLeast(0.5);
    vec![
        Scenario::new("CheckQuota CHECK, TCP", check.clone(), on_par).also(&[Peer::Naive]),
        Scenario::new("CheckQuota CHECK, Unix socket", check, on_par).over_unix(),
        Scenario::new("CheckQuota CHECK, TCP, one at a time", alone.clone(), [])
            .also(&[Peer::Naive]),
        Scenario::new("CheckQuota CHECK, Unix socket, one at a time", alone, []).over_unix(),
        Scenario::new("CheckQuota CHECK, TCP, 20,000/s", paced, [Aim::P99AtMost(1.2)])
            .also(&[Peer::Naive]),
        Scenario::new("CheckQuota CONSUME, soft, memory, TCP", soft.clone(), on_par),
        Scenario::new("CheckQuota CONSUME, soft, memory, Unix socket", soft, on_par).over_unix(),
        Scenario::new("CheckQuota CONSUME, written, TCP", written, [Aim::CpuAtMost(1.35)])
            .also(&[Peer::Naive]),
        Scenario::new("CheckQuota CONSUME, sync, TCP, 256 in flight", synced, [half_as_many]),
        Scenario::new("CheckStream of CheckQuota CHECK, TCP", stream, [Aim::CpuAtMost(1.5)]),
        Scenario::new("CheckRateLimit CONSUME, TCP", rate, []).also(&[Peer::Throttlecrab]),
        Scenario::new("CheckFeature, TCP", feature, []),
        Scenario::new(
            "Check CONSUME of an operation, written, TCP",
            operation,
            [Aim::CpuAtMost(1.5)],
        ),
        Scenario::new("CheckBatch of 1,000, TCP", checks, [Aim::CpuPerEventAtMost(0.4)]),
        Scenario::new(
            "RecordUsage of 1, sync, TCP, 256 in flight",
            record,
            [half_as_many, Aim::P99AtMostSyncs { syncs: 2.0, beside_ms: 2.0 }],
        ),
        Scenario::new("RecordUsage of 1,000, sync, TCP", batches, [Aim::EventsAtLeast(1e6)]),
    ]
}
