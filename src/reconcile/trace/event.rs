//! Which event is followed, and what its sources have of it.

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    domain::{
        cell_key::CellKey,
        ids::{IdempotencyKey, RunId, TenantId},
        usage::UsageEvent,
    },
    journal::position::Position,
    ledger::trace::KeptEvent,
};

/// Which event.
#[derive(Clone, Debug)]
pub enum Asked {
    /// The one that a tenant sent under a key.
    Keyed { tenant: TenantId, key: IdempotencyKey },
    /// Those of one record of a run's journal.
    Record { run: RunId, position: Position },
}

/// What is known of an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Stage by stage.
    pub steps: Vec<Step>,
    /// Why it is not even known that there is such an event, where that is so.
    pub unknown: Option<String>,
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

impl Seen {
    /// As a journal has it.
    pub(super) fn of(event: &UsageEvent, received_at: Option<jiff::Timestamp>) -> Self {
        Self {
            key: event.key.clone(),
            event: json!({ "amount": event.amount }),
            at: event.time,
            received_at,
        }
    }
}

impl From<KeptEvent> for Seen {
    fn from(event: KeptEvent) -> Self {
        Self {
            event: json!({ "amount": event.amount, "properties": event.properties }),
            key: event.key,
            at: event.event_at,
            received_at: Some(event.received_at),
        }
    }
}

/// A record of a journal that holds the event.
#[derive(Clone)]
pub(super) struct InJournal {
    pub(super) run: RunId,
    pub(super) position: Position,
    pub(super) event: UsageEvent,
}
