//! What the journal keeps.

use jiff::Timestamp;

use crate::domain::{
    cell_key::CellKey, ids::IdempotencyKey, properties::Properties, reservation::ReservationId,
    usage::UsageEvent,
};

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
    /// Units were held.
    Reserved(Reserved),
    /// A hold ended without usage; one that was settled ends with the event that names it.
    ReservationEnded {
        /// The hold.
        id: ReservationId,
        /// How it ended.
        outcome: ReservationOutcome,
    },
}

/// A hold, with what an answer to a repeat of its request needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Reserved {
    pub id: ReservationId,
    pub key: CellKey,
    /// Base units held.
    pub amount: u64,
    /// When the hold lapses by itself.
    pub expires_at: Timestamp,
    pub idempotency_key: Option<IdempotencyKey>,
    pub properties: Properties,
}

/// How a hold ended without usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReservationOutcome {
    /// The caller gave it back.
    Released,
    /// Its time ran out.
    Expired,
}
