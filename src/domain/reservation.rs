//! Holds on a quota for operations whose cost is only known afterwards.

use std::{fmt, str::FromStr};

use jiff::Timestamp;

use super::{ids::RunId, invalid::Invalid};

/// Longest that a sidecar can be configured to hold anything, seconds.
pub const HOLD_S_MAX: u64 = 86_400;

/// Names a hold: the run that keeps it, and its number there.
///
/// The run is part of the id so that any sidecar that is handed one knows whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationId {
    pub run: RunId,
    pub number: u64,
}

impl fmt::Display for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}", self.run, self.number)
    }
}

impl FromStr for ReservationId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parsed = text.split_once('-').and_then(|(run, number)| {
            Some(Self { run: run.parse().ok()?, number: u64::from_str_radix(number, 16).ok()? })
        });
        parsed.ok_or_else(|| {
            Invalid::new(
                "reservation_id",
                format!("{:?} is not a reservation id", text.chars().take(80).collect::<String>()),
                "give the id that the RESERVE answer carried",
            )
        })
    }
}

/// A hold as its holder sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub id: ReservationId,
    /// Units held.
    pub amount: u64,
    /// When the hold lapses by itself.
    pub expires_at: Timestamp,
}
