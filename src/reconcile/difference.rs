//! What does not say the same.

use std::fmt;

use serde::Serialize;

use crate::domain::{
    cell_key::CellKey,
    ids::{MeterName, Subject, TenantId},
    window::WindowLabel,
};

/// What is compared with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Leg {
    /// The shared counters in Redis with the ledger.
    Counters,
    /// Rollups by the hour with the raw events that are kept.
    Events,
    /// Windows' totals with rollups, runs' totals, grants and pools.
    Totals,
    /// Charges with rollups and plan versions.
    Charges,
    /// Journals in a sidecar's data directory with what runs have flushed.
    Journals,
}

impl Leg {
    /// As reports and flags name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counters => "counters",
            Self::Events => "events",
            Self::Totals => "totals",
            Self::Charges => "charges",
            Self::Journals => "journals",
        }
    }
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What to make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Something is wrong.
    Differs,
    /// It still moves, so that nothing can be said yet.
    InFlight,
    /// It is as it should be, and worth knowing.
    Expected,
}

/// Which counter, as far as it is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// A tenant, or the owner of a pool's counters.
    pub tenant: TenantId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meter: Option<MeterName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// Absent where several windows are added up.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub window: Option<WindowLabel>,
}

fn as_text<S: serde::Serializer>(
    label: &Option<WindowLabel>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    label.map(|label| label.to_string()).serialize(serializer)
}

impl From<CellKey> for Place {
    fn from(key: CellKey) -> Self {
        let CellKey { tenant, meter, subject, label } = key;
        Self { tenant, meter: Some(meter), subject, window: Some(label) }
    }
}

/// What one side says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Figure {
    /// Who says it (`usage_hourly`).
    pub of: String,
    /// Base units, a number, or an amount of money.
    pub says: String,
}

impl Figure {
    /// What `of` says.
    pub fn new(of: impl Into<String>, says: impl fmt::Display) -> Self {
        Self { of: of.into(), says: says.to_string() }
    }
}

/// Two sides that do not say the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub leg: Leg,
    #[serde(flatten)]
    pub place: Place,
    /// What is compared.
    pub what: String,
    /// The side that the other follows from.
    pub expected: Figure,
    pub found: Figure,
    pub standing: Standing,
    /// What came of mending it, where that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mending: Option<Mending>,
}

/// What came of mending a difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mending {
    Mended,
    /// It stands, because.
    NotMended(String),
}
