//! Which event is followed, and what its sources have of it.

use serde::Serialize;
use serde_json::Value;

use crate::{
    domain::{
        cell_key::CellKey,
        ids::{IdempotencyKey, RunId, TenantId},
        usage::UsageEvent,
    },
    journal::position::Position,
};

/// Which event.
#[derive(Clone, Debug)]
pub enum Asked {
    /// The one that a tenant sent under a key.
    Keyed { tenant: TenantId, key: IdempotencyKey },
    /// Those of one record of a run's journal.
    Record { run: RunId, position: Position },
}

/// One stage of the way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// `journal`, `flush`, `key`, `quarantine`, `event`, `window`, `rollup` or `charge`.
    pub stage: &'static str,
    /// For people.
    pub says: String,
    /// For programs.
    pub facts: Value,
}

/// An event as one of its sources has it.
pub(super) struct Seen {
    pub(super) key: CellKey,
    pub(super) event: Value,
    pub(super) at: jiff::Timestamp,
    pub(super) received_at: Option<jiff::Timestamp>,
}

/// A record of a journal that holds the event.
pub(super) struct InJournal {
    pub(super) run: RunId,
    pub(super) position: Position,
    pub(super) event: UsageEvent,
}
