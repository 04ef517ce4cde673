//! One event's way: from the journal through the flush into totals and rollups, and onto a charge.
//! Where something is not known it says why.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    domain::{
        cell_key::CellKey,
        ids::{IdempotencyKey, RunId, TenantId},
        usage::UsageEvent,
    },
    jobs::{error::JobError, overages::recheck::Recheck},
    journal::{
        browse::{self, BrowsedRun},
        error::JournalError,
        position::Position,
        reader::ReadLimit,
        record::Record,
    },
    ledger::{
        Ledger, LedgerError,
        charges::Charge,
        quarantine::QuarantineEntry,
        trace::{KeptEvent, UsedKey},
    },
};

/// How much of a journal is in memory at once.
const READ: ReadLimit = ReadLimit { records_max: 1_000, bytes_max: 4 << 20 };
/// Records of the journals that are told of one event: it may have been sent many times.
const RECORDS_MAX: usize = 100;

/// Which event.
#[derive(Clone, Debug)]
pub enum Asked {
    /// The one that a tenant sent under a key.
    Keyed { tenant: TenantId, key: IdempotencyKey },
    /// Those of one record of a run's journal.
    Record { run: RunId, position: Position },
}

/// Why a trace could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Charge(#[from] JobError),
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
struct Seen {
    key: CellKey,
    event: Value,
    at: jiff::Timestamp,
    received_at: Option<jiff::Timestamp>,
}

/// Follows events.
pub struct Tracer<'a> {
    pub ledger: &'a Ledger,
    /// Data directories of sidecars, to be looked into.
    pub journals: &'a [PathBuf],
    /// The real present.
    pub now: jiff::Timestamp,
}

/// A record of a journal that holds the event.
struct InJournal {
    run: RunId,
    position: Position,
    event: UsageEvent,
}

#[derive(Default)]
struct Steps(Vec<Step>);

impl Steps {
    fn say(&mut self, stage: &'static str, says: impl Into<String>, facts: Value) {
        self.0.push(Step { stage, says: says.into(), facts });
    }
}

