//! Reads the journals of a directory without touching anything: no lock, no write, no cut. A sidecar
//! may be writing there.
//!
//! A run that is over is read up to its end. Of one that is being written, what is whole when it is
//! looked at is read: part of that may not be synced yet, so a host crash could still take it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    disk::Disk,
    error::JournalError,
    files::Files,
    leftover::{segment_end, segments},
    position::Position,
    reader::{LeftSource, Reader, Source},
    run_file::{RunFile, run_dir, runs_dir},
};
use crate::domain::ids::RunId;

/// A run's journal, to be looked at.
pub struct BrowsedRun {
    source: LeftSource,
    /// Whether nothing of it was deleted yet.
    pub is_whole: bool,
    /// Whether it is known how it ended.
    pub is_over: bool,
}

/// The runs that have a journal in the data directory.
pub fn runs(data_dir: &Path) -> Result<Vec<RunId>, JournalError> {
    let dir = runs_dir(data_dir);
    let names = Disk.list(&dir).map_err(JournalError::io("list", &dir))?;
    let mut runs: Vec<RunId> = names.iter().filter_map(|name| name.parse().ok()).collect();
    runs.sort_unstable();
    Ok(runs)
}

impl BrowsedRun {
    /// Finds where the journal of `run` ends for now. `None`: it was deleted meanwhile.
    pub fn open(data_dir: &Path, run: RunId) -> Result<Option<Self>, JournalError> {
        let dir = run_dir(data_dir, run);
        match Self::look(dir.clone(), run) {
            Err(_) if !dir.exists() => Ok(None),
            looked => looked.map(Some),
        }
    }

    fn look(dir: PathBuf, run: RunId) -> Result<Self, JournalError> {
        let files: Arc<dyn Files> = Arc::new(Disk);
        let known_end = RunFile::read(&*files, &dir)?.end;
        let numbers = segments(&*files, &dir)?;
        let mut end = known_end.map(|end| Position::from(end.position));
        // The last segment may have been created without a record reaching it.
        for number in numbers.iter().rev() {
            if end.is_none() {
                end = segment_end(&*files, &dir, run, *number)?;
            }
        }
        Ok(Self {
            is_whole: numbers.first().is_none_or(|first| *first == 1),
            is_over: known_end.is_some(),
            source: LeftSource { run, run_dir: dir, files, end: end.unwrap_or(Position::START) },
        })
    }

    /// The run.
    pub fn run(&self) -> RunId {
        self.source.run
    }

    /// The end of its last record, as far as it was looked at.
    pub fn end(&self) -> Position {
        self.source.end
    }

    /// Reads its records from the first that is left. Segments that are deleted meanwhile end it with
    /// [`JournalError::Released`].
    pub fn reader(&self) -> Reader {
        Reader::new(Source::Left(self.source.clone()), Position::START)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::usage::Durability,
        journal::{Journal, config::JournalConfig, reader::ReadLimit, samples::numbered},
    };

    const ALL: ReadLimit = ReadLimit { records_max: 1_000, bytes_max: 1 << 30 };

    #[tokio::test]
    async fn a_journal_is_read_while_it_is_written_and_nothing_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunId(Uuid::from_u128(7));
        let journal = Journal::open(JournalConfig::new(dir.path()), run, Disk).unwrap();
        for number in 0..10 {
            journal.append(&numbered(number, 20), Durability::Sync).await.unwrap();
        }
        assert_eq!(runs(dir.path()).unwrap(), [run]);
        let before = std::fs::read(run_dir(dir.path(), run).join("run.json")).unwrap();
        let browsed = BrowsedRun::open(dir.path(), run).unwrap().unwrap();
        assert!(browsed.is_whole && !browsed.is_over);
        assert_eq!(browsed.reader().read(ALL).unwrap().len(), 10);
        let last = journal.append(&numbered(10, 20), Durability::Sync).await.unwrap();
        assert_eq!(browsed.reader().read(ALL).unwrap().len(), 10, "as it was when it was opened");
        journal.close().await;
        let browsed = BrowsedRun::open(dir.path(), run).unwrap().unwrap();
        assert_eq!((browsed.is_over, browsed.end()), (true, last));
        assert_eq!(browsed.reader().read(ALL).unwrap().len(), 11);
        let after = std::fs::read(run_dir(dir.path(), run).join("run.json")).unwrap();
        assert_ne!(before, after, "the journal's own word of its end");
        assert!(BrowsedRun::open(dir.path(), RunId(Uuid::nil())).unwrap().is_none());
    }
}
