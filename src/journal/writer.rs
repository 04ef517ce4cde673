//! The one thread that writes: takes what waits, writes it, syncs, releases whom that covers.

use std::{
    any::Any,
    io, mem,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    error::{AppendError, JournalError},
    files::OpenFile,
    intake::{Chunk, Taken, Waiter},
    metrics::Outcome,
    position::Position,
    run_file::{RunEnd, RunFile},
    segment::{encode_header, segment_path},
    shared::{Health, Shared},
};
use crate::domain::usage::Durability;

/// How far ahead of the frames zeros are written. A sync is cheapest where the blocks were written
/// before, for then the file system has nothing of its own to write down: on ext4 it takes 0.07 ms
/// instead of 0.11 ms, where the disk is fast.
const ZEROS_AHEAD_BYTES: usize = 1 << 20;
static ZEROS: [u8; ZEROS_AHEAD_BYTES] = [0; ZEROS_AHEAD_BYTES];

/// The segment that is written.
struct Current {
    number: u32,
    file: Box<dyn OpenFile>,
    bytes: u32,
    /// Where the zeros end that were written ahead.
    zeroed_to: u32,
}

/// The state of the writing thread.
pub struct Writer {
    shared: Arc<Shared>,
    run_file: RunFile,
    sync_delay_max: Duration,
    current: Option<Current>,
    /// End of what was written.
    written: Position,
    /// When the oldest write that was not synced yet happened.
    unsynced_since: Option<Instant>,
    /// Those who wait for the next sync.
    waiters: Vec<Waiter>,
    /// Something that was acknowledged from memory was refused afterwards.
    has_lost_acknowledged: bool,
    /// The directory's lock, held as long as the writer lives.
    _lock: Arc<dyn Any + Send + Sync>,
}

/// Why the writer stops for good.
struct Fatal(Arc<str>);

/// Why a chunk was not written.
enum WriteError {
    Fatal(Fatal),
    NoSpace(Arc<str>),
}

impl From<Fatal> for WriteError {
    fn from(fatal: Fatal) -> Self {
        Self::Fatal(fatal)
    }
}

fn fatal(action: &'static str) -> impl Fn(io::Error) -> Fatal {
    move |error| Fatal(format!("cannot {action}: {error}").into())
}

impl Current {
    fn write(&mut self, chunk: &Chunk) -> io::Result<()> {
        self.file.write_all_at(&chunk.bytes, u64::from(chunk.offset))?;
        // A chunk lies within its segment, whose size is a 32-bit number.
        let end = chunk.offset + chunk.bytes.len() as u32;
        if end > self.zeroed_to {
            let ahead = &ZEROS[..ZEROS_AHEAD_BYTES.min((self.bytes - end) as usize)];
            self.file.write_all_at(ahead, u64::from(end))?;
            self.zeroed_to = end + ahead.len() as u32;
        }
        Ok(())
    }
}

impl Writer {
    /// A writer for a run that has written nothing yet.
    pub fn new(
        shared: Arc<Shared>,
        run_file: RunFile,
        sync_delay_max: Duration,
        lock: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        Self {
            shared,
            run_file,
            sync_delay_max,
            current: None,
            written: Position::START,
            unsynced_since: None,
            waiters: vec![],
            has_lost_acknowledged: false,
            _lock: lock,
        }
    }

