//! One event's way: from the journal through the flush into totals and rollups, and onto a charge.
//! Where something is not known it says why.

mod event;
mod told;

use std::path::PathBuf;

use serde_json::json;

pub use self::event::{Asked, Step};
use self::{
    event::{InJournal, Seen},
    told::{Steps, say_charge, say_journalled, say_kept, say_key, say_quarantined, say_unknown},
};
use crate::{
    domain::{ids::RunId, usage::UsageEvent},
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
        trace::{KeptEvent, UsedKey},
    },
};

/// How much of a journal is in memory at once.
const READ: ReadLimit = ReadLimit { records_max: 1_000, bytes_max: 4 << 20 };
/// Records of the journals that are told of one event: it may have been sent many times.
const RECORDS_MAX: usize = 100;

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

/// Follows events.
pub struct Tracer<'a> {
    pub ledger: &'a Ledger,
    /// Data directories of sidecars, to be looked into.
    pub journals: &'a [PathBuf],
    /// The real present.
    pub now: jiff::Timestamp,
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
