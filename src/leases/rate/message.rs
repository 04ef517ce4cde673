//! What a sidecar and the shared state of a rate say to each other.

use std::sync::Arc;

use crate::domain::{ids::RunId, rate::RateWindow};

/// Requests that one call asks for: as many as fit into the bits of a number that is exact in
/// Redis' Lua.
pub const ASKS_MAX: usize = 32;

/// What a plan allows of a rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateTerms {
    /// The tenant's version: of two, the higher one's windows hold.
    pub version: u64,
    /// The shortest first, each of another period.
    pub windows: Arc<[RateWindow]>,
}

/// Permits for one request that waits for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    pub permits: u32,
    pub how: AskFor,
}

/// Whether the request is sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskFor {
    /// They are used when they are granted.
    Good,
    /// They may be let go again, so they are lent.
    Keeping,
}

/// One call of a run about a rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateCall {
    pub run: RunId,
    /// Grows with each call of the run about this rate.
    pub sequence: u64,
    /// Permits that the run was ever lent, as far as it knows, less those that it gives back now.
    pub granted: u64,
    /// Of these, those that it has spent or let lapse.
    pub spent: u64,
    /// How long what is lent now may be spent, in microseconds.
    pub lapse_us: u64,
    pub terms: RateTerms,
    /// At most [`ASKS_MAX`], each met whole or not at all.
    pub asks: Vec<Ask>,
    /// Permits to lend in advance, when every request has been met.
    pub ahead: u64,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RateReply {
    /// It was decided.
    Granted(Granted),
    /// A later call of the run came first; nothing was done.
    Overtaken,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Permits that the run was ever lent, these included.
    pub granted: u64,
    /// The requests that were met, one bit each, the first in the lowest.
    pub met: u64,
    /// The debt of each window in force with everything that is held, in nanoseconds.
    pub debts_ns: Vec<u64>,
    /// What the run said it had in hand or held had lapsed before the call came, and was charged.
    pub has_lapsed: bool,
    /// The terms in force, where they are not those of the call.
    pub instead: Option<RateTerms>,
}

impl Granted {
    /// Whether it can be the answer to `call`: it lends what was asked for and no more, and tells of
    /// each window.
    pub fn answers(&self, call: &RateCall) -> bool {
        let least = call.granted.saturating_add(self.kept(call));
        let windows = &self.instead.as_ref().unwrap_or(&call.terms).windows;
        (least..=least.saturating_add(call.ahead)).contains(&self.granted)
            && self.debts_ns.len() == windows.len()
    }

    /// Permits that were lent to requests which wait.
    pub fn kept(&self, call: &RateCall) -> u64 {
        let asks = call.asks.iter().enumerate();
        let kept = asks.filter(|(number, ask)| ask.how == AskFor::Keeping && self.is_met(*number));
        kept.map(|(_, ask)| u64::from(ask.permits)).sum()
    }

    /// Whether the request of that number was met.
    pub fn is_met(&self, number: usize) -> bool {
        self.met >> number & 1 == 1
    }
}
