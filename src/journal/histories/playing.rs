//! Plays a life on a disk and notes what its callers learn.

use std::collections::BTreeMap;

use super::{
    mistake::Mistake,
    model::{Deed, Found, FoundRuns, Model, Noted},
    plan::{Life, Step},
};
use crate::{
    domain::{ids::RunId, usage::Durability},
    journal::{
        Journal,
        config::JournalConfig,
        faulty::{FaultyDisk, Moment, Operation},
        leftover::LeftoverRun,
        position::Position,
        reader::{ReadLimit, Reader},
        samples::{number, numbered, run},
        shared::Health,
    },
};

const OPERATIONS: [Operation; 8] = [
    Operation::Create,
    Operation::Open,
    Operation::Read,
    Operation::Write,
    Operation::Sync,
    Operation::SyncDir,
    Operation::Rename,
    Operation::Remove,
];

fn config() -> JournalConfig {
    JournalConfig {
        segment_bytes: 4 << 10,
        disk_budget_bytes: 64 << 10,
        ..JournalConfig::new("data")
    }
}

fn up_to(records_max: usize) -> ReadLimit {
    ReadLimit { records_max, bytes_max: usize::MAX }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

struct Player<'a> {
    disk: &'a FaultyDisk,
    journal: Journal,
    reader: Reader,
    /// The runs that the journal found, with how far the ledger has them.
    left: BTreeMap<RunId, (LeftoverRun, Reader)>,
    next_number: i64,
    changes_before: u64,
    noted: Vec<Noted>,
    mistake: Option<Mistake>,
}

/// Plays `life` as the run of that number; the moments of the disk, and what was noted.
pub fn play(
    disk: &FaultyDisk,
    number: u128,
    life: &Life,
    (model, mistake): (&Model, Option<Mistake>),
) -> Result<(Vec<Moment>, Vec<Noted>), String> {
    let changes_before = disk.changes();
    disk.record();
    let journal = Journal::open(config(), run(number), disk.clone())
        .map_err(|error| format!("life {number} cannot begin: {error}"))?;
    let reader = journal.reader(Position::START);
    let mut player = Player {
        disk,
        journal,
        reader,
        left: BTreeMap::new(),
        next_number: i64::try_from(number).unwrap() * 1000,
        changes_before,
        noted: vec![],
        mistake,
    };
    player.find_left(model);
    for step in &life.steps {
        player.step(step);
    }
    player.step(&Step::Mend);
    if life.is_closed && block_on(player.journal.close()) == Health::Closed {
        player.note(Deed::Closed { run: run(number) });
    }
    let moments = disk.moments();
    let Player { noted, journal, .. } = player;
    // Not a part of this life any more.
    disk.die_after(0);
    block_on(journal.close());
    Ok((moments, noted))
}

impl Player<'_> {
    fn note(&mut self, deed: Deed) {
        let changes = self.disk.changes() - self.changes_before;
        self.noted.push((usize::try_from(changes).unwrap(), deed));
    }

    fn find_left(&mut self, model: &Model) {
        for run in self.journal.leftover_runs().unwrap_or_default() {
            if let Ok(left) = self.journal.recover(run) {
                let reader = left.reader(model.flushed(run).0);
                self.left.insert(run, (left, reader));
                self.note(Deed::Recovered { run });
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Send(records) => self.send(records),
            Step::Flush(records) => self.flush(*records),
            Step::FlushLeft(records) => {
                let mut runs = std::mem::take(&mut self.left);
                for (run, (left, reader)) in &mut runs {
                    self.flush_left(*run, (left, reader), *records);
                }
                self.left = runs;
            }
            Step::DeleteLeft => {
                for (run, (left, mut reader)) in std::mem::take(&mut self.left) {
                    if self.flush_left(run, (&left, &mut reader), usize::MAX) {
                        let _ = left.delete();
                    }
                }
            }
            Step::Break(operation, kind) => {
                if *operation == Operation::Sync {
                    self.note(Deed::SyncFailed);
                }
                self.disk.fail(*operation, Some(*kind));
            }
            Step::Mend => {
                for operation in OPERATIONS {
                    self.disk.fail(operation, None);
                }
            }
        }
    }

    fn send(&mut self, records: &[(Durability, usize)]) {
        let run = self.journal.run();
        let mut pending = vec![];
        for (level, padding) in records {
            let number = self.next_number;
            self.next_number += 1;
            self.note(Deed::Sent { run, number });
            match self.journal.enqueue(&numbered(number, *padding), *level) {
                Ok(answer) => pending.push((number, *level, answer)),
                Err(_) => self.note(Deed::Refused { number }),
            }
        }
        for (number, level, answer) in pending {
            match block_on(answer) {
                Ok(_) => self.note(Deed::Acknowledged { number, level }),
                Err(error) if error.is_certain() => self.note(Deed::Refused { number }),
                Err(_) => {}
            }
        }
    }

    fn flush(&mut self, records: usize) {
        let Ok(entries) = self.reader.read(up_to(records)) else { return };
        let numbers = entries.iter().map(|entry| number(&entry.record)).collect();
        let mark = self.reader.position();
        self.note(Deed::Flushed { run: self.journal.run(), mark, numbers });
        let _ = self.journal.release(match self.mistake {
            Some(Mistake::ReleasedBeforeMark) => *self.journal.synced().borrow(),
            _ => mark,
        });
    }

    /// Whether all of it is in the ledger.
    fn flush_left(
        &mut self,
        run: RunId,
        (left, reader): (&LeftoverRun, &mut Reader),
        records: usize,
    ) -> bool {
        let Ok(entries) = reader.read(up_to(records)) else { return false };
        let numbers = entries.iter().map(|entry| number(&entry.record)).collect();
        self.note(Deed::Flushed { run, mark: reader.position(), numbers });
        let _ = left.release(reader.position());
        // An error comes with the next call.
        records == usize::MAX && reader.read(up_to(1)).is_ok_and(|entries| entries.is_empty())
    }
}

/// What a new run finds of all that were left.
pub fn recover_all(disk: &FaultyDisk, number: u128, model: &Model) -> Result<FoundRuns, String> {
    let journal = Journal::open(config(), run(number), disk.clone())
        .map_err(|error| format!("no journal can be opened: {error}"))?;
    let runs = journal.leftover_runs().map_err(|error| error.to_string())?;
    let mut found: FoundRuns =
        runs.into_iter().map(|run| (run, find(&journal, run, model))).collect();
    block_on(journal.close());
    for (run, numbers) in model.in_ledger() {
        // Whoever deleted it has seen whether something may have been lost.
        let deleted = || Found { numbers: numbers.clone(), may_have_lost: true, error: None };
        found.entry(run).or_insert_with(deleted);
    }
    Ok(found)
}

fn find(journal: &Journal, run: RunId, model: &Model) -> Found {
    let (mark, mut numbers) = model.flushed(run);
    let left = match journal.recover(run) {
        Ok(left) => left,
        Err(error) => return Found { numbers, may_have_lost: true, error: Some(error) },
    };
    let mut reader = left.reader(mark);
    let error = loop {
        match reader.read(up_to(5)) {
            Ok(entries) if entries.is_empty() => break None,
            Ok(entries) => numbers.extend(entries.iter().map(|entry| number(&entry.record))),
            Err(error) => break Some(error),
        }
    };
    Found { numbers, may_have_lost: left.may_have_lost_acknowledged(), error }
}
