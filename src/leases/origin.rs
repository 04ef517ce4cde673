//! What a key was founded on.

/// What a key was founded on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// On nothing: it is a stub that only remembers what a floor must contain.
    Stub {
        /// The least `closed_seq` of an acceptable floor.
        closed_seq_min: u64,
    },
    /// What the floor brought, and what was folded into it since.
    Floor {
        /// Runs closed up to here were in the floor.
        closed_seq: u64,
        /// Usage of closed runs.
        base: i64,
    },
}

impl Origin {
    /// Usage of closed runs.
    pub fn base(self) -> i64 {
        match self {
            Self::Stub { .. } => 0,
            Self::Floor { base, .. } => base,
        }
    }

    /// The least `closed_seq` of a floor that it may be founded on yet.
    pub fn closed_seq_min(self) -> u64 {
        match self {
            Self::Stub { closed_seq_min } => closed_seq_min,
            Self::Floor { .. } => 0,
        }
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self::Stub { closed_seq_min: 0 }
    }
}
