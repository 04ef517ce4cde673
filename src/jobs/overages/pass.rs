//! What one run of the job carries along.

use super::{plans::Plans, tally::Tally};
use crate::{
    jobs::job::JobContext,
    ledger::{Ledger, charges::Charge},
};

/// One run of the job.
pub(super) struct Pass {
    pub(super) ledger: Ledger,
    pub(super) context: JobContext,
    pub(super) plans: Plans,
    pub(super) tally: Tally,
    /// What is due is put here instead of being charged, when somebody only wants to know.
    pub(super) only_found: Option<Vec<Charge>>,
    /// Months of levels that have no charge, and that no run looks at any more: put here beside what
    /// is due.
    pub(super) left_out: Vec<Charge>,
}

impl Pass {
    pub(super) fn new(ledger: Ledger, context: JobContext) -> Self {
        Self {
            ledger,
            context,
            plans: Plans::default(),
            tally: Tally::default(),
            only_found: None,
            left_out: Vec::new(),
        }
    }
}
