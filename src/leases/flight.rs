//! What a holder remembers of the call under way, of its want, and of the last answer.

use std::time::Duration;

use super::{
    message::Totals,
    step::{Denial, Waiting},
};

/// The call under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub sequence: u64,
    pub epoch: u64,
    pub totals: Totals,
    pub closed: bool,
    pub last: bool,
    /// It was built after the cell was told to part.
    pub parted: bool,
    /// The waiting requests that it asks for.
    pub waiting: Option<Waiting>,
    pub in_hand: u64,
}

/// A want as it goes from call to call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    pub id: u64,
    pub raised_at: Duration,
    /// Amount of the head that the last call asked for.
    pub head: u64,
    /// Since when it has stood first.
    pub first_since: Option<Duration>,
    /// Ticket of the want that stands first, and since when it has been seen there.
    pub behind: Option<(u64, Duration)>,
}

impl Want {
    /// One that nobody has heard of yet.
    pub fn new(id: u64, head: u64, now: Duration) -> Self {
        Self { id, raised_at: now, head, first_since: None, behind: None }
    }
}

/// What the last answer means for a head of at least this amount.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub head: u64,
    pub ruling: Ruling,
}

impl Verdict {
    pub fn is_unavailable(&self) -> bool {
        matches!(self.ruling, Ruling::Unavailable)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Ruling {
    Deny { why: Denial, remaining: u64, at_hand: u64 },
    Unavailable,
}
