//! Reads synced records in order.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    decode::{Decode, Decoder},
    error::JournalError,
    files::{Files, OpenFile},
    frame::{self, Found, FrameSeed, Kind},
    position::Position,
    record::Record,
    segment::{HEADER_BYTES, check_header, segment_number, segment_path},
    shared::Shared,
    tally::TallyDecoder,
};
use crate::domain::ids::RunId;

/// Bytes that are read from a segment at once; more for a record that is larger.
const READ_BYTES: usize = 1 << 20;

/// How much one call may return; at least one record is returned where there is one.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    pub records_max: usize,
    /// Bytes on disk.
    pub bytes_max: usize,
}

/// A record with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<R = Record> {
    /// The record's end: the mark that says that it is dealt with.
    pub position: Position,
    pub record: R,
}

/// Whose journal is read.
pub enum Source {
    /// The run that is being written: up to what is synced.
    Live(Arc<Shared>),
    /// A run that left its journal behind: up to its end.
    Left(LeftSource),
}

/// A journal that is not written any more.
#[derive(Clone)]
pub struct LeftSource {
    pub run: RunId,
    pub run_dir: PathBuf,
    pub files: Arc<dyn Files>,
    pub end: Position,
}

impl Source {
    fn run(&self) -> RunId {
        match self {
            Self::Live(shared) => shared.run,
            Self::Left(left) => left.run,
        }
    }

    fn run_dir(&self) -> &Path {
        match self {
            Self::Live(shared) => &shared.run_dir,
            Self::Left(left) => &left.run_dir,
        }
    }

    fn files(&self) -> &dyn Files {
        match self {
            Self::Live(shared) => &*shared.files,
            Self::Left(left) => &*left.files,
        }
    }

    fn end(&self) -> Position {
        match self {
            Self::Live(shared) => shared.synced(),
            Self::Left(left) => left.end,
        }
    }
}

/// A segment that is being read, and a part of it in memory.
struct OpenSegment {
    number: u32,
    /// Shared with whoever may have to tell of it.
    path: Arc<Path>,
    file: Box<dyn OpenFile>,
    bytes: u64,
    buffer: Vec<u8>,
    /// Where the buffer begins in the segment.
    buffer_at: u64,
}

/// A frame's entry, if it is a record, and its size.
type Framed<R> = (Option<Entry<R>>, usize);

/// What one step of a reader came to.
enum Stepped<R> {
    /// Over a frame of so many bytes, with its entry, if it is a record.
    Read(Option<Entry<R>>, usize),
    /// To another segment.
    Over,
    /// The run has none.
    NoSegment,
}

/// Reads one run's records, one after the other. All calls block on the disk.
pub struct Reader<D = Decoder> {
    source: Source,
    seed: FrameSeed,
    position: Position,
    open: Option<OpenSegment>,
    decoder: D,
}

impl Reader {
    /// Reads from `from`, which is where some record ended, or the start.
    pub fn new(source: Source, from: Position) -> Self {
        let seed = FrameSeed::of(source.run());
        Self { source, seed, position: from, open: None, decoder: Decoder::default() }
    }

    /// The same, of whose events no more is read than what is added up.
    pub fn adding_up(self) -> Reader<TallyDecoder> {
        let Self { source, seed, position, open, decoder: _ } = self;
        Reader { source, seed, position, open, decoder: TallyDecoder::default() }
    }
}

impl<D: Decode> Reader<D> {
    /// Where the next record is looked for.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The run that is read.
    pub fn run(&self) -> RunId {
        self.source.run()
    }

