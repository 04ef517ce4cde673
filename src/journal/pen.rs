//! The pen: whoever holds it writes what waits, for all.
//!
//! A thread that serves requests writes what its own requests have queued, and with it what others
//! have: one write for all that a wake-up has brought, and no hand-over to another thread. If
//! somebody else holds the pen, it is he who sees to it: when he has put it down he looks once more,
//! or rings for who does.
//!
//! A disk that is slow to take a write keeps one serving thread, while it does; no other waits for it.
//!
//! What is known to take long is left to the journal's thread (`writer.rs`): syncs, new segments, a change
//! of `run.json`. It also writes what nobody waits for.

use std::{
    collections::VecDeque,
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, TryLockError,
        atomic::{AtomicBool, Ordering, fence},
    },
};

use super::{
    error::{AppendError, JournalError},
    fatal::{Fatal, fatal},
    files::OpenFile,
    intake::{Chunk, Waiter},
    metrics::Outcome,
    position::Position,
    run_file::{RunEnd, RunFile},
    segment::{encode_header, segment_path},
    shared::Shared,
};
use crate::domain::usage::Durability;

/// How far ahead of the frames zeros are written. A sync is cheapest where the blocks were written
/// before, for then the file system has nothing of its own to write down: on ext4 it takes 0.07 ms
/// instead of 0.11 ms, where the disk is fast.
const ZEROS_AHEAD_BYTES: usize = 1 << 20;
static ZEROS: [u8; ZEROS_AHEAD_BYTES] = [0; ZEROS_AHEAD_BYTES];
/// How often whoever has the pen looks again whether others have queued something meanwhile, before
/// the journal's thread has its turn: it may have to sync.
const ROUNDS_MAX: usize = 4;

/// What the holder of the pen may change.
pub struct Pen {
    shared: Arc<Shared>,
    held: Mutex<Held>,
    /// Somebody found the pen in use and relies on whoever had it.
    is_missed: AtomicBool,
}

/// The state of what is written.
pub struct Held {
    run_file: RunFile,
    current: Option<Current>,
    /// Taken from the intake and not written yet: it needs the journal's thread.
    left: VecDeque<Chunk>,
    /// End of what was written.
    written: Position,
    /// Those who wait for the next sync.
    waiters: Vec<Waiter>,
    /// Something that was acknowledged from memory was refused afterwards.
    has_lost_acknowledged: bool,
    /// Why nothing more is written.
    failed: Option<Fatal>,
}

/// The segment that is written.
struct Current {
    number: u32,
    file: Arc<dyn OpenFile>,
    bytes: u32,
    /// Where the zeros end that were written ahead.
    zeroed_to: u32,
}

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

/// What one sync is to cover.
pub struct ToSync {
    /// Absent before the first segment.
    pub file: Option<Arc<dyn OpenFile>>,
    pub written: Position,
    pub waiters: Vec<Waiter>,
}

impl Current {
    fn write(&mut self, chunk: &Chunk) -> io::Result<()> {
        self.file.write_all_at(&chunk.bytes, u64::from(chunk.offset))?;
        // A chunk lies within its segment, whose size is a 32-bit number.
        let end = chunk.offset + chunk.bytes.len() as u32;
        match end > self.zeroed_to {
            true => self.zero_ahead(end),
            false => Ok(()),
        }
    }

    /// Whether zeros should be written before a frame needs them.
    fn is_short_of_zeros(&self, written: u32) -> bool {
        let left = self.zeroed_to.saturating_sub(written) as usize;
        left < ZEROS_AHEAD_BYTES / 2 && self.zeroed_to < self.bytes
    }

    /// Writes zeros from `start` on, where no frame is yet.
    fn zero_ahead(&mut self, start: u32) -> io::Result<()> {
        let ahead = &ZEROS[..ZEROS_AHEAD_BYTES.min((self.bytes - start) as usize)];
        self.file.write_all_at(ahead, u64::from(start))?;
        self.zeroed_to = start + ahead.len() as u32;
        Ok(())
    }
}

