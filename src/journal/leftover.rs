//! What earlier runs left behind: finding where it ends, reading it, deleting it.

use std::{
    any::Any,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    disk_use::DiskUse,
    error::JournalError,
    files::Files,
    frame::{self, Found, FrameSeed, Kind},
    position::Position,
    reader::{LeftSource, Reader, Source},
    run_file::{RunEnd, RunFile, run_dir, runs_dir},
    segment::{HEADER_BYTES, HeaderError, check_header, segment_number, segment_path},
};
use crate::domain::{
    ids::RunId,
    usage::{Crash, Durability},
};

/// How sure it is that the process whose run this was is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// The directory is the very one that the process had locked, on a host that has not started
    /// again since.
    Surely,
    /// The host has started again, or is another one that was given the disk, or a clone of it.
    Presumably,
    /// The directory is a copy. The process may go on with the original, and may have acknowledged
    /// what the copy does not hold.
    Unknown,
}

/// A run that is over, with the journal that it left.
pub struct LeftoverRun {
    source: LeftSource,
    may_have_lost_acknowledged: bool,
    gone: Gone,
    data_dir: PathBuf,
    disk: Arc<DiskUse>,
    /// The directory's lock.
    _lock: Arc<dyn Any + Send + Sync>,
}

impl LeftoverRun {
    /// Finds where the run's journal ends and writes that down, so that it ends there for ever.
    pub(super) fn recover(
        files: Arc<dyn Files>,
        data_dir: &Path,
        run: RunId,
        disk: Arc<DiskUse>,
        lock: Arc<dyn Any + Send + Sync>,
    ) -> Result<Self, JournalError> {
        let dir = run_dir(data_dir, run);
        let mut run_file = RunFile::read(&*files, &dir)?;
        let gone = gone(&*files, &dir, &run_file)?;
        let end = match run_file.end {
            Some(end) => end,
            None => {
                let end = RunEnd {
                    position: find_end(&*files, &dir, run)?.into(),
                    may_have_lost_acknowledged: may_have_lost(&*files, &run_file)?,
                };
                run_file.end = Some(end);
                run_file.write(&*files, &dir)?;
                end
            }
        };
        Ok(Self {
            may_have_lost_acknowledged: end.may_have_lost_acknowledged || gone == Gone::Unknown,
            gone,
            data_dir: data_dir.to_owned(),
            source: LeftSource { run, run_dir: dir, files, end: end.position.into() },
            disk,
            _lock: lock,
        })
    }

    /// The run.
    pub fn run(&self) -> RunId {
        self.source.run
    }

    /// The end of its last record.
    pub fn end(&self) -> Position {
        self.source.end
    }

    /// Whether the run may have acknowledged something that is not in its journal: what was not
    /// spent according to the journal may have been spent after all.
    pub fn may_have_lost_acknowledged(&self) -> bool {
        self.may_have_lost_acknowledged
    }

    /// How sure it is that the run is over.
    pub fn gone(&self) -> Gone {
        self.gone
    }

    /// Reads its records from `from` on.
    pub fn reader(&self, from: Position) -> Reader {
        Reader::new(Source::Left(self.source.clone()), from)
    }

    /// Deletes the segments before the one that `mark` lies in. Says how many were deleted.
    pub fn release(&self, mark: Position) -> Result<usize, JournalError> {
        let files = &*self.source.files;
        let mut deleted = 0;
        for number in segments(files, &self.source.run_dir)? {
            if number >= mark.segment {
                break;
            }
            let path = segment_path(&self.source.run_dir, number);
            let bytes = file_bytes(files, &path)?;
            delete_segment(files, &self.source.run_dir, number)?;
            self.disk.give_back(bytes);
            deleted += 1;
        }
        Ok(deleted)
    }

    /// Deletes all of it: the run is closed, flushed and settled.
    pub fn delete(self) -> Result<(), JournalError> {
        let files = &*self.source.files;
        let mut bytes = 0;
        for number in segments(files, &self.source.run_dir)? {
            bytes += file_bytes(files, &segment_path(&self.source.run_dir, number))?;
        }
        delete_dir(files, &self.data_dir, &self.source.run_dir)?;
        self.disk.give_back(bytes);
        Ok(())
    }
}

