//! The journal's metrics, registered once.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::intake::Depth;
use crate::domain::usage::Durability;

/// How an append ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged at its level.
    Kept,
    /// Certainly not kept.
    Refused,
    /// The writer stopped over it.
    Uncertain,
}

/// Handles of the journal's metrics.
pub struct JournalMetrics {
    appends: [[Counter; 3]; 3],
    sync_seconds: Histogram,
    written_bytes: Counter,
    disk_bytes: Gauge,
    segments: Gauge,
    queue_records: Gauge,
    queue_bytes: Gauge,
}

impl JournalMetrics {
    /// Registers the metrics with the recorder that is installed now.
    pub fn register() -> Self {
        let appends = |durability: &'static str| {
            ["kept", "refused", "uncertain"].map(|outcome| {
                counter!(
                    "tollgate_journal_appends_total",
                    "durability" => durability,
                    "outcome" => outcome
                )
            })
        };
        Self {
            appends: ["memory", "written", "sync"].map(appends),
            sync_seconds: histogram!("tollgate_journal_sync_seconds"),
            written_bytes: counter!("tollgate_journal_written_bytes_total"),
            disk_bytes: gauge!("tollgate_journal_disk_bytes"),
            segments: gauge!("tollgate_journal_segments"),
            queue_records: gauge!("tollgate_journal_queue_records"),
            queue_bytes: gauge!("tollgate_journal_queue_bytes"),
        }
    }

    /// Counts `records` appends that ended the same way.
    pub fn appended(&self, level: Durability, outcome: Outcome, records: u64) {
        let level = match level {
            Durability::Memory => 0,
            Durability::Written => 1,
            Durability::Sync => 2,
        };
        let outcome = match outcome {
            Outcome::Kept => 0,
            Outcome::Refused => 1,
            Outcome::Uncertain => 2,
        };
        self.appends[level][outcome].increment(records);
    }

    /// One sync took `elapsed`.
    pub fn synced(&self, elapsed: Duration) {
        self.sync_seconds.record(elapsed);
    }

    /// One write of `bytes`.
    pub fn wrote(&self, bytes: usize) {
        self.written_bytes.increment(bytes as u64);
    }

    /// What is in the queue and on disk.
    pub fn depth(&self, depth: Depth, disk_bytes: u64) {
        self.queue_records.set(depth.records as f64);
        self.queue_bytes.set(depth.bytes as f64);
        self.segments.set(depth.segments as f64);
        self.disk_bytes.set(disk_bytes as f64);
    }
}
