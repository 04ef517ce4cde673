//! How a job ends badly: whether to try again is the job's to say.

use crate::ledger::LedgerError;

/// Why a job's attempt did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Something that may pass by itself (the database was away): tried again with backoff, a
    /// bounded number of times.
    #[error("{0:#}")]
    Retry(anyhow::Error),
    /// Something that another attempt would meet again: the run fails at once.
    #[error("{0:#}")]
    Fail(anyhow::Error),
    /// The worker stops, or lost its claim; what was done stands, the rest is another attempt's.
    #[error("stopped before it was done")]
    Stopped,
}

impl From<LedgerError> for JobError {
    fn from(error: LedgerError) -> Self {
        match error {
            // Neither time nor another attempt changes what a row or the schema holds.
            LedgerError::Corrupt { .. }
            | LedgerError::Schema(_)
            | LedgerError::Refused(_)
            | LedgerError::TooLarge { .. } => Self::Fail(error.into()),
            LedgerError::Unavailable(_)
            | LedgerError::Contended { .. }
            | LedgerError::EpochOver(_)
            | LedgerError::SharedByNow
            | LedgerError::Failed(_) => Self::Retry(error.into()),
        }
    }
}