/// Deletes the oldest segment of a run, after making sure that those before it stay deleted: of
/// several names that go, a host crash may bring back any.
pub(super) fn delete_segment(
    files: &dyn Files,
    run_dir: &Path,
    number: u32,
) -> Result<(), JournalError> {
    files.sync_dir(run_dir).map_err(JournalError::io("sync", run_dir))?;
    let path = segment_path(run_dir, number);
    match files.remove(&path) {
        // An earlier try got through although it was told to have failed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(JournalError::io("remove", path)),
    }
}

/// Deletes a run's directory so that a crash leaves it whole or gone.
pub(super) fn delete_dir(
    files: &dyn Files,
    data_dir: &Path,
    run_dir: &Path,
) -> Result<(), JournalError> {
    let dying = run_dir.with_extension("old");
    files.rename(run_dir, &dying).map_err(JournalError::io("rename", run_dir))?;
    let runs = runs_dir(data_dir);
    files.sync_dir(&runs).map_err(JournalError::io("sync", &runs))?;
    files.remove_dir_all(&dying).map_err(JournalError::io("remove", &dying))
}

/// The runs that have a directory, `current` excepted.
pub(super) fn list(
    files: &dyn Files,
    data_dir: &Path,
    current: RunId,
) -> Result<Vec<RunId>, JournalError> {
    let dir = runs_dir(data_dir);
    let names = files.list(&dir).map_err(JournalError::io("list", &dir))?;
    let mut runs: Vec<RunId> = names.iter().filter_map(|name| name.parse().ok()).collect();
    runs.retain(|run| *run != current);
    runs.sort_unstable();
    Ok(runs)
}

/// Counts the segments of all runs into the disk's use, and removes what was half created or half
/// deleted when a process died.
pub(super) fn count_segments(
    files: &dyn Files,
    runs: &Path,
    disk: &DiskUse,
) -> Result<(), JournalError> {
    let names = files.list(runs).map_err(JournalError::io("list", runs))?;
    if names.iter().any(|name| name.ends_with(".old")) {
        // Whoever gave it that name may have died before the name was durable: emptied without it,
        // a host crash would bring a run back that has no files.
        files.sync_dir(runs).map_err(JournalError::io("sync", runs))?;
    }
    for name in names {
        let dir = runs.join(&name);
        if name.ends_with(".new") || name.ends_with(".old") {
            files.remove_dir_all(&dir).map_err(JournalError::io("remove", &dir))?;
        } else if name.parse::<RunId>().is_ok() {
            for number in segments(files, &dir)? {
                disk.count(file_bytes(files, &segment_path(&dir, number))?);
            }
        }
    }
    Ok(())
}

