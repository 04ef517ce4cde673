//! What must be found after a death.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    domain::{ids::RunId, usage::Durability},
    journal::{error::JournalError, faulty::Death, position::Position},
};

/// What a life did, as its callers know it.
#[derive(Clone, Debug)]
pub enum Deed {
    Sent {
        run: RunId,
        number: i64,
    },
    Acknowledged {
        number: i64,
        level: Durability,
    },
    Refused {
        number: i64,
    },
    /// The run was closed in good order.
    Closed {
        run: RunId,
    },
    /// The run's end was found.
    Recovered {
        run: RunId,
    },
    /// These are in the ledger now, with its mark.
    Flushed {
        run: RunId,
        mark: Position,
        numbers: Vec<i64>,
    },
    /// A sync of a file has failed, or may have.
    SyncFailed,
}

/// A deed, and how many changes had been made to the disk before it.
pub type Noted = (usize, Deed);

/// What is known outside the disk.
#[derive(Clone, Debug, Default)]
pub struct Model {
    sent: BTreeMap<i64, RunId>,
    /// With the level that the record has reached.
    acknowledged: BTreeMap<i64, Durability>,
    /// Acknowledged at a level that a death since has not spared.
    excused: BTreeSet<i64>,
    refused: BTreeSet<i64>,
    ledger: BTreeMap<RunId, (Position, Vec<i64>)>,
    /// The kernel may show what is not on the disk.
    has_sync_failed: bool,
}

/// What recovery found of a run: its records, those in the ledger included.
#[derive(Debug)]
pub struct Found {
    pub numbers: Vec<i64>,
    pub may_have_lost: bool,
    /// Why there are no more of them.
    pub error: Option<JournalError>,
}

pub type FoundRuns = BTreeMap<RunId, Found>;

impl Model {
    /// With the deeds that happened before that moment.
    pub fn after(&self, noted: &[Noted], moment: usize) -> Self {
        let mut model = self.clone();
        // Of what is refused nothing is ever written, so it is known beforehand.
        model.refused.extend(noted.iter().filter_map(|(_, deed)| match deed {
            Deed::Refused { number } => Some(*number),
            _ => None,
        }));
        for (at, deed) in noted {
            // A record may be on the disk before its sender hears of it.
            if *at <= moment || matches!(deed, Deed::Sent { .. }) {
                model.note(deed);
            }
        }
        model
    }

    fn note(&mut self, deed: &Deed) {
        match deed {
            Deed::Sent { run, number } => {
                self.sent.insert(*number, *run);
            }
            Deed::Acknowledged { number, level } => {
                self.acknowledged.insert(*number, *level);
            }
            Deed::Refused { .. } => {}
            Deed::Closed { run } => self.reaches_disk(*run, Durability::Written),
            // After a sync that failed the kernel may show what will never be on the disk.
            Deed::Recovered { .. } if self.has_sync_failed => {}
            Deed::Recovered { run } => self.reaches_disk(*run, Durability::Written),
            Deed::Flushed { run, mark, numbers } => {
                let flushed = self.ledger.entry(*run).or_default();
                flushed.0 = *mark;
                flushed.1.extend(numbers);
            }
            Deed::SyncFailed => self.has_sync_failed = true,
        }
    }

    fn reaches_disk(&mut self, run: RunId, from: Durability) {
        for (number, level) in &mut self.acknowledged {
            if self.sent[number] == run && *level >= from {
                *level = Durability::Sync;
            }
        }
    }

    /// What may be asked after that death.
    pub fn died(&self, death: Death) -> Self {
        let survives = match death {
            Death::Process => Durability::Written,
            Death::Host | Death::HostLosingAll => Durability::Sync,
        };
        let mut model = self.clone();
        for (number, level) in &self.acknowledged {
            if *level < survives {
                model.acknowledged.remove(number);
                model.excused.insert(*number);
            }
        }
        model
    }

    /// Where the ledger's mark of the run stands, and what it has of it.
    pub fn flushed(&self, run: RunId) -> (Position, Vec<i64>) {
        self.ledger.get(&run).cloned().unwrap_or_default()
    }

    /// The ledger's records, by run.
    pub fn in_ledger(&self) -> impl Iterator<Item = (RunId, &Vec<i64>)> {
        self.ledger.iter().map(|(run, (_, numbers))| (*run, numbers))
    }

    /// Compares what was found with what must be.
    pub fn check(&self, found: &FoundRuns) -> Result<(), String> {
        for (run, found) in found {
            let Found { numbers, may_have_lost, error } = found;
            if let Some(error) = error
                && !self.has_sync_failed
            {
                return Err(format!("run {run} cannot be read: {error}"));
            }
            if !numbers.is_sorted_by(|a, b| a < b) {
                return Err(format!("out of order or twice: {numbers:?}"));
            }
            if let Some(number) = numbers.iter().find(|number| self.sent.get(number) != Some(run)) {
                return Err(format!("{number} was not sent in run {run}"));
            }
            let is_missing =
                |number: &&i64| self.sent.get(*number) == Some(run) && !numbers.contains(*number);
            if let (Some(number), false) =
                (self.excused.iter().find(is_missing), *may_have_lost || error.is_some())
            {
                return Err(format!("{number} is lost, and run {run} does not say so"));
            }
        }
        let all: BTreeSet<i64> =
            found.values().flat_map(|found| found.numbers.iter().copied()).collect();
        if let Some(number) = all.intersection(&self.refused).next() {
            return Err(format!("{number} was refused and is there"));
        }
        let errors: Vec<_> = found.values().filter_map(|found| found.error.as_ref()).collect();
        // Where the kernel showed what was not on the disk, its loss is told.
        let must = if errors.is_empty() { Durability::Memory } else { Durability::Sync };
        let is_lost =
            |(number, level): &(&i64, &Durability)| **level >= must && !all.contains(number);
        match self.acknowledged.iter().find(is_lost) {
            Some((number, level)) => {
                Err(format!("{number}, acknowledged at {level:?}, is lost: {all:?} {errors:?}"))
            }
            None => Ok(()),
        }
    }

    /// A later recovery finds the same.
    pub fn check_again(&self, first: &FoundRuns, again: &FoundRuns) -> Result<(), String> {
        for (run, first) in first {
            let numbers =
                again.get(run).map_or_else(|| self.flushed(*run).1, |run| run.numbers.clone());
            let error = again.get(run).and_then(|run| run.error.as_ref());
            // What the kernel showed the first time may have gone with the host; that is told.
            let is_told = self.has_sync_failed && error.is_some();
            if numbers != first.numbers && !(is_told && first.numbers.starts_with(&numbers)) {
                return Err(format!("{:?} first, then {numbers:?}, {error:?}", first.numbers));
            }
        }
        self.check(again)
    }
}
