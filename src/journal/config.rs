//! The journal's settings and their bounds.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::invalid::Invalid;

/// Smallest segment, in bytes; smaller ones serve tests.
pub const SEGMENT_BYTES_MIN: u32 = 4 << 10;
/// Largest segment, in bytes: offsets are 32-bit numbers, with room for one oversized record.
pub const SEGMENT_BYTES_MAX: u32 = 1 << 30;
/// Largest body of a record, in bytes. A batch of 100,000 events that carry a UUID as key and two
/// short properties takes about 10 MiB.
pub const RECORD_BYTES_MAX: u32 = 64 << 20;

/// Where the journal lives and how much it may take.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JournalConfig {
    /// Directory of all of this sidecar's data; one process at a time may use it.
    pub data_dir: PathBuf,
    /// Size of a segment in bytes. A record that does not fit gets a segment of its own size.
    pub segment_bytes: u32,
    /// Most bytes of disk that all segments of all runs in `data_dir` may take.
    pub disk_budget_bytes: u64,
    /// Most records that may wait for the writer.
    pub queue_records_max: usize,
    /// Most bytes that may wait for the writer; at least one record is always let in.
    pub queue_bytes_max: usize,
    /// Longest time that a record which nobody waits to see synced stays unsynced, milliseconds.
    pub sync_delay_ms_max: u64,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self::new("tollgate-data")
    }
}

impl JournalConfig {
    /// The defaults for `data_dir`: 64 MiB segments, 8 GiB of disk.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            segment_bytes: 64 << 20,
            disk_budget_bytes: 8 << 30,
            queue_records_max: 1 << 16,
            queue_bytes_max: 128 << 20,
            sync_delay_ms_max: 20,
        }
    }

    /// Checks the settings against their bounds.
    pub fn check(&self) -> Result<(), Invalid> {
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return Err(Invalid::new(
                "segment_bytes",
                format!("is out of range ({})", self.segment_bytes),
                format!("use {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX} bytes"),
            ));
        }
        if self.disk_budget_bytes < u64::from(self.segment_bytes) * 2 {
            return Err(Invalid::new(
                "disk_budget_bytes",
                format!("is too small ({})", self.disk_budget_bytes),
                format!("give room for two segments of {} bytes or more", self.segment_bytes),
            ));
        }
        if self.queue_records_max == 0 || self.queue_bytes_max == 0 {
            return Err(Invalid::new(
                "queue_records_max, queue_bytes_max",
                "must not be 0",
                "let at least one record wait",
            ));
        }
        Ok(())
    }

    pub(super) fn sync_delay_max(&self) -> Duration {
        Duration::from_millis(self.sync_delay_ms_max)
    }
}
