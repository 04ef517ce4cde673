//! `run.json`: what has to be known of a run before its journal is read.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    error::JournalError,
    files::{Files, Place, read_file, replace_file},
};
use crate::domain::{ids::RunId, usage::Durability};

/// The directory of all runs.
pub fn runs_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("runs")
}

/// The directory of one run.
pub fn run_dir(data_dir: &Path, run: RunId) -> PathBuf {
    runs_dir(data_dir).join(run.to_string())
}

/// The content of `run.json`, where a checksum of it stands beside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    pub run: RunId,
    /// The host's boot that the run lived in.
    pub boot_id: String,
    /// Where the run's directory was made; absent in what earlier versions wrote.
    #[serde(default)]
    pub place: Option<Place>,
    /// The weakest level at which the run acknowledged anything; on disk before the first
    /// acknowledgement at that level.
    pub weakest_durability: Durability,
    /// How the run ended: known after a clean stop, or after its torn tail was cut. Absent while it
    /// lives and after a crash.
    pub end: Option<RunEnd>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnd {
    /// Where the journal ends, as a number (see `Position`).
    pub position: u64,
    /// Whether something may have been acknowledged that is not in the journal.
    pub may_have_lost_acknowledged: bool,
}

/// What stands behind the content: its checksum, the CRC32C of all that comes before.
const CHECKSUM: &[u8] = b",\"checksum\":";

impl RunFile {
    fn path(run_dir: &Path) -> PathBuf {
        run_dir.join("run.json")
    }

    /// Reads the file of the run in `run_dir`.
    pub fn read(files: &dyn Files, run_dir: &Path) -> Result<Self, JournalError> {
        let path = Self::path(run_dir);
        let content = read_file(files, &path).map_err(JournalError::io("read", &path))?;
        let corrupt = |problem| JournalError::Corrupt { path, offset: 0, problem };
        let checked = match content.windows(CHECKSUM.len()).rposition(|bytes| bytes == CHECKSUM) {
            Some(at) if content[at..] == *checksum_of(&content[..at]) => {
                [&content[..at], b"}"].concat()
            }
            Some(_) => return Err(corrupt("the checksum does not match the content".to_owned())),
            // The first versions wrote none.
            None => content,
        };
        serde_json::from_slice(&checked).map_err(|error| corrupt(error.to_string()))
    }

    /// Puts the file in place of the one in `run_dir`.
    pub fn write(&self, files: &dyn Files, run_dir: &Path) -> Result<(), JournalError> {
        let path = Self::path(run_dir);
        // Texts, numbers, a UUID and a unit variant: nothing that JSON cannot say.
        let mut content = serde_json::to_vec(self).unwrap_or_default();
        // The brace at the end.
        content.pop();
        content.extend(checksum_of(&content));
        replace_file(files, &path, &content).map_err(JournalError::io("write", &path))
    }

    /// Creates the run's directory with the file in it, which then says where that lies; it appears
    /// whole or not at all.
    pub fn create_dir(
        &mut self,
        files: &dyn Files,
        data_dir: &Path,
    ) -> Result<PathBuf, JournalError> {
        let dir = run_dir(data_dir, self.run);
        let unfinished = dir.with_extension("new");
        files.create_dir_all(&unfinished).map_err(JournalError::io("create", &unfinished))?;
        let place = files.place(&unfinished).map_err(JournalError::io("look at", &unfinished))?;
        self.place = Some(place);
        self.write(files, &unfinished)?;
        files.rename(&unfinished, &dir).map_err(JournalError::io("rename", &unfinished))?;
        let runs = runs_dir(data_dir);
        files.sync_dir(&runs).map_err(JournalError::io("sync", &runs))?;
        Ok(dir)
    }
}

/// The end of a file that begins with `content`.
fn checksum_of(content: &[u8]) -> Vec<u8> {
    let checksum = crc32c::crc32c(content).to_string();
    [CHECKSUM, checksum.as_bytes(), b"}"].concat()
}
