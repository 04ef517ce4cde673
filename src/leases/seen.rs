//! What an answer says of a key as a whole.

use serde::{Deserialize, Serialize};

use super::message::{Ceiling, Counted, Outcome};

/// How full a key was, and by which ceiling it went: more than the larger of the two is never taken
/// of it before it learns a higher one, unless usage is recorded without escrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub ceiling: Ceiling,
    /// Used, outstanding and forfeited units of all runs.
    pub taken: u64,
}

impl Seen {
    /// Nothing can be said of a key without a ceiling, nor of one that does not know of all that is
    /// taken, since its epoch is not recovered.
    pub fn of(counted: &Counted) -> Option<Self> {
        if counted.outcome == Outcome::Recovering {
            return None;
        }
        let ceiling = counted.ceiling;
        let taken = ceiling.units?.cast_signed().saturating_sub(counted.free);
        Some(Self { ceiling, taken: taken.max(0).cast_unsigned() })
    }
}