    /// Writes until the intake is closed or an error ends it.
    pub fn run(mut self) {
        // A panic must not leave callers waiting for a thread that is gone.
        let health = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.work())) {
            Ok(Ok(())) => Health::Closed,
            Ok(Err(Fatal(reason))) => Health::Failed { reason },
            Err(_) => Health::Failed { reason: "the journal's writer panicked".into() },
        };
        if let Health::Failed { reason } = &health {
            tracing::error!(run = %self.shared.run, %reason, "the journal has stopped for good");
            self.abandon(reason.clone());
        }
        self.shared.health.send_replace(health);
    }

    fn work(&mut self) -> Result<(), Fatal> {
        loop {
            let deadline = self.unsynced_since.map(|since| since + self.sync_delay_max);
            match self.shared.intake.take(deadline) {
                Taken::Chunks(chunks) => self.write_chunks(chunks)?,
                Taken::Nothing => {}
                Taken::Closed => return self.close(),
            }
            // Whoever waits for a sync gets one now; the others' comes when the delay is over.
            let overdue =
                self.unsynced_since.is_some_and(|since| since.elapsed() >= self.sync_delay_max);
            if !self.waiters.is_empty() || overdue {
                self.sync()?;
            }
            let depth = self.shared.intake.depth();
            self.shared.metrics.depth(depth, self.shared.disk.used_bytes());
        }
    }

    fn write_chunks(&mut self, chunks: Vec<Chunk>) -> Result<(), Fatal> {
        let mut chunks = chunks.into_iter();
        while let Some(mut chunk) = chunks.next() {
            match self.write_chunk(&chunk) {
                Ok(()) => {
                    self.release_written(&mut chunk);
                    self.shared.intake.recycle(chunk.bytes);
                }
                Err(WriteError::NoSpace(problem)) => {
                    tracing::warn!(%problem, "no room on the disk for the journal");
                    let behind = self.shared.rewind(self.written);
                    let error = AppendError::NoSpace { problem };
                    let refused = [chunk].into_iter().chain(chunks).chain(behind);
                    self.has_lost_acknowledged |= refuse(&self.shared, refused, &error) > 0;
                    return Ok(());
                }
                Err(WriteError::Fatal(fatal)) => {
                    // The chunk may be on disk in part: its waiters join those of the failed sync.
                    self.waiters.append(&mut chunk.waiters);
                    let error = AppendError::Stopped { reason: fatal.0.clone() };
                    refuse(&self.shared, chunks, &error);
                    return Err(fatal);
                }
            }
        }
        Ok(())
    }

    fn write_chunk(&mut self, chunk: &Chunk) -> Result<(), WriteError> {
        if !self.shared.admits(chunk.weakest) {
            self.admit(chunk.weakest)?;
        }
        if self.current.as_ref().is_none_or(|current| current.number != chunk.segment) {
            self.begin_segment(chunk)?;
        }
        let Some(current) = &mut self.current else { return Ok(()) };
        current.write(chunk).map_err(fatal("write to the journal"))?;
        self.shared.metrics.wrote(chunk.bytes.len());
        // A chunk lies within its segment, whose size is a 32-bit number.
        let offset = chunk.offset + chunk.bytes.len() as u32;
        self.written = Position { segment: chunk.segment, offset };
        self.unsynced_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Puts the weaker promise on disk before the first acknowledgement that gives it.
    fn admit(&mut self, level: Durability) -> Result<(), WriteError> {
        self.run_file.weakest_durability = level;
        self.save_run_file().map_err(|error| match error {
            // The file is what it was, or it admits to more than it must.
            JournalError::Io { source, .. } if is_out_of_space(&source) => {
                WriteError::NoSpace(source.to_string().into())
            }
            error => Fatal(error.to_string().into()).into(),
        })?;
        self.shared.set_admitted(level);
        Ok(())
    }

    fn save_run_file(&self) -> Result<(), JournalError> {
        self.run_file.write(&*self.shared.files, &self.shared.run_dir)
    }

    /// Creates the chunk's segment, once everything before it is on disk.
    fn begin_segment(&mut self, chunk: &Chunk) -> Result<(), WriteError> {
        if self.unsynced_since.is_some() {
            self.sync()?;
        }
        let path = segment_path(&self.shared.run_dir, chunk.segment);
        let file = match self.create_segment(&path, chunk) {
            Ok(file) => file,
            Err(error) if is_out_of_space(&error) => {
                // What is left of it holds no record and would be emptied; it only takes a name.
                let _ = self.shared.files.remove(&path);
                return Err(WriteError::NoSpace(error.to_string().into()));
            }
            Err(error) => return Err(fatal("create a journal segment")(error).into()),
        };
        self.current =
            Some(Current { number: chunk.segment, file, bytes: chunk.segment_bytes, zeroed_to: 0 });
        Ok(())
    }

    fn create_segment(&self, path: &Path, chunk: &Chunk) -> io::Result<Box<dyn OpenFile>> {
        let Shared { files, run, run_dir, .. } = &*self.shared;
        let file = files.create(path, u64::from(chunk.segment_bytes))?;
        file.write_all_at(&encode_header(*run, chunk.segment), 0)?;
        file.sync()?;
        files.sync_dir(run_dir)?;
        Ok(file)
    }

    fn sync(&mut self) -> Result<(), Fatal> {
        if self.unsynced_since.take().is_some()
            && let Some(Current { file, .. }) = &self.current
        {
            let started = Instant::now();
            file.sync_data().map_err(fatal("sync the journal"))?;
            self.shared.metrics.synced(started.elapsed());
            self.shared.set_synced(self.written);
        }
        self.shared.metrics.appended(Durability::Sync, Outcome::Kept, self.waiters.len() as u64);
        for waiter in self.waiters.drain(..) {
            // A caller that went away needs no answer; its record is kept all the same.
            let _ = waiter.done.send(Ok(waiter.end));
        }
        Ok(())
    }

    fn release_written(&mut self, chunk: &mut Chunk) {
        let mut written = 0;
        for waiter in mem::take(&mut chunk.waiters) {
            match waiter.level {
                Durability::Sync => self.waiters.push(waiter),
                Durability::Written => {
                    written += 1;
                    let _ = waiter.done.send(Ok(waiter.end));
                }
                Durability::Memory => {
                    self.shared.metrics.appended(Durability::Memory, Outcome::Kept, 1);
                    let _ = waiter.done.send(Ok(waiter.end));
                }
            }
        }
        if written > 0 {
            self.shared.metrics.appended(Durability::Written, Outcome::Kept, written);
        }
    }

    /// Everything that was let in is written: make it durable and say so.
    fn close(&mut self) -> Result<(), Fatal> {
        self.sync()?;
        let position = self.written.into();
        let may_have_lost_acknowledged = self.has_lost_acknowledged;
        self.run_file.end = Some(RunEnd { position, may_have_lost_acknowledged });
        self.save_run_file().map_err(|error| Fatal(error.to_string().into()))
    }

    /// Tells everybody who still waits.
    fn abandon(&mut self, reason: Arc<str>) {
        let behind = self.shared.intake.abandon(reason.clone());
        refuse(&self.shared, behind, &AppendError::Stopped { reason: reason.clone() });
        for waiter in self.waiters.drain(..) {
            self.shared.metrics.appended(waiter.level, Outcome::Uncertain, 1);
            let _ = waiter.done.send(Err(AppendError::Uncertain { reason: reason.clone() }));
        }
    }
}

fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Tells the waiters of chunks of which nothing was written. How many records there were for which
/// nobody waits any more.
fn refuse(shared: &Shared, chunks: impl IntoIterator<Item = Chunk>, error: &AppendError) -> usize {
    let mut dropped = 0;
    for chunk in chunks {
        dropped += chunk.records - chunk.waiters.len();
        for waiter in chunk.waiters {
            shared.metrics.appended(waiter.level, Outcome::Refused, 1);
            let _ = waiter.done.send(Err(error.clone()));
        }
    }
    if dropped > 0 {
        shared.metrics.appended(Durability::Memory, Outcome::Refused, dropped as u64);
        tracing::error!(
            records = dropped, %error,
            "records that were acknowledged from memory did not reach the journal"
        );
    }
    dropped
}
