//! The journals of a directory beside the ledger: what lies before a run's mark is in it, unit by
//! unit and key by key; what lies behind is unflushed.

use std::{collections::BTreeMap, path::Path};

use jiff::{SignedDuration, Timestamp};

use super::difference::{Difference, Figure, Leg, Place, Standing};
use crate::{
    domain::{
        cell_key::CellKey,
        ids::{IdempotencyKey, RunId, TenantId},
        share::Share,
        usage::UsageEvent,
    },
    journal::{
        browse::{self, BrowsedRun},
        error::JournalError,
        position::Position,
        reader::{Entry, ReadLimit},
        record::Record,
    },
    ledger::{
        Ledger, LedgerError,
        reconcile::Scope,
        run_books::{KEYS_MAX, RunUnits},
    },
};

/// How much of a journal is in memory at once.
const READ: ReadLimit = ReadLimit { records_max: 1_000, bytes_max: 4 << 20 };
/// How often a journal is read anew whose segments are deleted meanwhile.
const ATTEMPTS_MAX: u32 = 5;

/// Why a journal could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum JournalLookError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Compares journals with the ledger.
pub struct JournalLook<'a> {
    pub ledger: &'a Ledger,
    pub scope: &'a Scope,
    /// Keys of runs that began before this instant may have been forgotten.
    pub keys_kept_from: Timestamp,
}

/// What one run's journal adds up to, as far as it is left.
#[derive(Debug, Default)]
struct Sums {
    /// Before the mark.
    flushed: BTreeMap<CellKey, RunUnits>,
    /// Events behind the mark, and their amounts, by counter.
    unflushed: BTreeMap<CellKey, (u64, i128)>,
}

impl Sums {
    fn add(&mut self, event: &UsageEvent, is_flushed: bool) {
        if !is_flushed {
            let unflushed = self.unflushed.entry(event.key.clone()).or_default();
            *unflushed = (unflushed.0 + 1, unflushed.1 + i128::from(event.counted()));
            return;
        }
        self.add_share(&event.key, Share::of(event));
        for part in &event.parts {
            self.add_share(&part.key, Share::of_part(event, part));
        }
    }

    fn add_share(&mut self, key: &CellKey, share: Share) {
        if (share.consumed, share.recorded) != (0, 0) {
            let units = self.flushed.entry(key.clone()).or_default();
            units.consumed += share.consumed;
            units.recorded += share.recorded;
        }
    }
}