    /// The next records that are synced; none when there are no more for now.
    ///
    /// What lies before a damage is read: the error comes with the call that finds nothing else.
    pub fn read(&mut self, limit: ReadLimit) -> Result<Vec<Entry<D::Record>>, JournalError> {
        let end = self.source.end();
        let mut entries = vec![];
        let mut bytes = 0;
        while self.position < end && entries.len() < limit.records_max && bytes < limit.bytes_max {
            match self.step(end) {
                Ok(Stepped::Read(entry, frame_bytes)) => {
                    bytes += frame_bytes;
                    entries.extend(entry);
                }
                Ok(Stepped::Over) => {}
                Ok(Stepped::NoSegment) => break,
                Err(_) if !entries.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    fn step(&mut self, end: Position) -> Result<Stepped<D::Record>, JournalError> {
        if self.open.as_ref().is_none_or(|open| open.number != self.position.segment) {
            // Stepping over a start record may have come to the end.
            return Ok(if self.open_segment(end)? { Stepped::Over } else { Stepped::NoSegment });
        }
        Ok(match self.next_frame(end)? {
            Some((entry, bytes)) => Stepped::Read(entry, bytes),
            None => Stepped::Over,
        })
    }

    /// Opens the segment that holds the position, or begins the one after it. False when the run
    /// has no segment at all.
    fn open_segment(&mut self, end: Position) -> Result<bool, JournalError> {
        if self.position.segment == 0 {
            let Some(first) = self.first_segment()? else { return Ok(false) };
            let open = self.open_file(first)?;
            self.begin(open, end, None)?;
            return Ok(true);
        }
        match self.open_file(self.position.segment) {
            Ok(open) => self.open = Some(open),
            // The segment was deleted once all of it was dealt with; the position was its end.
            Err(JournalError::Released { .. }) => self.open_next(end)?,
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    fn open_next(&mut self, end: Position) -> Result<(), JournalError> {
        let open = self.open_file(self.position.segment + 1)?;
        self.begin(open, end, Some(self.position.offset))
    }

    fn first_segment(&self) -> Result<Option<u32>, JournalError> {
        let dir = self.source.run_dir();
        let names = self.source.files().list(dir).map_err(JournalError::io("list", dir))?;
        Ok(names.iter().filter_map(|name| segment_number(name)).min())
    }

    fn open_file(&self, number: u32) -> Result<OpenSegment, JournalError> {
        let path = segment_path(self.source.run_dir(), number);
        let file = match self.source.files().open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(JournalError::Released { path });
            }
            Err(source) => return Err(JournalError::Io { action: "open", path, source }),
        };
        let bytes = file.len().map_err(JournalError::io("read the size of", &path))?;
        let mut header = [0; HEADER_BYTES as usize];
        let read = file.read_full_at(&mut header, 0).map_err(JournalError::io("read", &path))?;
        check_header(&header[..read], self.source.run(), number).map_err(|error| {
            JournalError::Corrupt { path: path.clone(), offset: 0, problem: error.to_string() }
        })?;
        Ok(OpenSegment { number, path: path.into(), file, bytes, buffer: vec![], buffer_at: 0 })
    }

    /// Steps over the `Start` frame of `open`, which says where the segment before it ended.
    fn begin(
        &mut self,
        open: OpenSegment,
        end: Position,
        previous_end: Option<u32>,
    ) -> Result<(), JournalError> {
        let mut open = open;
        let room = if end.segment == open.number { u64::from(end.offset) } else { open.bytes };
        let problem = match open.parse(HEADER_BYTES, room, self.seed)? {
            Found::Frame(frame) if frame.kind == Kind::Start => {
                let expected = previous_end.map(|offset| u64::from(offset).to_le_bytes());
                if expected.is_none_or(|expected| expected == frame.body) {
                    let offset = HEADER_BYTES + frame.bytes as u32;
                    self.position = Position { segment: open.number, offset };
                    self.open = Some(open);
                    return Ok(());
                }
                format!("the segment before it did not end where it says ({})", self.position)
            }
            _ => "the segment does not begin with its start record".to_owned(),
        };
        Err(JournalError::Corrupt {
            path: open.path.to_path_buf(),
            offset: u64::from(HEADER_BYTES),
            problem,
        })
    }

    /// Reads the frame at the position: its entry, if it is a record, and its size. `None` when the
    /// segment was done and the next one was begun.
    fn next_frame(&mut self, end: Position) -> Result<Option<Framed<D::Record>>, JournalError> {
        let Some(open) = &mut self.open else { return Ok(None) };
        let is_last = end.segment == open.number;
        let room = if is_last { u64::from(end.offset) } else { open.bytes };
        let offset = self.position.offset;
        let corrupt = |path: &Path, problem: String| JournalError::Corrupt {
            path: path.to_owned(),
            offset: u64::from(offset),
            problem,
        };
        let path = open.path.clone();
        match open.parse(offset, room, self.seed)? {
            Found::Frame(frame) => {
                let position = Position {
                    segment: self.position.segment,
                    offset: offset + frame.bytes as u32,
                };
                let record = self
                    .decoder
                    .decode(frame.kind, frame.body)
                    .map_err(|error| corrupt(&path, error.to_string()))?;
                let bytes = frame.bytes;
                self.position = position;
                Ok(Some((record.map(|record| Entry { position, record }), bytes)))
            }
            Found::Nothing if !is_last => self.open_next(end).map(|()| None),
            Found::Nothing | Found::Partial(_) => {
                Err(corrupt(&path, format!("the journal goes on to {end}, but nothing is here")))
            }
            Found::Bad(problem) => Err(corrupt(&path, problem.to_owned())),
            Found::UnknownKind(kind) => {
                Err(corrupt(&path, format!("a later version wrote a record of kind {kind}")))
            }
        }
    }
}

impl OpenSegment {
    /// Parses the frame at `offset`; the segment is looked at up to `room`.
    fn parse(
        &mut self,
        offset: u32,
        room: u64,
        seed: FrameSeed,
    ) -> Result<Found<'_>, JournalError> {
        let offset = u64::from(offset);
        // Segments are smaller than 4 GiB.
        let left = room.min(self.bytes).saturating_sub(offset) as usize;
        let header_bytes = frame::FRAME_HEADER_BYTES.min(left);
        self.fill(offset, header_bytes, left)?;
        if let Some(bytes) = frame::length(self.from(offset)).filter(|bytes| *bytes <= left) {
            self.fill(offset, bytes, left)?;
        }
        Ok(frame::parse(self.from(offset), left, seed))
    }

    /// What the buffer has from `offset` on, which it holds.
    fn from(&self, offset: u64) -> &[u8] {
        &self.buffer[(offset - self.buffer_at) as usize..]
    }

    /// Makes sure that the buffer holds `wanted` bytes from `offset` on, but never more than
    /// `left`: what lies beyond may still change.
    fn fill(&mut self, offset: u64, wanted: usize, left: usize) -> Result<(), JournalError> {
        let buffer_end = self.buffer_at + self.buffer.len() as u64;
        if offset >= self.buffer_at && offset + wanted as u64 <= buffer_end {
            return Ok(());
        }
        self.buffer.clear();
        self.buffer.resize(wanted.max(READ_BYTES).min(left), 0);
        self.buffer_at = offset;
        let read = self
            .file
            .read_full_at(&mut self.buffer, offset)
            .map_err(JournalError::io("read", &*self.path))?;
        self.buffer.truncate(read);
        Ok(())
    }
}