/// Numbers of a run's segments, in order.
pub(super) fn segments(files: &dyn Files, dir: &Path) -> Result<Vec<u32>, JournalError> {
    let names = files.list(dir).map_err(JournalError::io("list", dir))?;
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn file_bytes(files: &dyn Files, path: &Path) -> Result<u64, JournalError> {
    files.open(path).and_then(|file| file.len()).map_err(JournalError::io("read the size of", path))
}

/// How sure it is that the run's process is gone. The data directory's lock is held here: the process
/// cannot have this directory, only another one with the same content.
fn gone(files: &dyn Files, dir: &Path, run_file: &RunFile) -> Result<Gone, JournalError> {
    let boot_id = files.boot_id().map_err(JournalError::io("read", "boot_id"))?;
    let here = files.place(dir).map_err(JournalError::io("look at", dir))?;
    let was = run_file.place.unwrap_or(here);
    Ok(match run_file.boot_id == boot_id {
        true if was == here => Gone::Surely,
        // Devices are numbered anew when a host starts.
        false if was.inode == here.inode => Gone::Presumably,
        _ => Gone::Unknown,
    })
}

/// Whether a run that crashed may have acknowledged what its journal does not hold.
fn may_have_lost(files: &dyn Files, run_file: &RunFile) -> Result<bool, JournalError> {
    let boot_id = files.boot_id().map_err(JournalError::io("read", "boot_id"))?;
    let crash = if run_file.boot_id == boot_id { Crash::Process } else { Crash::Host };
    Ok(run_file.weakest_durability < Durability::least_surviving(crash))
}

/// Finds the end of the last whole record, after making sure that what is read now is also what
/// would be read after a host crash.
fn find_end(files: &dyn Files, dir: &Path, run: RunId) -> Result<Position, JournalError> {
    let numbers = segments(files, dir)?;
    for number in &numbers {
        #[cfg(test)]
        if super::planted::is(super::planted::Planted::EndNotSynced) {
            continue;
        }
        let path = segment_path(dir, *number);
        let file = files.open(&path).map_err(JournalError::io("open", &path))?;
        file.sync().map_err(JournalError::io("sync", &path))?;
    }
    for (number, next) in numbers.iter().zip(numbers.iter().skip(1)) {
        if *next != number + 1 {
            let path = segment_path(dir, number + 1);
            return Err(JournalError::Corrupt {
                path,
                offset: 0,
                problem: "the segment is missing between others".into(),
            });
        }
    }
    // The last segment may have been created without a record reaching it.
    for number in numbers.iter().rev() {
        if let Some(end) = segment_end(files, dir, run, *number)? {
            return Ok(end);
        }
    }
    Ok(Position::START)
}

/// The end of a segment's last whole frame; `None` when not even its `Start` frame is whole.
pub(super) fn segment_end(
    files: &dyn Files,
    dir: &Path,
    run: RunId,
    number: u32,
) -> Result<Option<Position>, JournalError> {
    let path = segment_path(dir, number);
    let content = super::files::read_file(files, &path).map_err(JournalError::io("read", &path))?;
    let corrupt = |offset: usize, problem: String| JournalError::Corrupt {
        path: path.clone(),
        offset: offset as u64,
        problem,
    };
    let seed = FrameSeed::of(run);
    let header = &content[..content.len().min(HEADER_BYTES as usize)];
    let header_checked = check_header(header, run, number);
    if let Err(error @ (HeaderError::Version(_) | HeaderError::Foreign)) = &header_checked {
        return Err(corrupt(0, error.to_string()));
    }
    let mut at = HEADER_BYTES as usize;
    let mut problem = "the journal goes on behind this place, but nothing is here";
    if header_checked.is_err() {
        problem = "the segment's header is not whole";
    } else {
        while at < content.len() {
            match frame::parse(&content[at..], content.len() - at, seed) {
                Found::Frame(frame) => {
                    if (frame.kind == Kind::Start) != (at == HEADER_BYTES as usize) {
                        return Err(corrupt(at, "a start record is out of its place".into()));
                    }
                    at += frame.bytes;
                }
                #[cfg(test)]
                Found::Nothing | Found::Bad(_)
                    if super::planted::is(super::planted::Planted::TailNotCut)
                        && frame::synced_according_to_later_frames(&content[at..], seed)
                            .is_some() =>
                {
                    at += frame::FRAME_ALIGN;
                }
                Found::Nothing | Found::Partial(_) => break,
                Found::Bad(bad) => {
                    problem = bad;
                    break;
                }
                Found::UnknownKind(kind) => {
                    let problem = format!("a later version wrote a record of kind {kind}");
                    return Err(corrupt(at, problem));
                }
            }
        }
    }
    // Offsets in a segment are 32-bit numbers.
    let end = Position { segment: number, offset: at as u32 };
    let behind = content.get(at..).unwrap_or_default();
    // A later frame that was made when this place was on disk already tells damage from a tear.
    match frame::synced_according_to_later_frames(behind, seed) {
        Some(synced) if synced > end && header_checked.is_err() => {
            Err(corrupt(0, problem.to_owned()))
        }
        Some(synced) if synced > end => Err(corrupt(at, problem.to_owned())),
        _ if at == HEADER_BYTES as usize => Ok(None),
        _ => Ok(Some(end)),
    }
}
