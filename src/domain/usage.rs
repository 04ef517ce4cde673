//! What was used: events as callers send them, and as the journal and the ledger keep them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    cell_key::CellKey,
    ids::{IdempotencyKey, MeterName, Subject, TenantId},
    meter::Aggregation,
    properties::Properties,
    reservation::ReservationId,
};

/// What an acknowledgement survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Nothing but a graceful stop; not offered for hard limits.
    Memory,
    /// The process: written to the kernel.
    Written,
    /// The host: synced to disk.
    Sync,
}

/// One usage event as a caller reports it.
#[derive(Clone, Debug)]
pub struct UsageReport {
    pub tenant: TenantId,
    pub meter: MeterName,
    pub subject: Option<Subject>,
    /// Base units; negative only on level meters.
    pub amount: i64,
    pub idempotency_key: Option<IdempotencyKey>,
    /// When it happened; absent = the tenant's now.
    pub time: Option<Timestamp>,
    pub properties: Properties,
    /// The hold that this usage settles.
    pub reservation: Option<ReservationId>,
}

/// The acknowledgement of a batch: every event of it is recorded, as durable as was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordReceipt {
    /// Events recorded now.
    pub accepted: u64,
    /// Events that were known to be repeats; not counted again.
    pub duplicates: u64,
}

/// One usage event as it is journalled: validated, labelled, and final.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageEvent {
    /// Which counter it belongs to.
    pub key: CellKey,
    /// How the meter aggregates, so that the ledger needs no catalog to add it up.
    pub aggregation: Aggregation,
    /// What the caller said, in base units; the value itself for `max` and `last`.
    pub amount: i64,
    /// The value counted by a distinct-count meter.
    pub distinct_value: Option<String>,
    /// When it happened.
    pub time: Timestamp,
    pub idempotency_key: Option<IdempotencyKey>,
    pub properties: Properties,
    /// The meter's group-by properties that rollups are kept by.
    pub group_by: Vec<String>,
    /// Days that the raw event is kept in the ledger; 0 keeps none.
    pub event_retention_days: u16,
    /// Units that were taken from escrow for it before it was acknowledged. The rest of what it
    /// adds to the counter was recorded without admission.
    pub from_lease: u64,
    /// The hold that it settled.
    pub reservation: Option<ReservationId>,
    /// What other counters covered of it; the rest is `key`'s. Of a level that goes down: where it
    /// may come free, in order, without units; the last takes what the others do not, and without
    /// parts it is all `key`'s.
    pub parts: Vec<Part>,
}

/// Units of an event that count in another counter than the event's own: a grant or a pool has
/// covered them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub key: CellKey,
    /// Base units.
    pub units: u64,
    /// Of `units`, what was recorded without admission; the rest was taken from escrow.
    pub recorded: u64,
}

impl UsageEvent {
    /// Units that other counters cover.
    pub fn covered(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.units))
    }

    /// Units that the event lowers a level by.
    pub fn lowers(&self) -> u64 {
        match self.aggregation {
            Aggregation::Sum => self.amount.min(0).unsigned_abs(),
            _ => 0,
        }
    }

    /// Units that the event adds to a summed counter (negative: a level went down).
    pub fn counted(&self) -> i64 {
        match self.aggregation {
            Aggregation::Count => 1,
            _ => self.amount,
        }
    }
}
