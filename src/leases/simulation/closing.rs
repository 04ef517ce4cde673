//! A dead run on its way to being closed.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::ids::RunId;

/// What whoever closes a run has of its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remains {
    /// All that the run left.
    Whole,
    /// As many records: its directory was copied while it lived.
    Copy(usize),
    /// Nothing: an operator closes it.
    Nothing,
}

/// What becomes of what a run held and may have spent without a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unspent {
    /// It is usable again: all that was spent is in the journal.
    Returned,
    Forfeited,
    /// It is usable again though nobody knows: an operator says so.
    Released,
}

/// A run that is to be closed.
#[derive(Clone, Debug)]
pub(super) struct Closing {
    /// Names this attempt: two may close one run.
    pub number: usize,
    pub run: RunId,
    pub remains: Remains,
    pub unspent: Unspent,
    /// The epoch in which each key was opened.
    pub keys: BTreeMap<usize, u64>,
    /// Nothing before this: nobody has noticed the death yet.
    pub from: u64,
    /// For how long, in microseconds, an heir tells the keys what the run used before it is closed.
    pub inherits_us: u64,
    /// Keys that know from the heir what was used, and have back what was not.
    pub inherited: BTreeSet<usize>,
    /// The epoch that it goes on in: what was told to the counters of an earlier one is told again.
    pub epoch: u64,
    /// Who flushes what the closing cut off: until that is counted, what the run took stands for it.
    pub successor: Option<RunId>,
    /// Fenced keys and what was taken there.
    pub fenced: BTreeMap<usize, Option<u64>>,
    /// After the ledger closed it.
    pub closed_seq: Option<u64>,
    pub folded: BTreeSet<usize>,
}

impl Closing {
    pub(super) fn is_done(&self) -> bool {
        self.closed_seq.is_some() && self.folded.len() == self.keys.len()
    }
}