impl Pen {
    /// The pen of a run that has written nothing yet.
    pub fn new(shared: Arc<Shared>, run_file: RunFile) -> Self {
        let held = Held {
            run_file,
            current: None,
            left: VecDeque::new(),
            written: Position::START,
            waiters: vec![],
            has_lost_acknowledged: false,
            failed: None,
        };
        Self { shared, held: Mutex::new(held), is_missed: AtomicBool::new(false) }
    }

    /// What it is the pen of.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Writes what waits, as far as that is quickly done, unless somebody else does.
    pub fn help(&self) {
        let shared = &*self.shared;
        for _ in 0..ROUNDS_MAX {
            if !shared.intake.is_waited_for() {
                return;
            }
            let Some(mut held) = self.try_hold() else { return };
            // Who waits for a sync is bounded as the queue is: it fills until they are synced.
            let are_too_many = held.waiters.len() >= shared.intake.records_max();
            if !held.left.is_empty() || held.failed.is_some() || are_too_many {
                drop(held);
                return shared.bell.now();
            }
            held.left.extend(shared.intake.take());
            let written = held.write_plain(shared);
            let needs_thread =
                !held.left.is_empty() || held.failed.is_some() || !held.waiters.is_empty();
            drop(held);
            if needs_thread {
                shared.bell.now();
            }
            release_written(shared, written);
            // Forgotten, and fenced, before the next look: it finds what whoever missed the pen has
            // queued.
            let _ = self.was_missed();
        }
        shared.bell.now();
    }

    /// The pen, unless somebody else has it: he sees to what is queued when he has put it down.
    fn try_hold(&self) -> Option<MutexGuard<'_, Held>> {
        match self.held.try_lock() {
            Ok(held) => return Some(held),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Poisoned(_)) => {
                self.shared.bell.now();
                return None;
            }
        }
        self.is_missed.store(true, Ordering::SeqCst);
        // Either he is still there and sees that, or the pen is free now: never neither.
        fence(Ordering::SeqCst);
        self.held.try_lock().ok()
    }

    /// Whether somebody relies on whoever has just put the pen down.
    fn was_missed(&self) -> bool {
        fence(Ordering::SeqCst);
        self.is_missed.load(Ordering::SeqCst) && self.is_missed.swap(false, Ordering::SeqCst)
    }

    /// Does something with the pen in hand, once nobody else holds it.
    fn with<T>(&self, act: impl FnOnce(&mut Held) -> T) -> T {
        let mut held = match self.held.lock() {
            Ok(held) => held,
            Err(poisoned) => {
                // Whoever panicked may have been half way through a change.
                let mut held = poisoned.into_inner();
                let panicked = || Fatal("whoever wrote to it panicked".into());
                held.failed.get_or_insert_with(panicked);
                held
            }
        };
        let done = act(&mut held);
        drop(held);
        if self.was_missed() {
            self.shared.bell.now();
        }
        done
    }

    /// Writes what waits, with the segments that it needs. Only for the journal's thread, which is
    /// rung for if there is more: first it has to sync.
    pub fn write_all(&self) -> Result<(), Fatal> {
        let shared = &*self.shared;
        for _ in 0..ROUNDS_MAX {
            let (written, outcome) = self.with(|held| {
                held.left.extend(shared.intake.take());
                held.write_left(shared)
            });
            release_written(shared, written);
            outcome?;
            if !shared.intake.is_waited_for() {
                return Ok(());
            }
        }
        shared.bell.now();
        Ok(())
    }

    /// What the next sync covers, and who waits for it: nobody is covered once a write has failed.
    pub fn to_sync(&self) -> Result<ToSync, Fatal> {
        self.with(|held| match &held.failed {
            Some(fatal) => Err(fatal.clone()),
            None => Ok(ToSync {
                file: held.current.as_ref().map(|current| current.file.clone()),
                written: held.written,
                waiters: std::mem::take(&mut held.waiters),
            }),
        })
    }

    /// Whether somebody waits for a sync.
    pub fn has_waiters(&self) -> bool {
        self.with(|held| !held.waiters.is_empty())
    }

    /// Notes in `run.json` where the run ends: all that was let in is on disk.
    pub fn close(&self) -> Result<(), Fatal> {
        self.with(|held| {
            let position = held.written.into();
            let may_have_lost_acknowledged = held.has_lost_acknowledged;
            held.run_file.end = Some(RunEnd { position, may_have_lost_acknowledged });
            held.save_run_file(&self.shared).map_err(|error| Fatal(error.to_string().into()))
        })
    }

    /// Puts it down for good. Returned are those who wait for a sync that will not come; who waits
    /// for a write is told here.
    pub fn abandon(&self, reason: &Arc<str>) -> Vec<Waiter> {
        let (left, waiters) = self.with(|held| {
            held.failed.get_or_insert_with(|| Fatal(reason.clone()));
            (std::mem::take(&mut held.left), std::mem::take(&mut held.waiters))
        });
        let behind = self.shared.intake.abandon(reason.clone());
        let error = AppendError::Stopped { reason: reason.clone() };
        refuse(&self.shared, left.into_iter().chain(behind), &error);
        waiters
    }
}

