//! The handle of one run's journal.

use std::{
    any::Any,
    cell::RefCell,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use tokio::sync::{oneshot, watch};

use super::{
    config::JournalConfig,
    disk_use::DiskUse,
    encode::encode,
    error::{AppendError, JournalError},
    files::Files,
    frame::{self, FrameSeed},
    intake::Intake,
    leftover::{self, LeftoverRun, delete_segment},
    metrics::Outcome,
    pen::Pen,
    pending::{Pending, Waits},
    position::Position,
    reader::{Reader, Source},
    record::RecordRef,
    run_file::{RunFile, runs_dir},
    shared::{Health, Shared},
    writer::Writer,
};
use crate::{
    domain::{ids::RunId, usage::Durability},
    lanes::Shares,
};

/// Largest buffer that a thread keeps for its next record.
const SCRATCH_BYTES_MAX: usize = 64 << 10;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// One run's journal. Cheap to clone; the last clone that is dropped closes it.
#[derive(Clone)]
pub struct Journal {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    pen: Shares<Pen>,
    /// Guards the thread's handle, taken by the first who closes.
    writer: Mutex<Option<JoinHandle<()>>>,
    lock: Arc<dyn Any + Send + Sync>,
    boot_id: String,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close("the journal was dropped");
    }
}

impl Journal {
    /// Locks the data directory and starts the journal of a new run in it.
    ///
    /// Blocks for a few syncs. What earlier runs left behind is found by
    /// [`Journal::leftover_runs`]; it counts against the disk budget until it is deleted.
    pub fn open(
        config: JournalConfig,
        run: RunId,
        files: impl Files,
    ) -> Result<Self, JournalError> {
        config.check()?;
        let files: Arc<dyn Files> = Arc::new(files);
        let runs = runs_dir(&config.data_dir);
        create_dirs(&*files, &runs)?;
        let lock = lock(&*files, &config)?;
        let disk = Arc::new(DiskUse::new(config.disk_budget_bytes));
        leftover::count_segments(&*files, &runs, &disk)?;
        let mut run_file = RunFile {
            run,
            boot_id: files.boot_id().map_err(JournalError::io("read", "boot_id"))?,
            place: None,
            weakest_durability: Durability::Sync,
            end: None,
        };
        let boot_id = run_file.boot_id.clone();
        let run_dir = run_file.create_dir(&*files, &config.data_dir)?;
        let intake = Intake::new(&config, disk.clone(), FrameSeed::of(run));
        let dirs = (config.data_dir.clone(), run_dir);
        let shared = Arc::new(Shared::new(run, dirs, files, intake, disk));
        let pen = Arc::new(Pen::new(shared.clone(), run_file));
        let writer = Writer::new(pen.clone(), config.sync_delay_max(), lock.clone());
        let writer = thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run())
            .map_err(JournalError::io("start the writer of", &config.data_dir))?;
        let writer = Mutex::new(Some(writer));
        let pen = Shares::new(pen);
        Ok(Self { handle: Arc::new(Handle { shared, pen, writer, lock, boot_id }) })
    }

    /// Appends `record` and waits until it has reached `level`.
    ///
    /// Dropping the future does not take the record back. See [`AppendError::is_certain`] for what
    /// an error means.
    pub async fn append(
        &self,
        record: impl Into<RecordRef<'_>>,
        level: Durability,
    ) -> Result<Position, AppendError> {
        self.enqueue(record, level)?.await
    }

    /// Hands `record` over without waiting. It is refused here and now, or what becomes of it is
    /// learnt from the future, and not changed by dropping that.
    ///
    /// Encodes on the calling thread: a fraction of 1 µs for an event.
    pub fn enqueue<'r>(
        &self,
        record: impl Into<RecordRef<'r>>,
        level: Durability,
    ) -> Result<Pending, AppendError> {
        let shared = &self.handle.shared;
        let mut bytes = SCRATCH.take();
        bytes.clear();
        let start = frame::begin(&mut bytes);
        let kind = encode(record.into(), &mut bytes);
        let synced = shared.synced();
        frame::finish(&mut bytes, start, kind, synced, shared.seed);
        // From memory there is nothing to wait for, except for `run.json` to admit to it once.
        let (done, waits) = if level == Durability::Memory && shared.admits(level) {
            (None, None)
        } else {
            let (done, outcome) = oneshot::channel();
            (Some(done), Some(Waits { pen: self.handle.pen.share(), outcome, has_yielded: false }))
        };
        let pushed = shared.intake.push(&mut bytes, level, synced, done);
        if bytes.capacity() <= SCRATCH_BYTES_MAX {
            SCRATCH.set(bytes);
        }
        match pushed {
            Ok(place) => {
                match shared.intake.is_half_full() {
                    true => shared.bell.now(),
                    false => shared.bell.soon(),
                }
                if waits.is_none() {
                    shared.metrics.appended(level, Outcome::Kept, 1);
                }
                Ok(Pending { place, waits })
            }
            Err(error) => {
                shared.metrics.appended(level, Outcome::Refused, 1);
                Err(error)
            }
        }
    }

    /// The run whose journal it is.
    pub fn run(&self) -> RunId {
        self.handle.shared.run
    }

    /// The boot of this host, as the run's file has it.
    pub fn boot_id(&self) -> String {
        self.handle.boot_id.clone()
    }

    /// Follows the position up to which the journal is on disk.
    pub fn synced(&self) -> watch::Receiver<Position> {
        self.handle.shared.synced.subscribe()
    }

    /// Follows whether the journal takes records.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.handle.shared.health.subscribe()
    }

    /// Follows how often places were taken back, because the disk had no room: what a
    /// [`RecordPlace`] is to be compared with once the journal is synced as far.
    pub fn rewinds(&self) -> watch::Receiver<u64> {
        self.handle.shared.rewinds.subscribe()
    }

    /// Reads this run's synced records from `from` on.
    pub fn reader(&self, from: Position) -> Reader {
        Reader::new(Source::Live(self.handle.shared.clone()), from)
    }

    /// Deletes the segments that lie wholly before `mark`: everything there is flushed and settled.
    ///
    /// Blocks for one `unlink` and sync per segment. Says how many were deleted. The oldest go
    /// first and one after the other, so that a crash, or an error, never leaves a gap.
    pub fn release(&self, mark: Position) -> Result<usize, JournalError> {
        let shared = &self.handle.shared;
        let released = shared.intake.released(mark.min(shared.synced()));
        for (deleted, (number, segment)) in released.iter().enumerate() {
            match delete_segment(&*shared.files, &shared.run_dir, *number) {
                Ok(()) => shared.disk.give_back(u64::from(segment.bytes)),
                Err(error) => {
                    for (number, segment) in &released[deleted..] {
                        shared.intake.keep(*number, *segment);
                    }
                    return Err(error);
                }
            }
        }
        Ok(released.len())
    }

    /// Where the next record goes: the end of all that was taken and not refused since.
    pub fn tail(&self) -> Position {
        self.handle.shared.intake.tail()
    }

    /// The runs that were left in the data directory, this one excepted.
    pub fn leftover_runs(&self) -> Result<Vec<RunId>, JournalError> {
        let shared = &self.handle.shared;
        leftover::list(&*shared.files, &shared.data_dir, shared.run)
    }

    /// Opens what an earlier run left behind: finds where it ends, cuts its torn tail.
    ///
    /// Blocks: syncs its files and reads the last segment.
    pub fn recover(&self, run: RunId) -> Result<LeftoverRun, JournalError> {
        let shared = &self.handle.shared;
        LeftoverRun::recover(
            shared.files.clone(),
            &shared.data_dir,
            run,
            shared.disk.clone(),
            self.handle.lock.clone(),
        )
    }

    /// Lets no more records in, and waits until those that were let in are on disk.
    pub async fn close(&self) -> Health {
        let shared = &self.handle.shared;
        shared.close("the journal was closed");
        let mut health = self.health();
        // The sender lives in `shared`, so the only outcome is that the health has changed.
        let _ = health.wait_for(|health| *health != Health::Running).await;
        let writer = self.handle.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // Saying its health was the last thing that it did; it does not unwind.
            let _ = writer.join();
        }
        health.borrow().clone()
    }

    /// Deletes this run's files, once it is closed and all of it is flushed and settled.
    pub fn delete(self) -> Result<(), JournalError> {
        let shared = &self.handle.shared;
        leftover::delete_dir(&*shared.files, &shared.data_dir, &shared.run_dir)
    }
}

