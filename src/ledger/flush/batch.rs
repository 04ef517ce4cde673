//! What a flush hands over: a stretch of one run's journal, with events without a key added up.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    slot::{Slot, floor_to_microsecond},
    sums::Sum,
};
use crate::domain::{cell_key::CellKey, ids::RunId, usage::UsageEvent};

/// Events that a batch should not grow past, keyed ones and raw ones together. A single journal
/// record may hold more; a mark lies between records, so such a record is one batch.
pub const BATCH_EVENTS_MAX: usize = 20_000;
/// Sums that a batch should not grow past.
pub const BATCH_SUMS_MAX: usize = 20_000;

/// A stretch of one run's journal, to be added to the ledger once.
#[derive(Clone, Debug)]
pub struct FlushBatch {
    pub(super) run: RunId,
    pub(super) from: u64,
    pub(super) to: u64,
    /// Absent: the stretch says nothing of what else was acknowledged by when.
    pub(super) through: Option<Timestamp>,
    /// The parts of an operation lie side by side.
    pub(super) keyed: Vec<FlushedEvent>,
    pub(super) unkeyed: BTreeMap<Slot, UnkeyedSum>,
    /// Counters that the run touches, whether or not anything is counted.
    pub(super) opened: BTreeSet<CellKey>,
    raw_unkeyed: usize,
    events: u64,
}

/// An event and the end of its record in the journal.
#[derive(Clone, Debug)]
pub(super) struct FlushedEvent {
    pub(super) position: u64,
    pub(super) event: UsageEvent,
}

/// Events without a key, added up by hour, window and group.
#[derive(Clone, Debug)]
pub(super) struct UnkeyedSum {
    pub(super) sum: Sum,
    /// The end of the last record that went into it.
    pub(super) position: u64,
    /// The events themselves, where the meter keeps them.
    pub(super) raw: Vec<FlushedEvent>,
}

impl FlushedEvent {
    /// Whether the two, which are neighbours in the batch, are parts of one operation.
    pub(super) fn is_of_same_operation(&self, other: &Self) -> bool {
        self.position == other.position && self.event.is_of_same_operation(&other.event)
    }
}

impl FlushBatch {
    /// An empty batch of `run` that begins at its high-water mark `from`.
    pub fn new(run: RunId, from: u64) -> Self {
        Self {
            run,
            from,
            to: from,
            through: None,
            keyed: Vec::new(),
            unkeyed: BTreeMap::new(),
            opened: BTreeSet::new(),
            raw_unkeyed: 0,
            events: 0,
        }
    }

    /// Adds an event of the record that ends at `position`.
    pub fn push(&mut self, position: u64, mut event: UsageEvent) {
        event.time = floor_to_microsecond(event.time);
        self.events += 1;
        self.to = self.to.max(position);
        if event.idempotency_key.is_some() {
            self.keyed.push(FlushedEvent { position, event });
            return;
        }
        let sum = Sum::of(&event);
        let unkeyed = match self.unkeyed.entry(Slot::of(&event)) {
            std::collections::btree_map::Entry::Occupied(entry) => {
                let unkeyed = entry.into_mut();
                unkeyed.sum.add(&sum);
                unkeyed.position = position;
                unkeyed
            }
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(UnkeyedSum { sum, position, raw: Vec::new() })
            }
        };
        if event.event_retention_days > 0 {
            unkeyed.raw.push(FlushedEvent { position, event });
            self.raw_unkeyed += 1;
        }
    }

    /// Notes that the run touches a counter, so that whoever closes the run knows all of them.
    pub fn open(&mut self, position: u64, key: CellKey) {
        self.to = self.to.max(position);
        self.opened.insert(key);
    }

    /// Moves the end of the batch to `position`, past records that are not usage, and says that
    /// everything acknowledged until `through` (real time) lies before it.
    pub fn advance(&mut self, position: u64, through: Timestamp) {
        self.to = self.to.max(position);
        self.through = self.through.max(Some(through));
    }

    /// Where the run's mark stands once the batch is flushed.
    pub fn end(&self) -> u64 {
        self.to
    }

    /// Number of events in it.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Whether it should be flushed before anything more is added.
    pub fn is_full(&self) -> bool {
        self.keyed.len() + self.raw_unkeyed >= BATCH_EVENTS_MAX
            || self.unkeyed.len() >= BATCH_SUMS_MAX
    }

    /// Whether flushing it would not even move the mark.
    pub fn is_empty(&self) -> bool {
        self.to == self.from
    }
}