impl Held {
    /// Writes the chunks that lie in the segment at hand; says what was written.
    fn write_plain(&mut self, shared: &Shared) -> Vec<Chunk> {
        let mut written = Vec::with_capacity(self.left.len());
        while let Some(chunk) = self.left.front() {
            let fits = self.current.as_ref().is_some_and(|now| now.number == chunk.segment);
            if !fits || !shared.admits(chunk.weakest) {
                break;
            }
            let Some(chunk) = self.left.pop_front() else { break };
            match self.write_chunk(shared, chunk) {
                Ok(chunk) => written.push(chunk),
                Err(fatal) => {
                    self.failed = Some(fatal);
                    break;
                }
            }
        }
        written
    }

    /// Writes all that was taken; says what was written, and why not the rest.
    fn write_left(&mut self, shared: &Shared) -> (Vec<Chunk>, Result<(), Fatal>) {
        let mut written = vec![];
        let outcome = loop {
            if let Some(fatal) = &self.failed {
                break Err(fatal.clone());
            }
            written.append(&mut self.write_plain(shared));
            let Some(chunk) = self.left.front() else {
                break self.zero_early().inspect_err(|fatal| self.failed = Some(fatal.clone()));
            };
            let (segment, weakest) = ((chunk.segment, chunk.segment_bytes), chunk.weakest);
            match self.make_way(shared, segment, weakest) {
                Ok(()) => {}
                Err(WriteError::Fatal(fatal)) => self.failed = Some(fatal),
                Err(WriteError::NoSpace(problem)) => {
                    self.refuse_left(shared, problem);
                    break Ok(());
                }
            }
        };
        (written, outcome)
    }

    /// Nothing from here on was written, nor will be.
    fn refuse_left(&mut self, shared: &Shared, problem: Arc<str>) {
        tracing::warn!(%problem, "no room on the disk for the journal");
        let behind = shared.rewind(self.written);
        let refused = std::mem::take(&mut self.left).into_iter().chain(behind);
        let error = AppendError::NoSpace { problem };
        self.has_lost_acknowledged |= refuse(shared, refused, &error) > 0;
    }

    /// Writes zeros before they are needed, so that no serving thread has to.
    fn zero_early(&mut self) -> Result<(), Fatal> {
        let written = self.written.offset;
        match &mut self.current {
            Some(current) if current.is_short_of_zeros(written) => {
                current.zero_ahead(current.zeroed_to).map_err(fatal("write to the journal"))
            }
            _ => Ok(()),
        }
    }

    /// Does what has to be done before a chunk of the segment with this number and size can be
    /// written, in which `weakest` is promised.
    fn make_way(
        &mut self,
        shared: &Shared,
        segment: (u32, u32),
        weakest: Durability,
    ) -> Result<(), WriteError> {
        // A chunk that fits waits for nothing but this.
        if !shared.admits(weakest) {
            return self.admit(shared, weakest);
        }
        self.begin_segment(shared, segment)
    }

