//! Places in a run's journal.

use std::fmt;

/// A place between two records: everything before it comes earlier in the journal.
///
/// The position of a record is that of its *end*, so that `synced >= position` says that the
/// record is on disk, and a mark that equals it says that the record is dealt with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Number of the segment, counted from 1.
    pub segment: u32,
    /// Bytes from the segment's start.
    pub offset: u32,
}

impl Position {
    /// Before the first record.
    pub const START: Self = Self { segment: 0, offset: 0 };
}

impl From<Position> for u64 {
    /// Keeps the order, so that a mark in the ledger can be compared as a number.
    fn from(position: Position) -> Self {
        u64::from(position.segment) << 32 | u64::from(position.offset)
    }
}

impl From<u64> for Position {
    fn from(mark: u64) -> Self {
        // The two halves of the number: both casts keep all of their 32 bits.
        Self { segment: (mark >> 32) as u32, offset: mark as u32 }
    }
}

/// Where one record is, or will be.
///
/// A place beyond what is written is taken back when the disk has no room for the next segment; the
/// record is gone then, and the place is given to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    pub position: Position,
    /// How often places had been taken back when this one was given: another time, and this one may
    /// be among them. `None` = the record is written, and the place its own.
    pub rewinds: Option<u64>,
}

impl RecordPlace {
    /// What both records can be waited for by.
    pub fn and(self, other: Self) -> Self {
        let rewinds = self.rewinds.into_iter().chain(other.rewinds).min();
        Self { position: self.position.max(other.position), rewinds }
    }

    /// Whether the record may be gone, after places were taken back so often.
    pub fn may_be_lost(&self, rewinds: u64) -> bool {
        self.rewinds.is_some_and(|before| rewinds > before)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_mark_keeps_the_order_and_reads_back(a: (u32, u32), b: (u32, u32)) {
            let a = Position { segment: a.0, offset: a.1 };
            let b = Position { segment: b.0, offset: b.1 };
            proptest::prop_assert_eq!(u64::from(a).cmp(&u64::from(b)), a.cmp(&b));
            proptest::prop_assert_eq!(Position::from(u64::from(a)), a);
        }
    }
}