/// Makes sure that `dir` and its parents exist and survive a crash.
fn create_dirs(files: &dyn Files, dir: &Path) -> Result<(), JournalError> {
    let parent = match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    if files.list(dir).is_ok() {
        // A process that died before it could do so may have created it.
        return match files.sync_dir(parent) {
            // Then whoever owns the parent created it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced.map_err(JournalError::io("sync", parent)),
        };
    }
    create_dirs(files, parent)?;
    files.create_dir_all(dir).map_err(JournalError::io("create", dir))?;
    files.sync_dir(parent).map_err(JournalError::io("sync", parent))
}

fn lock(
    files: &dyn Files,
    config: &JournalConfig,
) -> Result<Arc<dyn Any + Send + Sync>, JournalError> {
    let path = config.data_dir.join("LOCK");
    match files.lock(&path) {
        Ok(lock) => Ok(Arc::new(lock)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(JournalError::Locked { path })
        }
        Err(source) => Err(JournalError::Io { action: "lock", path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{
        disk::Disk,
        reader::{Entry, ReadLimit},
        samples::{number, numbered, run},
    };

    const ALL: ReadLimit = ReadLimit { records_max: usize::MAX, bytes_max: usize::MAX };

    fn small(data_dir: &std::path::Path) -> JournalConfig {
        JournalConfig {
            segment_bytes: 4 << 10,
            disk_budget_bytes: 40 << 10,
            ..JournalConfig::new(data_dir)
        }
    }

    fn numbers(entries: &[Entry]) -> Vec<i64> {
        entries.iter().map(|entry| number(&entry.record)).collect()
    }

    #[tokio::test]
    async fn synced_records_are_read_in_order_while_the_run_lives() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(small(dir.path()), run(1), Disk).unwrap();
        let mut reader = journal.reader(Position::START);
        assert_eq!(reader.read(ALL).unwrap(), []);
        for n in 0..100 {
            let position = journal.append(&numbered(n, 100), Durability::Sync).await.unwrap();
            let entries = reader.read(ALL).unwrap();
            assert_eq!(numbers(&entries), [n]);
            assert_eq!(entries[0].position, position);
            assert_eq!(*journal.synced().borrow(), position);
        }
        let mut again = journal.reader(Position::START);
        let limit = ReadLimit { records_max: 7, bytes_max: usize::MAX };
        assert_eq!(numbers(&again.read(limit).unwrap()), (0..7).collect::<Vec<_>>());
        assert_eq!(numbers(&again.read(ALL).unwrap()), (7..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn records_that_are_larger_than_what_is_read_at_once_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let config = JournalConfig { segment_bytes: 8 << 20, ..JournalConfig::new(dir.path()) };
        let journal = Journal::open(config, run(1), Disk).unwrap();
        // The third begins in the first piece that is read, and ends behind it.
        for (n, kilobytes) in [(0, 1_500), (1, 700), (2, 700), (3, 0), (4, 3_000)] {
            journal.append(&numbered(n, kilobytes << 10), Durability::Sync).await.unwrap();
        }
        let mut reader = journal.reader(Position::START);
        assert_eq!(numbers(&reader.read(ALL).unwrap()), [0, 1, 2, 3, 4]);
        let mut adding_up = journal.reader(Position::START).adding_up();
        assert_eq!(adding_up.read(ALL).unwrap().len(), 5);
        assert_eq!(reader.position(), adding_up.position());
    }

    #[tokio::test]
    async fn weaker_records_are_synced_within_the_longest_delay() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(small(dir.path()), run(1), Disk).unwrap();
        let written = journal.append(&numbered(1, 0), Durability::Written).await.unwrap();
        let memory = journal.append(&numbered(2, 0), Durability::Memory).await.unwrap();
        assert!(written < memory);
        journal.synced().wait_for(|synced| *synced >= memory).await.unwrap();
        assert_eq!(numbers(&journal.reader(Position::START).read(ALL).unwrap()), [1, 2]);
    }

    #[tokio::test]
    async fn a_run_that_was_closed_is_found_whole_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(small(dir.path()), run(1), Disk).unwrap();
        for n in 0..50 {
            drop(journal.enqueue(&numbered(n, 100), Durability::Memory).unwrap());
        }
        assert_eq!(journal.close().await, Health::Closed);
        let refused = journal.append(&numbered(50, 0), Durability::Sync).await.unwrap_err();
        assert!(matches!(refused, AppendError::Stopped { .. }), "{refused}");
        drop(journal);

        let next = Journal::open(small(dir.path()), run(2), Disk).unwrap();
        assert_eq!(next.leftover_runs().unwrap(), [run(1)]);
        let left = next.recover(run(1)).unwrap();
        assert!(!left.may_have_lost_acknowledged());
        let mut reader = left.reader(Position::START);
        assert_eq!(numbers(&reader.read(ALL).unwrap()), (0..50).collect::<Vec<_>>());
        assert_eq!(reader.position(), left.end());
        // From a mark in the middle, also when the segments before it are gone.
        let middle = left.reader(Position::START).read(ALL).unwrap()[29].position;
        assert!(left.release(middle).unwrap() > 0);
        let rest = left.reader(middle).read(ALL).unwrap();
        assert_eq!(numbers(&rest), (30..50).collect::<Vec<_>>());
        left.delete().unwrap();
        assert_eq!(next.leftover_runs().unwrap(), []);
    }

    #[tokio::test]
    async fn a_second_process_is_told_that_the_directory_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(small(dir.path()), run(1), Disk).unwrap();
        let refused = Journal::open(small(dir.path()), run(2), Disk).map(|_| ()).unwrap_err();
        assert!(matches!(refused, JournalError::Locked { .. }), "{refused}");
        assert!(refused.to_string().contains("another process"), "{refused}");
        journal.close().await;
        drop(journal);
        assert!(Journal::open(small(dir.path()), run(3), Disk).is_ok());
    }

    #[tokio::test]
    async fn a_full_budget_refuses_records_until_what_is_flushed_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(small(dir.path()), run(1), Disk).unwrap();
        let mut kept = 0;
        let refused = loop {
            match journal.append(&numbered(kept, 1000), Durability::Sync).await {
                Ok(_) => kept += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, AppendError::BudgetFull { budget_bytes: 40_960 }), "{refused}");
        assert!(refused.is_certain());
        let mut reader = journal.reader(Position::START);
        assert_eq!(numbers(&reader.read(ALL).unwrap()), (0..kept).collect::<Vec<_>>());
        assert_eq!(journal.release(reader.position()).unwrap(), 9);
        journal.append(&numbered(kept, 1000), Durability::Sync).await.unwrap();
        assert_eq!(numbers(&reader.read(ALL).unwrap()), [kept]);
    }
}
