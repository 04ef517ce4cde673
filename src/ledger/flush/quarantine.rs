//! Where usage goes that was acknowledged and cannot be counted.

use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{
    batch::{FlushedEvent, UnkeyedSum},
    slot::Slot,
    write::aggregation_name,
};
use crate::{
    domain::{catalog::names::OperationName, cell_key::CellKey, ids::RunId},
    ledger::{cell_rows::subject_column, error::LedgerError, runs::position_column},
};

/// Why usage is quarantined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuarantineReason {
    /// The ledger has no such tenant.
    UnknownTenant,
    /// Its idempotency key was used for something else.
    KeyConflict,
    /// Its time, or the sum that it belongs to, cannot be stored.
    OutOfRange,
    /// Postgres refuses it.
    Refused,
}

impl QuarantineReason {
    /// The name in the table, and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownTenant => "unknown_tenant",
            Self::KeyConflict => "key_conflict",
            Self::OutOfRange => "out_of_range",
            Self::Refused => "refused",
        }
    }
}

/// One entry to be.
#[derive(Debug)]
pub(super) struct Quarantined {
    key: CellKey,
    reason: QuarantineReason,
    problem: String,
    content: Value,
    position: u64,
    /// How many events it stands for.
    pub(super) events: u64,
}

impl Quarantined {
    pub(super) fn event(flushed: &FlushedEvent, reason: QuarantineReason, problem: &str) -> Self {
        let FlushedEvent { position, event } = flushed;
        let properties: serde_json::Map<_, _> =
            event.properties.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let content = json!({
            "subject": subject_column(event.key.subject.as_ref()),
            "label": event.key.label.to_string(),
            "aggregation": aggregation_name(event.aggregation),
            "amount": event.amount,
            "time": event.time.to_string(),
            "distinct_value": event.distinct_value,
            "idempotency_key": event.idempotency_key.as_ref().map(|key| key.as_str()),
            "properties": properties,
            "from_lease": event.from_lease,
            "covered": covered(event.parts.iter().map(|part| (&part.key, part.units.into()))),
            "operation": event.operation.as_ref().map(OperationName::as_str),
            "reservation": event.reservation.map(|id| id.to_string()),
        });
        let key = event.key.clone();
        let problem = problem.to_owned();
        Self { key, reason, problem, content, position: *position, events: 1 }
    }

    pub(super) fn sum(
        slot: &Slot,
        unkeyed: &UnkeyedSum,
        reason: QuarantineReason,
        problem: &str,
    ) -> Self {
        let sum = &unkeyed.sum;
        let content = json!({
            "subject": subject_column(slot.key.subject.as_ref()),
            "label": slot.key.label.to_string(),
            "aggregation": aggregation_name(sum.aggregation),
            "hour": slot.start.to_string(),
            "group_values": slot.group_values.to_json(),
            // As text, since a sum may be wider than any JSON number that is read back exactly.
            "amount_sum": sum.tally.amount_sum.to_string(),
            "events": sum.tally.events,
            "amount_max": sum.tally.amount_max,
            "last_at": sum.tally.last.0.to_string(),
            "last_amount": sum.tally.last.1,
            "covered": covered(sum.parts.iter().map(|(key, share)| {
                (key, share.consumed.max(share.undone).to_string().into())
            })),
        });
        Self {
            key: slot.key.clone(),
            reason,
            problem: problem.to_owned(),
            content,
            position: unkeyed.position,
            events: sum.tally.events,
        }
    }

    pub(super) fn reason(&self) -> QuarantineReason {
        self.reason
    }
}

/// Units that other counters covered, by counter.
fn covered<'a>(parts: impl Iterator<Item = (&'a CellKey, Value)>) -> Value {
    Value::Object(parts.map(|(key, units)| (key.to_string(), units)).collect())
}

/// Writes the entries.
pub(super) async fn write_quarantine(
    tx: &mut PgConnection,
    run: RunId,
    entries: &[Quarantined],
) -> Result<(), LedgerError> {
    if entries.is_empty() {
        return Ok(());
    }
    let count = entries.len();
    let mut tenants = Vec::with_capacity(count);
    let mut meters = Vec::with_capacity(count);
    let mut reasons = Vec::with_capacity(count);
    let mut problems = Vec::with_capacity(count);
    let mut contents = Vec::with_capacity(count);
    let mut positions = Vec::with_capacity(count);
    for entry in entries {
        tenants.push(entry.key.tenant.as_str().to_owned());
        meters.push(entry.key.meter.as_str().to_owned());
        reasons.push(entry.reason.as_str().to_owned());
        problems.push(entry.problem.clone());
        contents.push(entry.content.clone());
        positions.push(position_column(entry.position)?);
    }
    sqlx::query!(
        "INSERT INTO quarantine (tenant, meter, reason, problem, event, run, journal_position)
         SELECT tenant, meter, reason, problem, event, $1, journal_position
         FROM UNNEST($2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[], $7::bigint[])
             AS q (tenant, meter, reason, problem, event, journal_position)",
        run.0,
        &tenants,
        &meters,
        &reasons,
        &problems,
        &contents,
        &positions
    )
    .execute(tx)
    .await?;
    Ok(())
}
