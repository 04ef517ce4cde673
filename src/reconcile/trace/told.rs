//! What a trace says of each stage, for people and for programs.

use serde_json::{Value, json};

use super::event::{Asked, InJournal, Seen, Step};
use crate::{
    domain::{
        ids::{IdempotencyKey, RunId},
        usage::UsageEvent,
    },
    journal::position::Position,
    ledger::{
        charges::Charge,
        quarantine::QuarantineEntry,
        trace::{KeptEvent, UsedKey},
    },
};

/// The stages of a way, in order.
#[derive(Default)]
pub(super) struct Steps(pub(super) Vec<Step>);

impl Steps {
    pub(super) fn say(&mut self, stage: &'static str, says: impl Into<String>, facts: Value) {
        self.0.push(Step { stage, says: says.into(), facts });
    }
}

pub(super) fn say_journalled(
    run: RunId,
    position: Position,
    event: &UsageEvent,
    steps: &mut Steps,
) {
    let mut says = format!(
        "run {run}, record that ends at {position}: {} of {} at {}",
        event.amount, event.key, event.time
    );
    for part in &event.parts {
        says.push_str(&format!(", {} of it covered by {}", part.units, part.key));
    }
    if let Some(reservation) = &event.reservation {
        says.push_str(&format!(", settles the hold {reservation}"));
    }
    let facts = json!({
        "run": run.to_string(), "position": position.to_string(), "meter": event.key.meter,
        "tenant": event.key.tenant, "subject": event.key.subject, "amount": event.amount,
        "window": event.key.label.to_string(), "time": event.time, "from_lease": event.from_lease,
        "idempotency_key": event.idempotency_key.as_ref().map(IdempotencyKey::as_str),
    });
    steps.say("journal", says, facts);
}

pub(super) fn say_key(
    key: &IdempotencyKey,
    used: Option<&UsedKey>,
    quarantined: &[QuarantineEntry],
    records: &[InJournal],
    steps: &mut Steps,
) {
    let Some(used) = used else {
        let says = match (quarantined.is_empty(), records.is_empty()) {
            (false, _) => "no event was counted under the key",
            (true, false) => "not in the ledger yet: it is when its record is flushed",
            (true, true) => {
                "nothing is known of the key: it was never acknowledged, lies unflushed in a journal \
                 that was not looked into, or was forgotten after jobs.usage_keys_days"
            }
        };
        return steps.say("key", says, json!({ "counted": false }));
    };
    let what = match used.operation.is_empty() {
        true => format!("{} of {}", used.amount, used.meter),
        false => format!("the operation {}", used.operation),
    };
    let position = Position::from(used.journal_position);
    let says = format!(
        "counted under {key:?}: {what}, of run {} at {position}, in the ledger since {}",
        used.run, used.received_at
    );
    let facts = json!({
        "counted": true, "meter": used.meter, "subject": used.subject, "amount": used.amount,
        "operation": used.operation, "run": used.run.to_string(),
        "position": position.to_string(), "received_at": used.received_at,
    });
    steps.say("key", says, facts);
    for record in records {
        if (record.run, u64::from(record.position)) != (used.run, used.journal_position) {
            let says = format!(
                "the record of run {} at {} is a repeat, which counts nothing",
                record.run, record.position
            );
            let facts = json!({
                "duplicate": true, "run": record.run.to_string(),
                "position": record.position.to_string(),
            });
            steps.say("key", says, facts);
        }
    }
}

pub(super) fn say_quarantined(entry: &QuarantineEntry, steps: &mut Steps) {
    let position = Position::from(entry.journal_position);
    let says = format!(
        "entry {}, not counted ({}): {}; run {} at {position}, {}",
        entry.entry, entry.reason, entry.problem, entry.run, entry.quarantined_at
    );
    let facts = json!({
        "entry": entry.entry, "reason": entry.reason, "problem": entry.problem,
        "run": entry.run.to_string(), "position": position.to_string(),
        "meter": entry.meter, "event": entry.event, "quarantined_at": entry.quarantined_at,
    });
    steps.say("quarantine", says, facts);
}

pub(super) fn say_kept(event: &KeptEvent, steps: &mut Steps) {
    let says = format!(
        "{} of {} at {}, kept until {}",
        event.amount, event.key, event.event_at, event.keep_until
    );
    let facts = json!({
        "tenant": event.key.tenant, "meter": event.key.meter, "subject": event.key.subject,
        "window": event.key.label.to_string(), "time": event.event_at, "amount": event.amount,
        "properties": event.properties, "received_at": event.received_at,
        "keep_until": event.keep_until,
    });
    steps.say("event", says, facts);
}

/// Says why it is not known in which window it is counted.
pub(super) fn say_unknown(
    asked: &Asked,
    used: Option<&UsedKey>,
    quarantined: &[QuarantineEntry],
    records: &[InJournal],
    steps: &mut Steps,
) {
    let says = match (asked, used) {
        (Asked::Keyed { .. }, Some(_)) => {
            "its meter keeps no raw events (event_retention_days), or no longer this one: it is added \
             up in its window and hour, which only its record in the journal names"
        }
        (Asked::Keyed { .. }, None) => "it is counted in no window",
        (Asked::Record { .. }, _) if !quarantined.is_empty() => "it is counted in no window",
        (Asked::Record { .. }, _) if !records.is_empty() => {
            "its events have keys: trace them by these, which say whether they are counted"
        }
        (Asked::Record { .. }, _) => {
            "events without a key are added up by window and hour, and have no row of their own \
             where their meter keeps no raw events; only the record in the journal names them"
        }
    };
    steps.say("window", says, json!({ "known": false }));
}

pub(super) fn say_charge(charge: &Charge, seen: &Seen, steps: &mut Steps) {
    let late = seen.received_at.is_some_and(|received_at| received_at > charge.created_at);
    let facts = &charge.explanation["facts"];
    let rate = match charge.rate {
        Some(rate) => format!("rate {}", rate.normalize()),
        None => format!("price {}", facts["price"]),
    };
    let plan = &charge.plan;
    let mut says = format!(
        "{} of {} to {}: {} for {} ({rate}), of {} used, {} included, by {}/{} version {}",
        charge.kind,
        charge.period_start,
        charge.period_end,
        charge.amount,
        charge.quantity.normalize(),
        facts["used"],
        facts["included"],
        plan.catalog,
        plan.plan,
        plan.version
    );
    if late {
        says.push_str("; the event came after it was made, and is in no charge");
    }
    let facts = json!({
        "charge": charge.id, "kind": charge.kind, "amount_minor": charge.amount.minor,
        "currency": charge.amount.currency, "quantity": charge.quantity, "rate": charge.rate,
        "plan": charge.plan, "facts": facts, "exact": charge.explanation["exact"],
        "period_start": charge.period_start, "period_end": charge.period_end,
        "created_at": charge.created_at, "includes_event": !late, "event": seen.event,
    });
    steps.say("charge", says, facts);
}
