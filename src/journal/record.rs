//! What the journal keeps.

use jiff::Timestamp;

use crate::domain::{
    catalog::names::OperationName, cell_key::CellKey, meter::Meter, usage::UsageEvent,
};

/// One record: written whole or not at all.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The run is about to call the shared store about a counter for the first time.
    CellOpened {
        /// The counter.
        key: CellKey,
    },
    /// A batch of events, acknowledged as one.
    Usage(Vec<UsageEvent>),
}

/// A record of values that lie elsewhere.
#[derive(Clone, Debug)]
pub enum RecordRef<'r> {
    /// As [`Record::CellOpened`].
    CellOpened { key: &'r CellKey },
    /// As [`Record::Usage`].
    Usage(Vec<&'r UsageEvent>),
    /// A [`Record::Usage`] of events that have no counter in common.
    Plain(&'r [PlainEvent<'r>]),
}

/// An event of which there is nothing more to say, as most are: all else of it is empty.
#[derive(Clone, Copy, Debug)]
pub struct PlainEvent<'r> {
    /// The counter's.
    pub key: &'r CellKey,
    /// Whose values are added up.
    pub meter: &'r Meter,
    /// Base units.
    pub amount: i64,
    /// Base units that were taken from escrow.
    pub from_lease: u64,
    /// When it happened.
    pub time: Timestamp,
    /// Empty where there is none.
    pub idempotency_key: &'r str,
    /// The operation that it is a part of.
    pub operation: Option<&'r OperationName>,
}

impl<'r> From<&'r Record> for RecordRef<'r> {
    fn from(record: &'r Record) -> Self {
        match record {
            Record::CellOpened { key } => Self::CellOpened { key },
            Record::Usage(events) => Self::Usage(events.iter().collect()),
        }
    }
}
