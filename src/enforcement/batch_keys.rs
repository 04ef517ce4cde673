//! The keys of a batch: which of its events are the first with theirs, and in which order they claim
//! them.

use super::{
    error::EngineError,
    quota::conflict,
    repeats::{Asked, Content, ContentRef, KeyHash, Name, Repeats, Verb},
};
use crate::{
    domain::{ids::IdempotencyKey, invalid::Problems, usage::UsageEvent},
    journal::position::RecordPlace,
};

/// An event that has a key.
pub(super) struct Keyed<'a> {
    pub hash: KeyHash,
    /// Its number in the batch.
    pub number: usize,
    event: &'a UsageEvent,
    key: &'a IdempotencyKey,
}

impl<'a> Keyed<'a> {
    pub fn asked(&self) -> Asked<'a> {
        let name = Name { tenant: &self.event.key.tenant, verb: Verb::Use, key: self.key };
        Asked { name, content: content(self.event) }
    }
}

/// The events that are the first of the batch with their keys, in an order that all batches share:
/// two batches that have keys in common claim them in the same order, so neither waits for the other
/// for ever. And the numbers of those that repeat an earlier one.
pub(super) fn batch_keys<'a>(
    repeats: &Repeats<RecordPlace>,
    events: impl ExactSizeIterator<Item = &'a UsageEvent>,
) -> Result<(Vec<Keyed<'a>>, Vec<usize>), EngineError> {
    let mut keyed = Vec::with_capacity(events.len());
    for (number, event) in events.enumerate() {
        let Some(key) = &event.idempotency_key else { continue };
        let hash = repeats.hash(&Name { tenant: &event.key.tenant, verb: Verb::Use, key });
        keyed.push(Keyed { hash, number, event, key });
    }
    let name = |one: &Keyed<'a>| (&one.event.key.tenant, one.key);
    keyed.sort_unstable_by(|a, b| {
        let by_name = || name(a).cmp(&name(b)).then(a.number.cmp(&b.number));
        a.hash.cmp(&b.hash).then_with(by_name)
    });
    let (mut repeated, mut conflicting) = (vec![], vec![]);
    keyed.dedup_by(|other, first| {
        let is_other_key = other.hash != first.hash || name(other) != name(first);
        if is_other_key {
            return false;
        }
        match content(other.event) == content(first.event) {
            true => repeated.push(other.number),
            false => conflicting.push((other.number, content(first.event).kept())),
        }
        true
    });
    refuse(conflicting)?;
    Ok((keyed, repeated))
}

/// Tells the keys that are taken by other contents, in the order of their events.
pub(super) fn refuse(mut conflicting: Vec<(usize, Content)>) -> Result<(), EngineError> {
    if conflicting.is_empty() {
        return Ok(());
    }
    conflicting.sort_unstable_by_key(|(number, _)| *number);
    let mut conflicts = Problems::default();
    for (number, content) in conflicting {
        conflicts.push(conflict(&format!("events[{number}].idempotency_key"), &content));
    }
    Err(EngineError::IdempotencyConflict(conflicts))
}

/// What a key stands for that comes with the event.
fn content(event: &UsageEvent) -> ContentRef<'_> {
    ContentRef::Units {
        meter: &event.key.meter,
        subject: event.key.subject.as_ref(),
        amount: event.amount,
    }
}
