//! A dead run on its way to being closed.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::ids::RunId;

/// A run that is to be closed.
#[derive(Clone, Debug)]
pub(super) struct Closing {
    pub run: RunId,
    /// Acknowledgements may be missing in its journal: what it held is forfeited.
    pub torn: bool,
    /// The epoch in which each key was opened.
    pub keys: BTreeMap<usize, u64>,
    /// Nothing before this: nobody has noticed the death yet.
    pub from: u64,
    /// Fenced keys and what was taken there.
    pub fenced: BTreeMap<usize, Option<u64>>,
    /// After the ledger closed it.
    pub closed_seq: Option<u64>,
    pub folded: BTreeSet<usize>,
}

impl Closing {
    pub(super) fn new(run: RunId, torn: bool, keys: BTreeMap<usize, u64>, from: u64) -> Self {
        let (fenced, folded) = (BTreeMap::new(), BTreeSet::new());
        Self { run, torn, keys, from, fenced, closed_seq: None, folded }
    }

    pub(super) fn is_done(&self) -> bool {
        self.closed_seq.is_some() && self.folded.len() == self.keys.len()
    }
}
