//! What is counted, and how single values become one number.

use serde::{Deserialize, Serialize};

use super::ids::MeterName;

/// Whether a meter runs, moves or is only read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MeterKind {
    /// Usage adds up within a window and starts again with the next.
    Counter,
    /// A level goes up and down (seats, stored bytes) and never starts again.
    Level,
    /// A limit that is only read (days of retention); nothing is recorded.
    Static,
}

/// How a window's events become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// The sum of the amounts.
    Sum,
    /// The number of events, whatever their amounts.
    Count,
    /// The largest amount.
    Max,
    /// The amount of the latest event, by event time.
    Last,
    /// The number of distinct values of one property ([`Meter::distinct_property`]).
    DistinctCount,
}

/// One meter of a catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    pub name: MeterName,
    pub kind: MeterKind,
    pub aggregation: Aggregation,
    /// The base unit, in the singular (`byte`, `token`, `call`).
    pub unit: String,
    /// The property whose distinct values are counted; present exactly with
    /// [`Aggregation::DistinctCount`].
    pub distinct_property: Option<String>,
    /// Properties that rollups are kept by, besides the total.
    pub group_by: Vec<String>,
    /// Days that raw events are kept in the ledger; 0 keeps none.
    pub event_retention_days: u16,
}

impl Meter {
    /// Whether consumption is a sum that escrow can serve: sums, counts and levels.
    pub fn is_summed(&self) -> bool {
        matches!(self.aggregation, Aggregation::Sum | Aggregation::Count)
    }
}
