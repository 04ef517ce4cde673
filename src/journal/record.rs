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