    /// Writes a chunk. One that cannot be may be on disk in part: its waiters join those of the
    /// failed sync.
    fn write_chunk(&mut self, shared: &Shared, mut chunk: Chunk) -> Result<Chunk, Fatal> {
        let Some(current) = &mut self.current else { return Ok(chunk) };
        if let Err(error) = current.write(&chunk) {
            self.waiters.append(&mut chunk.waiters);
            return Err(fatal("write to the journal")(error));
        }
        shared.metrics.wrote(chunk.bytes.len());
        // A chunk lies within its segment, whose size is a 32-bit number.
        let offset = chunk.offset + chunk.bytes.len() as u32;
        self.written = Position { segment: chunk.segment, offset };
        let for_sync = |waiter: &mut Waiter| waiter.level == Durability::Sync;
        self.waiters.extend(chunk.waiters.extract_if(.., for_sync));
        Ok(chunk)
    }

    /// Puts the weaker promise on disk before the first acknowledgement that gives it.
    fn admit(&mut self, shared: &Shared, level: Durability) -> Result<(), WriteError> {
        self.run_file.weakest_durability = level;
        self.save_run_file(shared).map_err(|error| match error {
            // The file is what it was, or it admits to more than it must.
            JournalError::Io { source, .. } if is_out_of_space(&source) => {
                WriteError::NoSpace(source.to_string().into())
            }
            error => Fatal(error.to_string().into()).into(),
        })?;
        shared.set_admitted(level);
        Ok(())
    }

    fn save_run_file(&self, shared: &Shared) -> Result<(), JournalError> {
        self.run_file.write(&*shared.files, &shared.run_dir)
    }

    /// Creates a segment, once everything before it is on disk.
    fn begin_segment(
        &mut self,
        shared: &Shared,
        (segment, segment_bytes): (u32, u32),
    ) -> Result<(), WriteError> {
        if let Some(current) = &self.current {
            shared.sync(&*current.file, self.written)?;
        }
        let path = segment_path(&shared.run_dir, segment);
        let file = match create_segment(shared, &path, segment, segment_bytes) {
            Ok(file) => file,
            Err(error) if is_out_of_space(&error) => {
                // What is left of it holds no record and would be emptied; it only takes a name.
                let _ = shared.files.remove(&path);
                return Err(WriteError::NoSpace(error.to_string().into()));
            }
            Err(error) => return Err(fatal("create a journal segment")(error).into()),
        };
        let file = Arc::from(file);
        self.current = Some(Current { number: segment, file, bytes: segment_bytes, zeroed_to: 0 });
        Ok(())
    }
}

fn create_segment(
    shared: &Shared,
    path: &Path,
    segment: u32,
    segment_bytes: u32,
) -> io::Result<Box<dyn OpenFile>> {
    let Shared { files, run, run_dir, .. } = shared;
    let file = files.create(path, u64::from(segment_bytes))?;
    file.write_all_at(&encode_header(*run, segment), 0)?;
    file.sync()?;
    files.sync_dir(run_dir)?;
    Ok(file)
}

fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Tells those whose level is reached by the write; those who wait for a sync are gone from here.
fn release_written(shared: &Shared, chunks: Vec<Chunk>) {
    let (mut memory, mut written) = (0, 0);
    for chunk in chunks {
        for waiter in chunk.waiters {
            match waiter.level {
                Durability::Memory => memory += 1,
                Durability::Written | Durability::Sync => written += 1,
            }
            // A caller that went away needs no answer; its record is kept all the same.
            let _ = waiter.done.send(Ok(waiter.end));
        }
        shared.intake.recycle(chunk.bytes);
    }
    for (level, count) in [(Durability::Memory, memory), (Durability::Written, written)] {
        if count > 0 {
            shared.metrics.appended(level, Outcome::Kept, count);
        }
    }
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