impl JournalLook<'_> {
    /// Compares every run that has a journal in the data directory; answers how many there are.
    pub async fn compare_all(
        &self,
        data_dir: &Path,
    ) -> Result<(u64, Vec<Difference>), JournalLookError> {
        let mut differences = Vec::new();
        let runs = browse::runs(data_dir)?;
        for run in &runs {
            differences.extend(self.compare_run(data_dir, *run).await?);
        }
        Ok((runs.len() as u64, differences))
    }

    async fn compare_run(
        &self,
        data_dir: &Path,
        run: RunId,
    ) -> Result<Vec<Difference>, JournalLookError> {
        let mut attempt = 1;
        loop {
            match self.try_run(data_dir, run).await {
                Err(JournalLookError::Journal(JournalError::Released { .. }))
                    if attempt < ATTEMPTS_MAX =>
                {
                    attempt += 1;
                }
                compared => return compared,
            }
        }
    }

    async fn try_run(
        &self,
        data_dir: &Path,
        run: RunId,
    ) -> Result<Vec<Difference>, JournalLookError> {
        // First: what is before the mark is in the journal's end that is looked for afterwards.
        let books = self.ledger.run_journal_books(run).await?;
        let began = self.ledger.run(run).await?.map(|known| known.started_at);
        let Some(browsed) = BrowsedRun::open(data_dir, run)? else { return Ok(Vec::new()) };
        let mark = Position::from(books.as_ref().map_or(0, |books| books.flushed_position));
        let keys_are_kept = began.is_some_and(|began| began >= self.keys_kept_from);
        let mut sums = Sums::default();
        let mut differences = Vec::new();
        let mut reader = browsed.reader();
        loop {
            let entries = reader.read(READ)?;
            if entries.is_empty() {
                break;
            }
            let mut keyed = Vec::new();
            for Entry { position, record } in entries {
                let Record::Usage(events) = record else { continue };
                for event in events {
                    sums.add(&event, position <= mark);
                    if position <= mark && keys_are_kept && event.idempotency_key.is_some() {
                        keyed.push((position, event));
                    }
                }
            }
            differences.extend(self.find_lost(run, &keyed).await?);
        }
        let counted = books.map(|books| books.counted).unwrap_or_default();
        differences.extend(self.compare_sums(run, &sums, counted, browsed.is_whole));
        Ok(differences)
    }

    /// Keyed events before the mark that the ledger has neither counted nor quarantined.
    async fn find_lost(
        &self,
        run: RunId,
        keyed: &[(Position, UsageEvent)],
    ) -> Result<Vec<Difference>, JournalLookError> {
        let mut lost = Vec::new();
        for part in keyed.chunks(KEYS_MAX) {
            let key_of = |(_, event): &(Position, UsageEvent)| {
                let key: Option<IdempotencyKey> = event.idempotency_key.clone();
                let tenant: TenantId = event.key.tenant.clone();
                Some((tenant, key?))
            };
            let keys: Vec<_> = part.iter().filter_map(key_of).collect();
            for index in self.ledger.unknown_keys(&keys).await? {
                let (Some((position, event)), Some((_, key))) = (part.get(index), keys.get(index))
                else {
                    continue;
                };
                if self.scope.covers(&event.key) {
                    lost.push(Difference {
                        leg: Leg::Journals,
                        place: event.key.clone().into(),
                        what: format!("event under the key {key:?} of run {run} at {position}"),
                        expected: Figure::new("journal", event.amount),
                        found: Figure::new("usage_keys and quarantine", "none"),
                        standing: Standing::Differs,
                        mending: None,
                    });
                }
            }
        }
        Ok(lost)
    }

    fn compare_sums(
        &self,
        run: RunId,
        sums: &Sums,
        counted: Vec<(CellKey, RunUnits)>,
        is_whole: bool,
    ) -> Vec<Difference> {
        let mut in_ledger: BTreeMap<CellKey, RunUnits> = counted.into_iter().collect();
        for key in sums.flushed.keys() {
            in_ledger.entry(key.clone()).or_default();
        }
        let mut differences = Vec::new();
        for (key, ledger) in in_ledger.iter().filter(|(key, _)| self.scope.covers(key)) {
            let journal = sums.flushed.get(key).copied().unwrap_or_default();
            let figures = [
                ("consumed", journal.consumed, ledger.consumed),
                ("recorded", journal.recorded, ledger.recorded),
            ];
            for (column, journal, ledger) in figures {
                // What is left of a journal is a part of what the ledger has.
                if journal > ledger || is_whole && journal != ledger {
                    differences.push(Difference {
                        leg: Leg::Journals,
                        place: key.clone().into(),
                        what: format!("{column} by run {run}"),
                        expected: Figure::new("journal", journal),
                        found: Figure::new("run_totals", ledger),
                        standing: Standing::Differs,
                        mending: None,
                    });
                }
            }
        }
        let unflushed = sums.unflushed.iter().filter(|(key, _)| self.scope.covers(key));
        differences.extend(unflushed.map(|(key, (events, units))| Difference {
            leg: Leg::Journals,
            place: Place::from(key.clone()),
            what: format!("behind the mark of run {run}"),
            expected: Figure::new("journal", format!("{events} events, {units} units")),
            found: Figure::new("ledger", "not flushed yet"),
            standing: Standing::Expected,
            mending: None,
        }));
        differences
    }
}

/// Since when keys are kept for sure.
pub fn keys_kept_from(now: Timestamp, usage_keys_days: u32) -> Timestamp {
    let kept = SignedDuration::from_hours(24 * i64::from(usage_keys_days));
    now.checked_sub(kept).unwrap_or(Timestamp::MIN)
}
