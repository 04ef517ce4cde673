//! What the journal keeps.

use crate::domain::{cell_key::CellKey, usage::UsageEvent};

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
}

impl<'r> From<&'r Record> for RecordRef<'r> {
    fn from(record: &'r Record) -> Self {
        match record {
            Record::CellOpened { key } => Self::CellOpened { key },
            Record::Usage(events) => Self::Usage(events.iter().collect()),
        }
    }
}
