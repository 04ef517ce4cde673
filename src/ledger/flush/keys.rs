//! Idempotency keys: which uses in a batch are the first of their key.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::batch::FlushedEvent;
use crate::{
    domain::{ids::RunId, usage::operation_content},
    ledger::{cell_rows::subject_column, error::LedgerError, runs::position_column},
};

/// How often keys are claimed again that were purged between being found taken and being looked at.
const CLAIMS_MAX: u32 = 3;

/// What the ledger makes of an event, or an operation, with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyedFate {
    /// The first of its key: it counts.
    First,
    /// Its key was used for the same content before.
    Duplicate,
    /// Its key was used for something else before.
    Conflict(String),
}

/// What a key was used for: an event of some amount of a meter, or an operation with all its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Fingerprint {
    meter: String,
    subject: String,
    amount: i64,
    /// See [`operation_content`]; empty for an event, which the other fields describe.
    operation: String,
}

impl Fingerprint {
    fn of(used: &[FlushedEvent]) -> Self {
        let [FlushedEvent { event, .. }, ..] = used else { return Self::default() };
        if event.operation.is_some() {
            let parts = used.iter().map(|part| &part.event);
            let operation = operation_content(parts).unwrap_or_default();
            return Self { operation, ..Self::default() };
        }
        Self {
            meter: event.key.meter.as_str().to_owned(),
            subject: subject_column(event.key.subject.as_ref()).to_owned(),
            amount: event.amount,
            operation: String::new(),
        }
    }

    /// What a later use of the same key is, whose fingerprint is `other`.
    fn fate_of(&self, other: &Self) -> KeyedFate {
        if self == other {
            return KeyedFate::Duplicate;
        }
        let Self { meter, subject, amount, operation } = self;
        KeyedFate::Conflict(match operation.is_empty() {
            true => format!(
                "the key was used before for {amount} of meter {meter:?}, subject {subject:?}"
            ),
            false => format!("the key was used before for the operation {operation}"),
        })
    }
}

/// Tells the fate of each of `uses`, all of which have keys, and claims the keys of the first. The
/// events of one use have one key.
pub(super) async fn claim_keys(
    tx: &mut PgConnection,
    run: RunId,
    uses: &[&[FlushedEvent]],
) -> Result<Vec<KeyedFate>, LedgerError> {
    let mut firsts: HashMap<(&str, &str), usize> = HashMap::with_capacity(uses.len());
    for (index, used) in uses.iter().enumerate() {
        firsts.entry(key_of(used)).or_insert(index);
    }
    // Sorted, so that two flushes with the same keys wait for one another in one direction only.
    let mut unclaimed: Vec<usize> = firsts.values().copied().collect();
    unclaimed.sort_unstable_by_key(|index| key_of(uses[*index]));

    let mut used_before: HashMap<(&str, &str), Fingerprint> = HashMap::new();
    for _ in 0..CLAIMS_MAX {
        unclaimed = claim(tx, run, uses, &unclaimed).await?;
        if unclaimed.is_empty() {
            break;
        }
        for (index, fingerprint) in read_claimed(tx, uses, &unclaimed).await? {
            used_before.insert(key_of(uses[index]), fingerprint);
        }
        unclaimed.retain(|index| !used_before.contains_key(&key_of(uses[*index])));
    }
    if let Some(index) = unclaimed.first() {
        let (tenant, key) = key_of(uses[*index]);
        return Err(LedgerError::Failed(sqlx::Error::Protocol(format!(
            "key {key:?} of tenant {tenant:?} is taken when it is claimed and gone when it is read"
        ))));
    }

    let fate = |(index, used): (usize, &&[FlushedEvent])| {
        let key = key_of(used);
        let own = Fingerprint::of(used);
        match (used_before.get(&key), firsts.get(&key)) {
            (Some(earlier), _) => earlier.fate_of(&own),
            (None, Some(first)) if *first != index => Fingerprint::of(uses[*first]).fate_of(&own),
            _ => KeyedFate::First,
        }
    };
    Ok(uses.iter().enumerate().map(fate).collect())
}

fn key_of(used: &[FlushedEvent]) -> (&str, &str) {
    let [FlushedEvent { event, .. }, ..] = used else { return ("", "") };
    let key = event.idempotency_key.as_ref().map_or("", |key| key.as_str());
    (event.key.tenant.as_str(), key)
}

/// Inserts the keys of `indexes` and returns those that were there already.
async fn claim(
    tx: &mut PgConnection,
    run: RunId,
    uses: &[&[FlushedEvent]],
    indexes: &[usize],
) -> Result<Vec<usize>, LedgerError> {
    let count = indexes.len();
    let mut tenants = Vec::with_capacity(count);
    let mut keys = Vec::with_capacity(count);
    let mut meters = Vec::with_capacity(count);
    let mut subjects = Vec::with_capacity(count);
    let mut amounts = Vec::with_capacity(count);
    let mut operations = Vec::with_capacity(count);
    let mut positions = Vec::with_capacity(count);
    for index in indexes {
        let used = uses[*index];
        let (tenant, key) = key_of(used);
        let fingerprint = Fingerprint::of(used);
        tenants.push(tenant.to_owned());
        keys.push(key.to_owned());
        meters.push(fingerprint.meter);
        subjects.push(fingerprint.subject);
        amounts.push(fingerprint.amount);
        operations.push(fingerprint.operation);
        positions.push(position_column(used.first().map_or(0, |event| event.position))?);
    }
    let taken = sqlx::query_file!(
        "src/ledger/queries/claim_keys.sql",
        run.0,
        &tenants,
        &keys,
        &meters,
        &subjects,
        &amounts,
        &operations,
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
    uses: &[&[FlushedEvent]],
    indexes: &[usize],
) -> Result<Vec<(usize, Fingerprint)>, LedgerError> {
    let own = |(tenant, key): (&str, &str)| (tenant.to_owned(), key.to_owned());
    let (tenants, keys): (Vec<_>, Vec<_>) =
        indexes.iter().map(|index| own(key_of(uses[*index]))).unzip();
    let rows = sqlx::query!(
        "SELECT asked.ordinal AS \"ordinal!\", k.meter, k.subject, k.amount, k.operation
         FROM UNNEST($1::text[], $2::text[])
             WITH ORDINALITY AS asked (tenant, idempotency_key, ordinal)
         JOIN usage_keys k USING (tenant, idempotency_key)",
        &tenants,
        &keys
    )
    .fetch_all(tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let (meter, subject, amount) = (row.meter, row.subject, row.amount);
            let fingerprint = Fingerprint { meter, subject, amount, operation: row.operation };
            (indexes[row.ordinal as usize - 1], fingerprint)
        })
        .collect())
}
