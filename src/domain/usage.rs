//! What was used: events as callers send them, and as the journal and the ledger keep them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    catalog::names::OperationName,
    cell_key::CellKey,
    ids::{IdempotencyKey, MeterName, Subject, TenantId},
    meter::Aggregation,
    properties::Properties,
    reservation::ReservationId,
};

/// What an acknowledgement survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Nothing but a graceful stop; not offered for hard limits.
    Memory,
    /// The process: written to the kernel.
    Written,
    /// The host: synced to disk.
    Sync,
}

impl Durability {
    /// The least level that an acknowledgement survives a crash with.
    pub fn least_surviving(crash: Crash) -> Self {
        match crash {
            // The kernel keeps what was written.
            Crash::Process => Self::Written,
            Crash::Host => Self::Sync,
        }
    }
}

/// What crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    Process,
    Host,
}

/// One usage event as a caller reports it.
#[derive(Clone, Debug)]
pub struct UsageReport {
    pub tenant: TenantId,
    pub meter: MeterName,
    pub subject: Option<Subject>,
    /// Base units; negative only on level meters.
    pub amount: i64,
    pub idempotency_key: Option<IdempotencyKey>,
    /// When it happened; absent = the tenant's now.
    pub time: Option<Timestamp>,
    pub properties: Properties,
    /// The hold that this usage settles.
    pub reservation: Option<ReservationId>,
}

/// The acknowledgement of a batch: every event of it is recorded, as durable as was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordReceipt {
    /// Events recorded now.
    pub accepted: u64,
    /// Events that were known to be repeats; not counted again.
    pub duplicates: u64,
    /// Of those recorded: events that name a hold which had ended, or is another run's.
    pub late: u64,
}

/// One usage event as it is journalled: validated, labelled, and final.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageEvent {
    /// Which counter it belongs to.
    pub key: CellKey,
    /// How the meter aggregates, so that the ledger needs no catalog to add it up.
    pub aggregation: Aggregation,
    /// What the caller said, in base units; the value itself for `max` and `last`.
    pub amount: i64,
    /// The value counted by a distinct-count meter.
    pub distinct_value: Option<String>,
    /// When it happened.
    pub time: Timestamp,
    pub idempotency_key: Option<IdempotencyKey>,
    pub properties: Properties,
    /// The meter's group-by properties that rollups are kept by.
    pub group_by: Vec<String>,
    /// Days that the raw event is kept in the ledger; 0 keeps none.
    pub event_retention_days: u16,
    /// Units that were taken from escrow for it before it was acknowledged. The rest of what it
    /// adds to the counter was recorded without admission.
    pub from_lease: u64,
    /// The hold that it settled.
    pub reservation: Option<ReservationId>,
    /// What other counters covered of it; the rest is `key`'s. Of a level that goes down: where it
    /// may come free, in order, without units; the last takes what the others do not, and without
    /// parts it is all `key`'s.
    pub parts: Vec<Part>,
    /// The operation that it is a part of. The parts of one operation are in one record, one behind
    /// the other, with the operation's key, and count together or not at all.
    pub operation: Option<OperationName>,
}

/// Units of an event that count in another counter than the event's own: a grant or a pool has
/// covered them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub key: CellKey,
    /// Base units.
    pub units: u64,
    /// Of `units`, what was recorded without admission; the rest was taken from escrow.
    pub recorded: u64,
}

impl UsageEvent {
    /// Whether both are parts of one operation, when one record has them side by side.
    pub fn is_of_same_operation(&self, other: &Self) -> bool {
        self.operation.is_some()
            && (&self.operation, &self.idempotency_key, &self.key.tenant)
                == (&other.operation, &other.idempotency_key, &other.key.tenant)
    }

    /// Units that other counters cover.
    pub fn covered(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.units))
    }

    /// Units that the event lowers a level by.
    pub fn lowers(&self) -> u64 {
        match self.aggregation {
            Aggregation::Sum => self.amount.min(0).unsigned_abs(),
            _ => 0,
        }
    }

    /// Units that the event adds to a summed counter (negative: a level went down).
    pub fn counted(&self) -> i64 {
        match self.aggregation {
            Aggregation::Count => 1,
            _ => self.amount,
        }
    }
}

/// What an operation is recognised by when it is repeated: its name and all that it takes. Absent
/// where `parts` are not an operation's.
pub fn operation_content<'a>(parts: impl IntoIterator<Item = &'a UsageEvent>) -> Option<String> {
    let mut parts = parts.into_iter().peekable();
    let operation = parts.peek()?.operation.as_ref()?;
    let of_part = |part: &'a UsageEvent| (&part.key.meter, &part.key.subject, part.amount);
    let mut taken: Vec<_> = parts.map(of_part).collect();
    // Another version of the catalog may take the same in another order.
    taken.sort_unstable();
    let mut content = operation.to_string();
    for (meter, subject, amount) in taken {
        content.push_str(&format!(", {amount} of {meter}"));
        if let Some(subject) = subject {
            content.push_str(&format!(" for {:?}", subject.as_str()));
        }
    }
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(meter: &str, subject: Option<&str>, amount: i64) -> UsageEvent {
        UsageEvent {
            key: CellKey {
                tenant: TenantId::new("acme").unwrap(),
                meter: MeterName::new(meter).unwrap(),
                subject: subject.map(|subject| Subject::new(subject).unwrap()),
                label: "month:0:1".parse().unwrap(),
            },
            aggregation: Aggregation::Sum,
            amount,
            distinct_value: None,
            time: Timestamp::UNIX_EPOCH,
            idempotency_key: Some(IdempotencyKey::new("k").unwrap()),
            properties: Properties::default(),
            group_by: vec![],
            event_retention_days: 0,
            from_lease: 0,
            reservation: None,
            parts: vec![],
            operation: Some(OperationName::new("ask").unwrap()),
        }
    }

    #[test]
    fn an_operation_is_recognised_by_its_name_and_all_that_it_takes_in_any_order() {
        let parts = [part("tokens", Some("ann"), 12), part("jobs", None, 1)];
        let content = operation_content(&parts).unwrap();
        assert_eq!(content, "ask, 1 of jobs, 12 of tokens for \"ann\"");
        let [tokens, jobs] = parts.clone();
        assert_eq!(operation_content([&jobs, &tokens]), Some(content.clone()));
        assert_ne!(operation_content(&parts[..1]), Some(content));
        let single = UsageEvent { operation: None, ..parts[0].clone() };
        assert_eq!(operation_content(&[single]), None);
    }

    #[test]
    fn events_of_no_operation_never_belong_together() {
        let of_operation = part("tokens", None, 1);
        let single = UsageEvent { operation: None, ..of_operation.clone() };
        assert!(of_operation.is_of_same_operation(&part("jobs", None, 9)));
        assert!(!single.is_of_same_operation(&single.clone()));
        assert!(!of_operation.is_of_same_operation(&single));
        let key = IdempotencyKey::new("other").unwrap();
        let other = UsageEvent { idempotency_key: Some(key), ..of_operation.clone() };
        assert!(!of_operation.is_of_same_operation(&other));
    }
}
