//! What the journal's handle, those who write and its readers share.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::watch;

use super::{
    bell::Bell,
    disk_use::DiskUse,
    fatal::{Fatal, fatal},
    files::{Files, OpenFile},
    frame::FrameSeed,
    intake::{Chunk, Intake},
    metrics::JournalMetrics,
    position::Position,
};
use crate::domain::{ids::RunId, usage::Durability};

/// Whether the journal takes records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Running,
    /// Everything that was let in is on disk, and nothing more comes.
    Closed,
    /// A write or sync failed and nothing more is written; only a new run does.
    Failed {
        reason: Arc<str>,
    },
}

/// One run's journal, seen from inside.
pub struct Shared {
    pub run: RunId,
    pub data_dir: PathBuf,
    pub run_dir: PathBuf,
    pub files: Arc<dyn Files>,
    pub seed: FrameSeed,
    pub intake: Intake,
    pub bell: Bell,
    pub disk: Arc<DiskUse>,
    pub metrics: JournalMetrics,
    pub synced: watch::Sender<Position>,
    pub health: watch::Sender<Health>,
    /// How often places were taken back.
    pub rewinds: watch::Sender<u64>,
    /// `synced` again, readable without a lock.
    synced_mark: AtomicU64,
    /// The weakest level that `run.json` admits to, as a number that grows with strength.
    weakest: AtomicU64,
}

impl Shared {
    /// A journal in which nothing was written yet.
    pub fn new(
        run: RunId,
        dirs: (PathBuf, PathBuf),
        files: Arc<dyn Files>,
        intake: Intake,
        disk: Arc<DiskUse>,
    ) -> Self {
        let (data_dir, run_dir) = dirs;
        Self {
            run,
            data_dir,
            run_dir,
            files,
            seed: FrameSeed::of(run),
            intake,
            bell: Bell::default(),
            disk,
            metrics: JournalMetrics::register(),
            synced: watch::Sender::new(Position::START),
            health: watch::Sender::new(Health::Running),
            rewinds: watch::Sender::new(0),
            synced_mark: AtomicU64::new(0),
            weakest: AtomicU64::new(Durability::Sync as u64),
        }
    }

    /// Up to where the journal is on disk.
    pub fn synced(&self) -> Position {
        self.synced_mark.load(Ordering::Acquire).into()
    }

    /// Says that everything before `position` is on disk.
    pub fn set_synced(&self, position: Position) {
        self.synced_mark.store(position.into(), Ordering::Release);
        self.synced.send_replace(position);
    }

    /// Lets nothing more in, for `reason`, and has the journal's thread end.
    pub fn close(&self, reason: &str) {
        self.intake.close(reason.into());
        self.bell.now();
    }

    /// Puts on disk what `file` has up to `written`; not again what is there.
    pub fn sync(&self, file: &dyn OpenFile, written: Position) -> Result<(), Fatal> {
        if self.synced() < written {
            let started = Instant::now();
            file.sync_data().map_err(fatal("sync the journal"))?;
            self.metrics.synced(started.elapsed());
            self.set_synced(written);
        }
        Ok(())
    }

    /// Takes back every place that was given out from `end` on; see [`Intake::rewind`].
    ///
    /// It is told here, before anything is written, and so before anything is synced, that has got
    /// one of these places since.
    pub fn rewind(&self, end: Position) -> Vec<Chunk> {
        let (behind, rewinds) = self.intake.rewind(end);
        self.rewinds.send_replace(rewinds);
        behind
    }

    /// Whether `run.json` admits to acknowledgements at `level`.
    pub fn admits(&self, level: Durability) -> bool {
        self.weakest.load(Ordering::Acquire) <= level as u64
    }

    /// Says that `run.json` admits to acknowledgements at `level`.
    pub fn set_admitted(&self, level: Durability) {
        self.weakest.store(level as u64, Ordering::Release);
    }
}
