//! Files and directories of the disk: as a running process sees them, and as a crash leaves them.

use std::{collections::BTreeMap, sync::Arc};

use rand::{Rng, rngs::StdRng};

/// What a disk keeps or loses at once.
const SECTOR_BYTES: usize = 512;

#[derive(Clone, Debug)]
pub(super) enum Node {
    File(FileNode),
    Dir(DirNode),
}

/// How much of what was not synced a host crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeps {
    /// Any sectors and names, others not.
    Some,
    Nothing,
}

impl Node {
    /// What is left after the host has crashed.
    pub fn crash(node: &mut Arc<Self>, keeps: Keeps, rng: &mut StdRng) {
        match Arc::make_mut(node) {
            Self::File(file) => file.crash(keeps, rng),
            Self::Dir(dir) => dir.crash(keeps, rng),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct FileNode {
    pub live: Vec<u8>,
    durable: Vec<u8>,
    /// Writes since the last sync.
    unsynced: Vec<(usize, Vec<u8>)>,
}

fn write_into(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
    let end = offset + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(written);
}

impl FileNode {
    pub fn write(&mut self, offset: usize, written: &[u8]) {
        write_into(&mut self.live, offset, written);
        self.unsynced.push((offset, written.to_vec()));
    }

    /// What an earlier sync failed to bring to the disk stays behind for ever.
    pub fn sync(&mut self) {
        for (offset, written) in std::mem::take(&mut self.unsynced) {
            write_into(&mut self.durable, offset, &written);
        }
    }

    /// Brings an arbitrary part of what was not synced to the disk, and forgets the rest.
    pub fn sync_some(&mut self, rng: &mut StdRng) {
        for (offset, written) in std::mem::take(&mut self.unsynced) {
            let mut at = 0;
            while at < written.len() {
                let sector_end = ((offset + at) / SECTOR_BYTES + 1) * SECTOR_BYTES - offset;
                let end = sector_end.min(written.len());
                if rng.random() {
                    write_into(&mut self.durable, offset + at, &written[at..end]);
                }
                at = end;
            }
        }
    }

    /// Flips a bit, on the disk and in memory.
    pub fn flip_bit(&mut self, bit: usize) {
        self.live[bit / 8] ^= 1 << (bit % 8);
        self.durable.clone_from(&self.live);
        self.unsynced.clear();
    }

    fn crash(&mut self, keeps: Keeps, rng: &mut StdRng) {
        if keeps == Keeps::Some {
            self.sync_some(rng);
        }
        self.unsynced.clear();
        self.live.clone_from(&self.durable);
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct DirNode {
    pub live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    unsynced: Vec<DirChange>,
}

#[derive(Clone, Debug)]
pub(super) enum DirChange {
    Insert(String, usize),
    Remove(String),
    Rename(String, String, usize),
}

impl DirChange {
    fn apply(&self, entries: &mut BTreeMap<String, usize>) {
        match self {
            Self::Insert(name, node) => {
                entries.insert(name.clone(), *node);
            }
            Self::Remove(name) => {
                entries.remove(name);
            }
            Self::Rename(from, to, node) => {
                entries.remove(from);
                entries.insert(to.clone(), *node);
            }
        }
    }
}

impl DirNode {
    pub fn change(&mut self, change: DirChange) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }

    pub fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            change.apply(&mut self.durable);
        }
    }

    fn crash(&mut self, keeps: Keeps, rng: &mut StdRng) {
        for change in std::mem::take(&mut self.unsynced) {
            if keeps == Keeps::Some && rng.random() {
                change.apply(&mut self.durable);
            }
        }
        self.live.clone_from(&self.durable);
    }
}
