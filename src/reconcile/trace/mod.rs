//! One event's way: from the journal through the flush into totals and rollups, and onto a charge.
//! Where something is not known it says why.

mod event;
mod place;
mod told;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::PathBuf,
};

use serde_json::json;

pub use self::event::{Asked, Step, Trace};
use self::{
    event::{InJournal, Seen},
    place::{Around, InJournals},
    told::{Steps, say_charge, say_journalled, say_kept, say_key, say_quarantined, say_unknown},
};
use crate::{
    domain::{
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
    pub async fn follow(&self, asked: &Asked) -> Result<Trace, TraceError> {
        match asked {
            Asked::Keyed { tenant, key } => self.follow_key(asked, tenant, key).await,
            Asked::Record { run, position } => self.follow_record(asked, *run, *position).await,
        }
    }

    async fn follow_key(
        &self,
        asked: &Asked,
        tenant: &TenantId,
        key: &IdempotencyKey,
    ) -> Result<Trace, TraceError> {
        let mut steps = Steps::default();
        let InJournals { records, .. } = self.in_journals(asked, &mut steps)?;
        let used_key = self.ledger.used_key(tenant, key).await?;
        let quarantined = self.ledger.quarantined_under(tenant, key).await?;
        let mut places: Vec<(RunId, u64)> =
            records.iter().map(|record| (record.run, record.position.into())).collect();
        places.extend(used_key.as_ref().map(|used| (used.run, used.journal_position)));
        self.flush(places, &mut steps).await?;
        say_key(key, used_key.as_ref(), &quarantined, &records, &mut steps);
        for entry in &quarantined {
            say_quarantined(entry, &mut steps);
        }
        let kept = match &used_key {
            Some(used) => self.kept_under(tenant, key, used).await?,
            None => Vec::new(),
        };
        for event in &kept {
            say_kept(event, &mut steps);
        }
        let counted = counted(&records, used_key.as_ref(), kept);
        if counted.is_empty() {
            say_unknown(asked, used_key.as_ref(), &quarantined, &records, &mut steps);
        }
        self.say_counted(&counted, &mut steps).await?;
        let is_known = used_key.is_some() || !quarantined.is_empty() || !records.is_empty();
        let unknown = (!is_known).then(|| {
            format!(
                "no event is known under the key {:?} of tenant {tenant}: it was never acknowledged, \
                 lies unflushed in a journal that was not looked into (--journal), or was forgotten \
                 after jobs.usage_keys_days",
                key.as_str()
            )
        });
        Ok(Trace { steps: steps.0, unknown })
    }

    async fn follow_record(
        &self,
        asked: &Asked,
        run: RunId,
        position: Position,
    ) -> Result<Trace, TraceError> {
        let mut steps = Steps::default();
        let InJournals { records, around } = self.in_journals(asked, &mut steps)?;
        let place = u64::from(position);
        let quarantined = self.ledger.quarantined_of_record(run, place).await?;
        let kept = self.ledger.kept_events_of_record(None, run, place, None).await?;
        let counted_keys = self.ledger.used_keys_of_record(run, place).await?;
        let is_known = !records.is_empty()
            || !quarantined.is_empty()
            || !kept.is_empty()
            || !counted_keys.is_empty();
        if !is_known {
            let why = self.why_unknown(run, position, &around).await?;
            let facts = json!({ "run": run.to_string(), "position": position.to_string() });
            steps.say("place", why.as_str(), facts);
            let unknown = format!("no event is known at {run}@{position}: {why}");
            return Ok(Trace { steps: steps.0, unknown: Some(unknown) });
        }
        self.flush(vec![(run, place)], &mut steps).await?;
        let used = self.used_keys(&records, counted_keys).await?;
        for ((_, key), used) in &used {
            let of_key = |record: &&InJournal| record.event.idempotency_key.as_ref() == Some(key);
            let records: Vec<_> = records.iter().filter(of_key).cloned().collect();
            say_key(key, used.as_ref(), &quarantined, &records, &mut steps);
        }
        for entry in &quarantined {
            say_quarantined(entry, &mut steps);
        }
        for event in &kept {
            say_kept(event, &mut steps);
        }
        let received_at = kept.first().map(|event| event.received_at);
        let counted: Vec<Seen> = match records.is_empty() {
            true => kept.into_iter().map(Seen::from).collect(),
            false => {
                let is_counted = |record: &&InJournal| match &record.event.idempotency_key {
                    None => true,
                    Some(key) => {
                        let of = (record.event.key.tenant.clone(), key.clone());
                        let used = used.get(&of).and_then(Option::as_ref);
                        used.is_some_and(|used| (used.run, used.journal_position) == (run, place))
                    }
                };
                let seen = |record: &InJournal| Seen::of(&record.event, received_at);
                records.iter().filter(is_counted).map(seen).collect()
            }
        };
        if counted.is_empty() {
            let used = used.values().flatten().next();
            say_unknown(asked, used, &quarantined, &records, &mut steps);
        }
        self.say_counted(&counted, &mut steps).await?;
        Ok(Trace { steps: steps.0, unknown: None })
    }

    /// The keys of the record's events, with what was counted under each.
    async fn used_keys(
        &self,
        records: &[InJournal],
        counted: Vec<(TenantId, IdempotencyKey, UsedKey)>,
    ) -> Result<BTreeMap<(TenantId, IdempotencyKey), Option<UsedKey>>, TraceError> {
        let mut used: BTreeMap<_, _> =
            counted.into_iter().map(|(tenant, key, used)| ((tenant, key), Some(used))).collect();
        for event in records.iter().map(|record| &record.event) {
            let Some(key) = &event.idempotency_key else { continue };
            let of = (event.key.tenant.clone(), key.clone());
            if let Entry::Vacant(unknown) = used.entry(of) {
                let (tenant, key) = unknown.key();
                let counted = self.ledger.used_key(tenant, key).await?;
                unknown.insert(counted);
            }
        }
        Ok(used)
    }

    /// Why nothing is known of a place.
    async fn why_unknown(
        &self,
        run: RunId,
        position: Position,
        around: &Around,
    ) -> Result<String, TraceError> {
        if let Some(why) = around.why() {
            return Ok(why);
        }
        let Some(known) = self.ledger.run(run).await? else {
            return Ok("there is no such run in the ledger (`tollgate run list --all`)".to_owned());
        };
        let mark = Position::from(known.flushed_position);
        Ok(match (position > mark, known.closing.is_some()) {
            (true, true) => format!("the run is closed, and its journal is flushed up to {mark} only"),
            (true, false) => format!(
                "it is behind the run's mark {mark}, where only its journal can say what there is \
                 (--journal)"
            ),
            (false, _) => "the ledger names no event of a record that ends there: events without a key \
                           are added up unless their meter keeps raw events, so that only the journal \
                           can say whether there was one (--journal)"
                .to_owned(),
        })
    }

    async fn say_counted(&self, counted: &[Seen], steps: &mut Steps) -> Result<(), TraceError> {
        for seen in counted {
            self.totals(seen, steps).await?;
            self.charges(seen, steps).await?;
        }
        Ok(())
    }

    /// The records of the journals that are given which hold the event.
    fn in_journals(&self, asked: &Asked, steps: &mut Steps) -> Result<InJournals, TraceError> {
        let mut found = Vec::new();
        let mut around = Around::default();
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
                        if let Asked::Record { run: of, position } = asked
                            && *of == run
                        {
                            around.add(*position, &entry);
                        }
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
            let says = match (self.journals.is_empty(), around.why()) {
                (true, _) => {
                    "no journal was looked into: give the sidecars' data directories (--journal)"
                        .to_owned()
                }
                (false, Some(why)) => why,
                (false, None) => {
                    "in none of the journals: its segment is flushed and deleted, or it \
                                  is elsewhere"
                        .to_owned()
                }
            };
            steps.say("journal", says, json!({ "looked_into": self.journals.len() }));
        }
        Ok(InJournals { records: found, around })
    }

    /// When its record reached the ledger, run by run.
    async fn flush(
        &self,
        mut places: Vec<(RunId, u64)>,
        steps: &mut Steps,
    ) -> Result<(), TraceError> {
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

    async fn kept_under(
        &self,
        tenant: &TenantId,
        key: &IdempotencyKey,
        used: &UsedKey,
    ) -> Result<Vec<KeptEvent>, TraceError> {
        let (run, position) = (used.run, used.journal_position);
        let at = Some(used.received_at);
        let events = self.ledger.kept_events_of_record(Some(tenant), run, position, at).await?;
        let is_asked = |event: &KeptEvent| event.idempotency_key.as_deref() == Some(key.as_str());
        Ok(events.into_iter().filter(is_asked).collect())
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
        let says = match due.map(|finding| finding.problem) {
            Some(problem) if problem.is_difference() => {
                "its charge is missing, though the job overages has been past its window: \
                 `tollgate reconcile` names it"
            }
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

/// What is counted of the event that was sent under a key, from the best source there is.
fn counted(records: &[InJournal], used_key: Option<&UsedKey>, kept: Vec<KeptEvent>) -> Vec<Seen> {
    let Some(used) = used_key else { return Vec::new() };
    if !kept.is_empty() {
        return kept.into_iter().map(Seen::from).collect();
    }
    let is_counted = |record: &&InJournal| {
        (record.run, u64::from(record.position)) == (used.run, used.journal_position)
    };
    let of_record = |record: &InJournal| Seen::of(&record.event, Some(used.received_at));
    records.iter().filter(is_counted).map(of_record).collect()
}
