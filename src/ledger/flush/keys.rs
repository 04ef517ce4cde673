//! Idempotency keys: which events of a batch are the first of their key.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::batch::FlushedEvent;
use crate::{
    domain::{ids::RunId, usage::UsageEvent},
    ledger::{cell_rows::subject_column, error::LedgerError, runs::position_column},
};

/// How often keys are claimed again that were purged between being found taken and being looked at.
const CLAIMS_MAX: u32 = 3;

/// What the ledger makes of an event with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyedFate {
    /// The first of its key: it counts.
    First,
    /// Its key was used for the same content before.
    Duplicate,
    /// Its key was used for something else before.
    Conflict(String),
}

/// What a key was used for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fingerprint {
    meter: String,
    subject: String,
    amount: i64,
}

impl Fingerprint {
    fn of(event: &UsageEvent) -> Self {
        Self {
            meter: event.key.meter.as_str().to_owned(),
            subject: subject_column(event.key.subject.as_ref()).to_owned(),
            amount: event.amount,
        }
    }

    /// What a later event of the same key is, whose fingerprint is `other`.
    fn fate_of(&self, other: &Self) -> KeyedFate {
        if self == other {
            return KeyedFate::Duplicate;
        }
        let Self { meter, subject, amount } = self;
        KeyedFate::Conflict(format!(
            "the key was used before for {amount} of meter {meter:?}, subject {subject:?}"
        ))
    }
}

/// Tells the fate of each of `events`, all of which have keys, and claims the keys of the first.
pub(super) async fn claim_keys(
    tx: &mut PgConnection,
    run: RunId,
    events: &[&FlushedEvent],
) -> Result<Vec<KeyedFate>, LedgerError> {
    let mut firsts: HashMap<(&str, &str), usize> = HashMap::with_capacity(events.len());
    for (index, flushed) in events.iter().enumerate() {
        firsts.entry(key_of(&flushed.event)).or_insert(index);
    }
    // Sorted, so that two flushes with the same keys wait for one another in one direction only.
    let mut unclaimed: Vec<usize> = firsts.values().copied().collect();
    unclaimed.sort_unstable_by_key(|index| key_of(&events[*index].event));

    let mut used_before: HashMap<(&str, &str), Fingerprint> = HashMap::new();
    for _ in 0..CLAIMS_MAX {
        unclaimed = claim(tx, run, events, &unclaimed).await?;
        if unclaimed.is_empty() {
            break;
        }
        for (index, fingerprint) in read_claimed(tx, events, &unclaimed).await? {
            used_before.insert(key_of(&events[index].event), fingerprint);
        }
        unclaimed.retain(|index| !used_before.contains_key(&key_of(&events[*index].event)));
    }
    if let Some(index) = unclaimed.first() {
        let (tenant, key) = key_of(&events[*index].event);
        return Err(LedgerError::Failed(sqlx::Error::Protocol(format!(
            "key {key:?} of tenant {tenant:?} is taken when it is claimed and gone when it is read"
        ))));
    }

    let fate = |(index, flushed): (usize, &&FlushedEvent)| {
        let key = key_of(&flushed.event);
        let own = Fingerprint::of(&flushed.event);
        match (used_before.get(&key), firsts.get(&key)) {
            (Some(earlier), _) => earlier.fate_of(&own),
            (None, Some(first)) if *first != index => {
                Fingerprint::of(&events[*first].event).fate_of(&own)
            }
            _ => KeyedFate::First,
        }
    };
    Ok(events.iter().enumerate().map(fate).collect())
}

fn key_of(event: &UsageEvent) -> (&str, &str) {
    let key = event.idempotency_key.as_ref().map_or("", |key| key.as_str());
    (event.key.tenant.as_str(), key)
}

/// Inserts the keys of `indexes` and returns those that were there already.
async fn claim(
    tx: &mut PgConnection,
    run: RunId,
    events: &[&FlushedEvent],
    indexes: &[usize],
) -> Result<Vec<usize>, LedgerError> {
    let count = indexes.len();
    let mut tenants = Vec::with_capacity(count);
    let mut keys = Vec::with_capacity(count);
    let mut meters = Vec::with_capacity(count);
    let mut subjects = Vec::with_capacity(count);
    let mut amounts = Vec::with_capacity(count);
    let mut positions = Vec::with_capacity(count);
    for index in indexes {
        let FlushedEvent { position, event } = events[*index];
        let (tenant, key) = key_of(event);
        let fingerprint = Fingerprint::of(event);
        tenants.push(tenant.to_owned());
        keys.push(key.to_owned());
        meters.push(fingerprint.meter);
        subjects.push(fingerprint.subject);
        amounts.push(fingerprint.amount);
        positions.push(position_column(*position)?);
    }
    let taken = sqlx::query_file!(
        "src/ledger/queries/claim_keys.sql",
        run.0,
        &tenants,
        &keys,
        &meters,
        &subjects,
        &amounts,
        &positions
    )
    .fetch_all(tx)
    .await?;
    // ORDINALITY counts from 1.
    Ok(taken.into_iter().map(|row| indexes[row.ordinal as usize - 1]).collect())
}

/// What the keys of `indexes` were used for, as far as they are still there.
async fn read_claimed(
    tx: &mut PgConnection,
    events: &[&FlushedEvent],
    indexes: &[usize],
) -> Result<Vec<(usize, Fingerprint)>, LedgerError> {
    let own = |(tenant, key): (&str, &str)| (tenant.to_owned(), key.to_owned());
    let (tenants, keys): (Vec<_>, Vec<_>) =
        indexes.iter().map(|index| own(key_of(&events[*index].event))).unzip();
    let rows = sqlx::query!(
        "SELECT asked.ordinal AS \"ordinal!\", k.meter, k.subject, k.amount
         FROM UNNEST($1::text[], $2::text[])
             WITH ORDINALITY AS asked (tenant, idempotency_key, ordinal)
         JOIN usage_keys k USING (tenant, idempotency_key)",
        &tenants,
        &keys
    )
    .fetch_all(tx)
    .await?;
    let fingerprint = |meter, subject, amount| Fingerprint { meter, subject, amount };
    Ok(rows
        .into_iter()
        .map(|row| {
            (indexes[row.ordinal as usize - 1], fingerprint(row.meter, row.subject, row.amount))
        })
        .collect())
}
