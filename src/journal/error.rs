//! What can go wrong with the journal.

use std::{io, path::PathBuf, sync::Arc};

use crate::domain::invalid::Invalid;

/// Why a record was not acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The disk budget is used up, until the flusher has caught up.
    #[error(
        "the journal's disk budget of {budget_bytes} bytes is used up; \
         it is free again once the journal has been flushed"
    )]
    BudgetFull {
        /// The configured budget.
        budget_bytes: u64,
    },
    /// The disk is full although the budget is not.
    #[error("the disk has no room for another journal segment: {problem}")]
    NoSpace {
        /// What the system said.
        problem: Arc<str>,
    },
    /// Too much waits for the disk already.
    #[error("the journal's queue is full ({records} records, {bytes} bytes); try again")]
    QueueFull {
        /// Records that wait.
        records: usize,
        /// Bytes that wait.
        bytes: usize,
    },
    /// One record is larger than the journal takes.
    #[error("the record has {bytes} bytes, the most is {bytes_max}; send smaller batches")]
    TooLarge {
        /// Bytes of the encoded body.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// The journal was closed or its writer has stopped for good before it came to the record.
    #[error("the journal has stopped: {reason}")]
    Stopped {
        /// Why it stopped.
        reason: Arc<str>,
    },
    /// The writer stopped while it worked on the record: it may be found on disk or not.
    #[error("the journal stopped while it wrote the record, which may be kept or not: {reason}")]
    Uncertain {
        /// Why it stopped.
        reason: Arc<str>,
    },
}

impl AppendError {
    /// Whether the record is certainly not kept, so that what it stood for may be undone.
    pub fn is_certain(&self) -> bool {
        !matches!(self, Self::Uncertain { .. })
    }
}

/// Why a journal cannot be opened, read or cleared.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process uses the data directory.
    #[error(
        "{} is locked: another process uses this data directory; stop it or use another one",
        path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A file is damaged where it was known to be on disk.
    #[error("{} is damaged at byte {offset}: {problem}", path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },
    /// The records from here on have been deleted.
    #[error("the journal before {} has been released", path.display())]
    Released {
        /// The segment that is gone.
        path: PathBuf,
    },
    /// A setting is out of bounds.
    #[error(transparent)]
    Config(#[from] Invalid),
}

impl JournalError {
    /// Says what was tried on which file.
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
