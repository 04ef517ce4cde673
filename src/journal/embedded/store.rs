//! The state together with the file that it is kept in.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    checkpoint,
    config::EmbeddedConfig,
    state::{Absorbed, State},
    total::Total,
};
use crate::{
    domain::{
        cell_key::{CellKey, KeyParts},
        ids::RunId,
    },
    journal::{
        error::JournalError,
        files::{Files, read_file, replace_file},
        position::Position,
        reader::Entry,
        tally::Tally,
    },
};

/// The store. The data directory's lock is the journal's.
pub struct EmbeddedStore {
    files: Arc<dyn Files>,
    path: PathBuf,
    pub(super) state: State,
    /// The marks of the last checkpoint.
    checkpointed: BTreeMap<RunId, Position>,
    /// Keys that had been forgotten early when that was last logged.
    forgotten_logged: u64,
}

impl EmbeddedStore {
    /// Loads the last checkpoint in `data_dir`, or begins with nothing. Blocks on the disk.
    pub fn open(
        config: &EmbeddedConfig,
        data_dir: &Path,
        files: impl Files,
    ) -> Result<Self, JournalError> {
        let files: Arc<dyn Files> = Arc::new(files);
        let dir = data_dir.join("embedded");
        files.create_dir_all(&dir).map_err(JournalError::io("create", &dir))?;
        // Also when it exists: a process that died before it could do so may have created it.
        files.sync_dir(data_dir).map_err(JournalError::io("sync", data_dir))?;
        let path = dir.join("checkpoint.bin");
        let state = match read_file(&*files, &path) {
            Ok(content) => checkpoint::decode(&content, config).map_err(|error| {
                let problem = error.to_string();
                JournalError::Corrupt { path: path.clone(), offset: 0, problem }
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::new(config),
            Err(source) => return Err(JournalError::Io { action: "read", path, source }),
        };
        let checkpointed = state.marks.clone();
        let forgotten_logged = state.used_keys.forgotten;
        Ok(Self { files, path, state, checkpointed, forgotten_logged })
    }

    /// Up to where the run's journal was taken in: where to read on.
    pub fn mark(&self, run: RunId) -> Position {
        self.state.marks.get(&run).copied().unwrap_or(Position::START)
    }

    /// Takes in `entries`, read in order from [`EmbeddedStore::mark`]; what lies before the mark
    /// is passed over. `now` is the real time.
    pub fn absorb(&mut self, run: RunId, entries: &[Entry<Tally>], now: Timestamp) -> Absorbed {
        self.state.absorb(run, entries, now)
    }

    /// Forgets where a run stood whose directory has been deleted, and not before: without its
    /// mark all of it would be taken in once more.
    pub fn close_run(&mut self, run: RunId) {
        self.state.forget_run(run);
    }

    /// Whether a checkpoint would let a segment go.
    pub fn is_checkpoint_due(&self) -> bool {
        self.state.marks.iter().any(|(run, mark)| mark.segment > self.checkpointed(*run).segment)
    }

    /// Up to where the run's journal is not needed any more.
    pub fn checkpointed(&self, run: RunId) -> Position {
        self.checkpointed.get(&run).copied().unwrap_or(Position::START)
    }

    /// Forgets what is out of date and writes everything else down. Blocks on the disk: some
    /// 100 bytes per counter and per key. On an error the last checkpoint stands.
    pub fn checkpoint(&mut self, now: Timestamp) -> Result<(), JournalError> {
        self.state.purge(now);
        let forgotten = self.state.used_keys.forgotten;
        if forgotten > self.forgotten_logged {
            let early = forgotten - self.forgotten_logged;
            tracing::warn!(early, "forgot idempotency keys before their time, for lack of room");
            metrics::counter!("tollgate_embedded_keys_forgotten_total").increment(early);
            self.forgotten_logged = forgotten;
        }
        metrics::gauge!("tollgate_embedded_keys").set(self.state.used_keys.len() as f64);
        metrics::gauge!("tollgate_embedded_counters").set(self.state.totals.len() as f64);
        let content = checkpoint::encode(&self.state);
        replace_file(&*self.files, &self.path, &content)
            .map_err(JournalError::io("write", &self.path))?;
        self.checkpointed.clone_from(&self.state.marks);
        Ok(())
    }

    /// What a counter's events amount to.
    pub fn total(&self, key: &CellKey) -> Option<Total> {
        self.state.totals.get(key)
    }

    /// All counters that are known.
    pub fn totals(&self) -> impl Iterator<Item = (KeyParts<'_>, Total)> {
        self.state.totals.iter()
    }

    /// Events that were left out because their key had been used for another content, ever.
    pub fn conflicts(&self) -> u64 {
        self.state.conflicts
    }
}
