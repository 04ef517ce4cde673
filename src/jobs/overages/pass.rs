//! What one run of the job carries along.

use super::{plans::Plans, tally::Tally};
use crate::{jobs::job::JobContext, ledger::Ledger};

/// One run of the job.
pub(super) struct Pass {
    pub(super) ledger: Ledger,
    pub(super) context: JobContext,
    pub(super) plans: Plans,
    pub(super) tally: Tally,
}

impl Pass {
    pub(super) fn new(ledger: Ledger, context: JobContext) -> Self {
        Self { ledger, context, plans: Plans::default(), tally: Tally::default() }
    }
}
