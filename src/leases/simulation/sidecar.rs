//! The model of a sidecar.

use std::collections::{BTreeMap, VecDeque};

use super::{dropped::Dropped, event::Identity, terms::Terms};
use crate::{
    domain::{ids::RunId, usage::Durability},
    leases::{
        cell::Cell,
        holder::Holder,
        holds::Holds,
        message::{Call, Epoch},
    },
};

/// Holds of one run, at most.
const HOLDS_MAX: usize = 10_000;

pub(super) struct Sidecar {
    pub run: RunId,
    /// How far its wall clock is ahead, in milliseconds.
    pub skew_ms: i64,
    /// It stands still until then.
    pub paused_until: u64,
    /// The epoch it is in and the counters that it stands for.
    pub epoch: Option<(Epoch, Identity)>,
    pub slots: BTreeMap<usize, Slot>,
    pub holds: Holds<Held>,
    pub journal: Vec<Record>,
    /// Records that survive the host.
    pub synced: usize,
    /// Records that are in the ledger.
    pub flushed: usize,
    /// The weakest level of its acknowledgements.
    pub weakest: Durability,
    /// Per key, how many records there are, and how many of them are flushed.
    records: BTreeMap<usize, (usize, usize)>,
    /// The epoch in which each key was first opened.
    pub opened: BTreeMap<usize, u64>,
    /// Totals of cells that were dropped.
    pub left: Dropped,
    pub terms: Terms,
    /// It takes no more requests.
    pub stopping: bool,
}

/// One journalled event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub key: usize,
    pub amount: i64,
    pub event: u64,
    pub escrow: bool,
    /// Its cell has counted it.
    pub counted: bool,
}

/// What a reservation holds.
pub(super) struct Held {
    pub key: usize,
    pub units: u64,
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
    /// Requests and reservations that hold units, if only 0 of them.
    pub users: u64,
    /// When the driver is to be woken.
    pub wake_at: Option<u64>,
    /// Returned as of the last call.
    pub returned: u64,
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
    /// The least that was left anywhere at some moment since it came, as far as there was a key.
    pub least: Option<i64>,
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
            users: 0,
            wake_at: None,
            returned,
            parted_after: None,
            spoiled: false,
        }
    }

    /// The call under way is over.
    pub(super) fn unspoil(&mut self) {
        if std::mem::take(&mut self.spoiled) {
            let _ = self.cell.close();
        }
    }
}

impl Sidecar {
    pub(super) fn new(run: RunId, terms: Terms, skew_ms: i64) -> Self {
        Self {
            run,
            skew_ms,
            paused_until: 0,
            epoch: None,
            slots: BTreeMap::new(),
            holds: Holds::new(HOLDS_MAX),
            journal: Vec::new(),
            synced: 0,
            flushed: 0,
            weakest: Durability::Sync,
            records: BTreeMap::new(),
            opened: BTreeMap::new(),
            left: Dropped::default(),
            terms,
            stopping: false,
        }
    }

    /// Records of a key, and how many of them are flushed.
    pub(super) fn records(&self, key: usize) -> (usize, usize) {
        self.records.get(&key).copied().unwrap_or_default()
    }

    /// Appends to the journal and acknowledges at that level.
    pub(super) fn note(&mut self, record: Record, level: Durability) {
        self.records.entry(record.key).or_default().0 += 1;
        self.journal.push(record);
        self.weakest = self.weakest.min(level);
        if level == Durability::Sync {
            self.synced = self.journal.len();
        }
    }

    /// Takes records off the journal's end.
    pub(super) fn tear(&mut self, lost: usize) -> Vec<Record> {
        let torn = self.journal.split_off(self.journal.len() - lost);
        self.synced = self.synced.min(self.journal.len());
        torn
    }

    /// Moves the mark by up to `most` of the records that are synced, and hands them out.
    pub(super) fn flush(&mut self, most: usize) -> Vec<Record> {
        let to = self.synced.min(self.flushed.saturating_add(most));
        let records: Vec<_> = self.journal[self.flushed..to].to_vec();
        self.flushed = to;
        for record in &records {
            self.records.entry(record.key).or_default().1 += 1;
        }
        records
    }
}
