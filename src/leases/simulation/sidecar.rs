//! The model of a sidecar.

use std::collections::{BTreeMap, VecDeque};

use super::event::Identity;
use crate::{
    domain::ids::RunId,
    leases::{
        cell::Cell,
        holder::Holder,
        message::{Call, Ceiling, Epoch, Totals},
    },
};

pub(super) struct Sidecar {
    pub run: RunId,
    /// The epoch it is in and the counters that it stands for.
    pub epoch: Option<(Epoch, Identity)>,
    pub slots: BTreeMap<usize, Slot>,
    pub journal: Vec<Record>,
    pub flushed: usize,
    /// Per key, how many records there are, and how many of them are flushed.
    records: BTreeMap<usize, (usize, usize)>,
    /// The epoch in which each key was first opened.
    pub opened: BTreeMap<usize, u64>,
    /// Totals of cells that were dropped.
    pub left: BTreeMap<usize, Totals>,
    pub ceilings: Vec<Ceiling>,
    /// It takes no more requests.
    pub stopping: bool,
}

/// One journalled event.
#[derive(Clone, Copy)]
pub(super) struct Record {
    pub key: usize,
    pub amount: i64,
    pub event: u64,
    pub escrow: bool,
}

pub(super) struct Slot {
    pub cell: Cell,
    pub holder: Holder,
    pub queue: VecDeque<Request>,
    /// The requests that were waiting when the call under way was built.
    pub asked: Vec<u64>,
    pub flight: Option<(Call, u32)>,
    /// Units taken and neither committed nor given back.
    pub held: u64,
    /// When the driver is to be woken.
    pub wake_at: Option<u64>,
    /// Returned as of the last call.
    pub returned: u64,
    /// What requests and reservations gave back after the last call said that all was returned.
    pub late: u64,
    /// The call that returns what was late, and how much that is.
    pub returning: (u64, u64),
    /// How many of the key's records there were when the cell parted, all of them flushed.
    pub parted_after: Option<usize>,
    /// A planted mistake has put back into hand what the call under way says is returned.
    pub spoiled: bool,
}

pub(super) struct Request {
    pub id: u64,
    pub amount: u64,
    pub reserves: bool,
    pub event: u64,
    /// The least that was left anywhere at some moment since it came.
    pub least: i64,
}

impl Slot {
    pub(super) fn new(cell: Cell, holder: Holder, returned: u64) -> Self {
        Self {
            cell,
            holder,
            queue: VecDeque::new(),
            asked: Vec::new(),
            flight: None,
            held: 0,
            wake_at: None,
            returned,
            late: 0,
            returning: (0, 0),
            parted_after: None,
            spoiled: false,
        }
    }

    /// In hand or on the way back, and the key has not heard of it though the run has answered.
    pub(super) fn overlooked(&self) -> u64 {
        self.late.min(self.cell.available()) + self.returning.1
    }

    /// The call under way is over.
    pub(super) fn unspoil(&mut self) {
        if std::mem::take(&mut self.spoiled) {
            let _ = self.cell.close();
        }
    }
}

impl Sidecar {
    pub(super) fn new(run: RunId, ceilings: Vec<Ceiling>) -> Self {
        Self {
            run,
            epoch: None,
            slots: BTreeMap::new(),
            journal: Vec::new(),
            flushed: 0,
            records: BTreeMap::new(),
            opened: BTreeMap::new(),
            left: BTreeMap::new(),
            ceilings,
            stopping: false,
        }
    }

    /// Records of a key, and how many of them are flushed.
    pub(super) fn records(&self, key: usize) -> (usize, usize) {
        self.records.get(&key).copied().unwrap_or_default()
    }

    /// Appends to the journal.
    pub(super) fn note(&mut self, record: Record) {
        self.records.entry(record.key).or_default().0 += 1;
        self.journal.push(record);
    }

    /// Takes the last records off the journal.
    pub(super) fn tear(&mut self, lost: usize) -> Vec<Record> {
        self.journal.split_off(self.journal.len() - lost)
    }

    /// Moves the mark by up to `most` records, and hands them out.
    pub(super) fn flush(&mut self, most: usize) -> Vec<Record> {
        let records: Vec<_> = self.journal.iter().skip(self.flushed).take(most).copied().collect();
        self.flushed += records.len();
        for record in &records {
            self.records.entry(record.key).or_default().1 += 1;
        }
        records
    }
}
