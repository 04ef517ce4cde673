//! What waits to be written: frames are given their places here, under one short lock.
//!
//! The place of a frame is known as soon as it is accepted, so who writes has nothing to decide: it
//! takes what is there, writes each chunk where it belongs, and releases its waiters.

use std::{
    collections::BTreeMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::oneshot;

use super::{
    config::{JournalConfig, RECORD_BYTES_MAX},
    disk_use::DiskUse,
    error::AppendError,
    frame::{self, FrameSeed, Kind},
    position::{Position, RecordPlace},
    segment::HEADER_BYTES,
};
use crate::domain::usage::Durability;

/// Frames from this size on are handed over as they are instead of being copied together.
const COPY_BYTES_MAX: usize = 64 << 10;
/// Largest buffer that is kept for reuse.
const KEPT_BUFFER_BYTES_MAX: usize = 4 << 20;

/// Who waits for a record, and for what.
#[derive(Debug)]
pub struct Waiter {
    pub end: Position,
    pub level: Durability,
    pub done: oneshot::Sender<Result<Position, AppendError>>,
}

/// Frames that lie next to each other in one segment.
#[derive(Debug)]
pub struct Chunk {
    pub segment: u32,
    /// Size that the segment is created with.
    pub segment_bytes: u32,
    pub offset: u32,
    pub bytes: Vec<u8>,
    pub waiters: Vec<Waiter>,
    /// Records in the chunk, waited for or not.
    pub records: usize,
    /// The weakest level that one of the records was asked for.
    pub weakest: Durability,
}

/// A segment that exists or is about to.
#[derive(Clone, Copy, Debug)]
pub struct SegmentUse {
    /// Size on disk.
    pub bytes: u32,
    /// Where its frames end; known once a later segment was begun.
    pub end: Option<u32>,
}

struct State {
    chunks: Vec<Chunk>,
    records: usize,
    bytes: usize,
    /// Where the next frame goes.
    tail: Position,
    /// How often places were taken back.
    rewinds: u64,
    segment_bytes: u32,
    segments: BTreeMap<u32, SegmentUse>,
    closed: Option<Arc<str>>,
    /// Buffers that were written and came back.
    spare: Vec<Vec<u8>>,
}

/// The queue between those who append and who writes.
pub struct Intake {
    /// Guards the queue and the places that were given out; held for a copy of a frame at most.
    state: Mutex<State>,
    /// Whether there are chunks, readable without the lock.
    has_chunks: AtomicBool,
    /// Whether half of the room is taken, readable without the lock.
    is_half_full: AtomicBool,
    disk: Arc<DiskUse>,
    seed: FrameSeed,
    segment_bytes: u32,
    records_max: usize,
    bytes_max: usize,
}

impl Intake {
    /// An empty queue.
    pub fn new(config: &JournalConfig, disk: Arc<DiskUse>, seed: FrameSeed) -> Self {
        let state = State {
            chunks: vec![],
            records: 0,
            bytes: 0,
            tail: Position::START,
            rewinds: 0,
            segment_bytes: 0,
            segments: BTreeMap::new(),
            closed: None,
            spare: vec![],
        };
        Self {
            state: Mutex::new(state),
            has_chunks: AtomicBool::new(false),
            is_half_full: AtomicBool::new(false),
            disk,
            seed,
            segment_bytes: config.segment_bytes,
            records_max: config.queue_records_max,
            bytes_max: config.queue_bytes_max,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the frame in `bytes` its place and queues it. With `done`, its sender learns when the
    /// record has reached `level`. On success `bytes` is left empty for reuse.
    ///
    /// `synced` is where the journal was known to be synced when the frame was made.
    pub fn push(
        &self,
        bytes: &mut Vec<u8>,
        level: Durability,
        synced: Position,
        done: Option<oneshot::Sender<Result<Position, AppendError>>>,
    ) -> Result<RecordPlace, AppendError> {
        let body_bytes = bytes.len() - frame::FRAME_HEADER_BYTES;
        if body_bytes > RECORD_BYTES_MAX as usize {
            return Err(AppendError::TooLarge {
                bytes: body_bytes,
                bytes_max: RECORD_BYTES_MAX as usize,
            });
        }
        let mut state = self.state();
        if let Some(reason) = &state.closed {
            return Err(AppendError::Stopped { reason: reason.clone() });
        }
        let full = state.records >= self.records_max
            || (state.records > 0 && state.bytes + bytes.len() > self.bytes_max);
        if full {
            return Err(AppendError::QueueFull { records: state.records, bytes: state.bytes });
        }
        // Bounded by `RECORD_BYTES_MAX` and the frame around it.
        let frame_bytes = bytes.len() as u32;
        if state.tail.offset.saturating_add(frame_bytes) > state.segment_bytes {
            self.begin_segment(&mut state, frame_bytes, synced)?;
        }
        let position = self.place(&mut state, bytes, level, done);
        // Changed under the lock alone: what says so already need not be told to all cores again.
        if !self.has_chunks.load(Ordering::Relaxed) {
            self.has_chunks.store(true, Ordering::SeqCst);
        }
        if state.records >= self.records_max / 2 || state.bytes >= self.bytes_max / 2 {
            self.is_half_full.store(true, Ordering::SeqCst);
        }
        Ok(RecordPlace { position, rewinds: Some(state.rewinds) })
    }

    /// Opens the next segment, if the disk budget has room for it, with its `Start` frame.
    fn begin_segment(
        &self,
        state: &mut State,
        frame_bytes: u32,
        synced: Position,
    ) -> Result<(), AppendError> {
        let mut start = Vec::with_capacity(COPY_BYTES_MAX);
        frame::begin(&mut start);
        start.extend_from_slice(&u64::from(state.tail.offset).to_le_bytes());
        frame::finish(&mut start, 0, Kind::Start, synced, self.seed);
        let used = HEADER_BYTES + start.len() as u32;
        let segment_bytes = self.segment_bytes.max(used + frame_bytes);
        if !self.disk.take(u64::from(segment_bytes)) {
            return Err(AppendError::BudgetFull { budget_bytes: self.disk.budget_bytes() });
        }
        let previous = state.tail;
        if let Some(segment) = state.segments.get_mut(&previous.segment) {
            segment.end = Some(previous.offset);
        }
        let segment = previous.segment + 1;
        state.segments.insert(segment, SegmentUse { bytes: segment_bytes, end: None });
        state.segment_bytes = segment_bytes;
        state.tail = Position { segment, offset: used };
        state.bytes += start.len();
        state.chunks.push(Chunk {
            segment,
            segment_bytes,
            offset: HEADER_BYTES,
            bytes: start,
            waiters: vec![],
            records: 0,
            weakest: Durability::Sync,
        });
        Ok(())
    }

    fn place(
        &self,
        state: &mut State,
        bytes: &mut Vec<u8>,
        level: Durability,
        done: Option<oneshot::Sender<Result<Position, AppendError>>>,
    ) -> Position {
        let Position { segment, offset } = state.tail;
        let end = Position { segment, offset: offset + bytes.len() as u32 };
        state.tail = end;
        state.records += 1;
        state.bytes += bytes.len();
        let waiter = done.map(|done| Waiter { end, level, done });
        let joins = state.chunks.last().is_some_and(|chunk| {
            chunk.segment == segment
                && bytes.len() < COPY_BYTES_MAX
                && chunk.bytes.len() < KEPT_BUFFER_BYTES_MAX
        });
        if !joins {
            let buffer = if bytes.len() < COPY_BYTES_MAX {
                state.spare.pop().unwrap_or_default()
            } else {
                mem::take(bytes)
            };
            state.chunks.push(Chunk {
                segment,
                segment_bytes: state.segment_bytes,
                offset,
                bytes: buffer,
                waiters: vec![],
                records: 0,
                weakest: Durability::Sync,
            });
        }
        if let Some(chunk) = state.chunks.last_mut() {
            chunk.bytes.append(bytes);
            chunk.waiters.extend(waiter);
            chunk.records += 1;
            chunk.weakest = chunk.weakest.min(level);
        }
        end
    }

    /// Takes all that waits.
    pub fn take(&self) -> Vec<Chunk> {
        self.empty(&mut self.state())
    }

    /// Whether something waits.
    pub fn is_waited_for(&self) -> bool {
        self.has_chunks.load(Ordering::SeqCst)
    }

    /// Whether what waits should not wait for more.
    pub fn is_half_full(&self) -> bool {
        self.is_half_full.load(Ordering::SeqCst)
    }

    /// Records that may wait at a time.
    pub fn records_max(&self) -> usize {
        self.records_max
    }

    /// Whether nothing more is let in.
    pub fn is_closed(&self) -> bool {
        self.state().closed.is_some()
    }

    fn empty(&self, state: &mut State) -> Vec<Chunk> {
        state.records = 0;
        state.bytes = 0;
        self.has_chunks.store(false, Ordering::SeqCst);
        self.is_half_full.store(false, Ordering::SeqCst);
        mem::take(&mut state.chunks)
    }

    /// Gives a buffer back for reuse.
    pub fn recycle(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= KEPT_BUFFER_BYTES_MAX {
            buffer.clear();
            let mut state = self.state();
            if state.spare.len() < 2 {
                state.spare.push(buffer);
            }
        }
    }

    /// Lets nothing more in, for `reason`; what waits is still taken.
    pub fn close(&self, reason: Arc<str>) {
        self.state().closed.get_or_insert(reason);
    }

    /// Lets nothing more in and takes what waits, to be refused: the journal has stopped.
    pub fn abandon(&self, reason: Arc<str>) -> Vec<Chunk> {
        let mut state = self.state();
        state.closed = Some(reason);
        self.empty(&mut state)
    }

    /// Takes back every place that was given out from `end` on, because segment `end.segment + 1`
    /// cannot be created; what waits is returned, to be refused, and how often this happened.
    pub fn rewind(&self, end: Position) -> (Vec<Chunk>, u64) {
        let mut state = self.state();
        let never_created = state.segments.split_off(&(end.segment + 1));
        for segment in never_created.values() {
            self.disk.give_back(u64::from(segment.bytes));
        }
        state.tail = end;
        state.rewinds += 1;
        state.segment_bytes = match state.segments.get_mut(&end.segment) {
            Some(segment) => {
                segment.end = None;
                segment.bytes
            }
            None => 0,
        };
        (self.empty(&mut state), state.rewinds)
    }

    /// The segments that are complete and lie before `mark`; they are the caller's to delete.
    pub fn released(&self, mark: Position) -> Vec<(u32, SegmentUse)> {
        let mut state = self.state();
        let is_before = |number: u32, segment: SegmentUse| {
            segment.end.is_some_and(|offset| Position { segment: number, offset } <= mark)
        };
        let released: Vec<_> = state
            .segments
            .iter()
            .map(|(number, segment)| (*number, *segment))
            .take_while(|(number, segment)| is_before(*number, *segment))
            .collect();
        for (number, _) in &released {
            state.segments.remove(number);
        }
        released
    }

    /// Puts a segment back that could not be deleted.
    pub fn keep(&self, number: u32, segment: SegmentUse) {
        self.state().segments.insert(number, segment);
    }

    /// Records and bytes that wait, and segments that exist.
    pub fn depth(&self) -> Depth {
        let state = self.state();
        Depth { records: state.records, bytes: state.bytes, segments: state.segments.len() }
    }

    /// Where the next frame goes.
    pub fn tail(&self) -> Position {
        self.state().tail
    }
}

/// How much is in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    pub records: usize,
    pub bytes: usize,
    pub segments: usize,
}