impl Tracer<'_> {
    /// The way of the event, stage by stage.
    pub async fn follow(&self, asked: &Asked) -> Result<Vec<Step>, TraceError> {
        let mut steps = Steps::default();
        let records = self.in_journals(asked, &mut steps)?;
        let (used_key, quarantined) = match asked {
            Asked::Keyed { tenant, key } => (
                self.ledger.used_key(tenant, key).await?,
                self.ledger.quarantined_under(tenant, key).await?,
            ),
            Asked::Record { run, position } => {
                (None, self.ledger.quarantined_of_record(*run, (*position).into()).await?)
            }
        };
        self.flush(asked, &records, used_key.as_ref(), &mut steps).await?;
        if let Asked::Keyed { key, .. } = asked {
            say_key(key, used_key.as_ref(), &quarantined, &records, &mut steps);
        }
        for entry in &quarantined {
            say_quarantined(entry, &mut steps);
        }
        let kept = self.kept(asked, used_key.as_ref()).await?;
        for event in &kept {
            say_kept(event, &mut steps);
        }
        let counted = counted(asked, &records, used_key.as_ref(), kept);
        if counted.is_empty() {
            say_unknown(asked, used_key.as_ref(), &quarantined, &records, &mut steps);
        }
        for seen in &counted {
            self.totals(seen, &mut steps).await?;
            self.charges(seen, &mut steps).await?;
        }
        Ok(steps.0)
    }

    /// The records of the journals that are given which hold the event.
    fn in_journals(&self, asked: &Asked, steps: &mut Steps) -> Result<Vec<InJournal>, TraceError> {
        let mut found = Vec::new();
        for dir in self.journals {
            for run in browse::runs(dir)? {
                let Some(browsed) = BrowsedRun::open(dir, run)? else { continue };
                let mut reader = browsed.reader();
                loop {
                    let entries = match reader.read(READ) {
                        // All of that is flushed.
                        Err(JournalError::Released { .. }) => break,
                        entries => entries?,
                    };
                    if entries.is_empty() {
                        break;
                    }
                    for entry in entries {
                        let Record::Usage(events) = entry.record else { continue };
                        let is_asked = |event: &&UsageEvent| match asked {
                            Asked::Keyed { tenant, key } => {
                                event.key.tenant == *tenant
                                    && event.idempotency_key.as_ref() == Some(key)
                            }
                            Asked::Record { run: of, position } => {
                                (*of, *position) == (run, entry.position)
                            }
                        };
                        for event in events.iter().filter(is_asked) {
                            if found.len() < RECORDS_MAX {
                                let (position, event) = (entry.position, event.clone());
                                say_journalled(run, position, &event, steps);
                                found.push(InJournal { run, position, event });
                            }
                        }
                    }
                }
            }
        }
        if found.is_empty() {
            let says = match self.journals.is_empty() {
                true => {
                    "no journal was looked into: give the sidecars' data directories (--journal)"
                }
                false => {
                    "in none of the journals: its segment is flushed and deleted, or it is elsewhere"
                }
            };
            steps.say("journal", says, json!({ "looked_into": self.journals.len() }));
        }
        Ok(found)
    }

    /// When its record reached the ledger, run by run.
    async fn flush(
        &self,
        asked: &Asked,
        records: &[InJournal],
        used_key: Option<&UsedKey>,
        steps: &mut Steps,
    ) -> Result<(), TraceError> {
        let mut places: Vec<(RunId, u64)> =
            records.iter().map(|record| (record.run, record.position.into())).collect();
        places.extend(used_key.map(|used| (used.run, used.journal_position)));
        if let Asked::Record { run, position } = asked {
            places.push((*run, (*position).into()));
        }
        places.sort_unstable();
        places.dedup();
        for (run, place) in places {
            let position = Position::from(place);
            let facts = json!({ "run": run.to_string(), "position": position.to_string() });
            let Some(known) = self.ledger.run(run).await? else {
                let says = format!("run {run} is not registered: nothing of it is in the ledger");
                steps.say("flush", says, facts);
                continue;
            };
            let mark = Position::from(known.flushed_position);
            let host = &known.host;
            let says = match position <= mark {
                true => format!("flushed: run {run} on {host}, {position}, before its mark {mark}"),
                false => format!(
                    "not flushed yet: run {run} on {host}, {position}, behind its mark {mark}, \
                     which stands there since before {}",
                    known.heard_at
                ),
            };
            steps.say("flush", says, facts);
        }
        Ok(())
    }

    async fn kept(
        &self,
        asked: &Asked,
        used_key: Option<&UsedKey>,
    ) -> Result<Vec<KeptEvent>, TraceError> {
        let ledger = self.ledger;
        Ok(match (asked, used_key) {
            (Asked::Keyed { tenant, key }, Some(used)) => {
                let (run, position) = (used.run, used.journal_position);
                let at = Some(used.received_at);
                let events = ledger.kept_events_of_record(Some(tenant), run, position, at).await?;
                let is_asked =
                    |event: &KeptEvent| event.idempotency_key.as_deref() == Some(key.as_str());
                events.into_iter().filter(is_asked).collect()
            }
            (Asked::Keyed { .. }, None) => Vec::new(),
            (Asked::Record { run, position }, _) => {
                ledger.kept_events_of_record(None, *run, (*position).into(), None).await?
            }
        })
    }

    async fn totals(&self, seen: &Seen, steps: &mut Steps) -> Result<(), TraceError> {
        let key = &seen.key;
        for row in self.ledger.rollup_rows(key, seen.at).await? {
            let group = match row.group_values.as_object().is_none_or(|group| group.is_empty()) {
                true => String::new(),
                false => format!(", group {}", row.group_values),
            };
            let (table, start) = (row.table, row.start);
            let says = format!(
                "{table} {start}{group}: {} events, {} units in all, {} of them covered by grants \
                 and pools",
                row.events, row.amount_sum, row.covered
            );
            let facts = json!({
                "table": table, "start": start, "group_values": row.group_values,
                "events": row.events, "amount_sum": row.amount_sum, "covered": row.covered,
            });
            steps.say("rollup", says, facts);
        }
        let totals = self.ledger.window_totals(std::slice::from_ref(key)).await?;
        if let Some(totals) = totals.into_iter().next().flatten() {
            let says = format!(
                "window {key}: {} units used, {} forfeited, {} events",
                totals.used, totals.forfeited, totals.tally.events
            );
            let facts = json!({
                "window": key.label.to_string(), "used": totals.used,
                "forfeited": totals.forfeited, "events": totals.tally.events,
            });
            steps.say("window", says, facts);
        }
        Ok(())
    }

    async fn charges(&self, seen: &Seen, steps: &mut Steps) -> Result<(), TraceError> {
        let charges = self.ledger.charges_of_usage(&seen.key, seen.at).await?;
        if !charges.is_empty() {
            for charge in &charges {
                say_charge(charge, seen, steps);
            }
            return Ok(());
        }
        let mut due = None;
        if let Some(subscriber) = self.ledger.subscriber(&seen.key.tenant).await? {
            let mut recheck = Recheck::new(self.ledger.clone(), self.now).await?;
            let scope = crate::ledger::reconcile::Scope {
                meter: Some(seen.key.meter.clone()),
                ..Default::default()
            };
            let findings = recheck.findings(&subscriber, &scope).await?;
            due = findings.into_iter().find(|finding| finding.key == seen.key);
        }
        let says = match due {
            Some(_) => "its window is due, and charged at the next run of the job overages",
            None => {
                "no charge: its window goes on, waits for sidecars, or has no price beyond what the \
                 plan includes"
            }
        };
        steps.say("charge", says, json!({ "charged": false }));
        Ok(())
    }
}

/// What is counted of the event, from the best source there is.
fn counted(
    asked: &Asked,
    records: &[InJournal],
    used_key: Option<&UsedKey>,
    kept: Vec<KeptEvent>,
) -> Vec<Seen> {
    if !kept.is_empty() {
        let seen = |event: KeptEvent| Seen {
            event: json!({ "amount": event.amount, "properties": event.properties }),
            key: event.key,
            at: event.event_at,
            received_at: Some(event.received_at),
        };
        return kept.into_iter().map(seen).collect();
    }
    let is_counted = |record: &&InJournal| match (asked, used_key) {
        (Asked::Keyed { .. }, Some(used)) => {
            (record.run, u64::from(record.position)) == (used.run, used.journal_position)
        }
        (Asked::Keyed { .. }, None) => false,
        (Asked::Record { .. }, _) => record.event.idempotency_key.is_none(),
    };
    let seen = |record: &InJournal| Seen {
        key: record.event.key.clone(),
        event: json!({ "amount": record.event.amount }),
        at: record.event.time,
        received_at: used_key.map(|used| used.received_at),
    };
    records.iter().filter(is_counted).map(seen).collect()
}

fn say_journalled(run: RunId, position: Position, event: &UsageEvent, steps: &mut Steps) {
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

fn say_key(
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

fn say_quarantined(entry: &QuarantineEntry, steps: &mut Steps) {
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

fn say_kept(event: &KeptEvent, steps: &mut Steps) {
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
fn say_unknown(
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

fn say_charge(charge: &Charge, seen: &Seen, steps: &mut Steps) {
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
