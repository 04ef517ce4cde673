//! A file system in memory that fails as told, for tests.
//!
//! It knows what was synced. A process that is killed leaves everything that it wrote; a host that
//! crashes leaves what was synced, and an arbitrary part of the rest: sectors and names in any
//! combination. After a sync that failed, what it should have written is never written again.

use std::{
    collections::BTreeMap,
    io,
    path::{Component, Path},
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::files::{Files, OpenFile, Place};

/// What a disk keeps or loses at once.
const SECTOR_BYTES: usize = 512;

/// Operations that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Write,
    SyncData,
}

/// Which death the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// `kill -9`.
    Process,
    /// A power failure.
    Host,
}

#[derive(Clone, Debug)]
enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Clone, Debug, Default)]
struct FileNode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Writes since the last sync.
    unsynced: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug, Default)]
struct DirNode {
    live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    unsynced: Vec<DirChange>,
}

#[derive(Clone, Debug)]
enum DirChange {
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

struct State {
    /// Never shrinks: an unlinked file can still be open. The first is the root.
    nodes: Vec<Node>,
    rng: StdRng,
    /// Changes until the process dies.
    changes_left: Option<u64>,
    failing: Vec<(Operation, io::ErrorKind)>,
    short_writes: bool,
    hold_syncs: bool,
    locked: bool,
    boot: u32,
    counts: Counts,
}

/// How often something was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub writes: u32,
    pub data_syncs: u32,
}

/// The file system; clones are the same one.
#[derive(Clone)]
pub struct FaultyDisk {
    /// Guards everything; held for one operation.
    state: Arc<Mutex<State>>,
    syncs_go_on: Arc<Condvar>,
}

impl FaultyDisk {
    /// An empty disk; `seed` decides what a crash keeps.
    pub fn new(seed: u64) -> Self {
        let state = State {
            nodes: vec![Node::Dir(DirNode::default())],
            rng: StdRng::seed_from_u64(seed),
            changes_left: None,
            failing: vec![],
            short_writes: false,
            hold_syncs: false,
            locked: false,
            boot: 1,
            counts: Counts::default(),
        };
        Self { state: Arc::new(Mutex::new(state)), syncs_go_on: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Lets the process die after so many more changes.
    pub fn die_after(&self, changes: u64) {
        self.state().changes_left = Some(changes);
        self.hold_syncs(false);
    }

    /// Makes an operation fail from now on, or work again.
    pub fn fail(&self, operation: Operation, kind: Option<io::ErrorKind>) {
        let mut state = self.state();
        state.failing.retain(|(failing, _)| *failing != operation);
        state.failing.extend(kind.map(|kind| (operation, kind)));
    }

    /// Makes writes write less than they are given.
    pub fn shorten_writes(&self) {
        self.state().short_writes = true;
    }

    /// Keeps data syncs from returning, until told otherwise.
    pub fn hold_syncs(&self, hold: bool) {
        self.state().hold_syncs = hold;
        self.syncs_go_on.notify_all();
    }

    /// How often something was done.
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// The state after the process or the host died and was started again.
    pub fn restart(&self, death: Death) -> Self {
        let mut state = self.state();
        // Nobody that the old process left behind touches the new state.
        state.changes_left = Some(0);
        let mut nodes = state.nodes.clone();
        let mut rng = StdRng::seed_from_u64(state.rng.random());
        if death == Death::Host {
            for node in &mut nodes {
                match node {
                    Node::File(file) => file.crash(&mut rng),
                    Node::Dir(dir) => dir.crash(&mut rng),
                }
            }
        }
        let boot = state.boot + u32::from(death == Death::Host);
        let restarted = State {
            nodes,
            rng,
            changes_left: None,
            failing: vec![],
            short_writes: state.short_writes,
            hold_syncs: false,
            locked: false,
            boot,
            counts: Counts::default(),
        };
        Self { state: Arc::new(Mutex::new(restarted)), syncs_go_on: Arc::default() }
    }

    /// Flips one bit of a file.
    pub fn flip_bit(&self, path: &Path, bit: usize) {
        let mut state = self.state();
        let node = state.find(path).unwrap();
        let file = state.file(node);
        file.live[bit / 8] ^= 1 << (bit % 8);
        file.durable.clone_from(&file.live);
        file.unsynced.clear();
    }

    /// A file's bytes.
    pub fn content(&self, path: &Path) -> Vec<u8> {
        let mut state = self.state();
        let node = state.find(path).unwrap();
        state.file(node).live.clone()
    }
}

impl FileNode {
    fn write(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
        let end = offset + written.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset..end].copy_from_slice(written);
    }

    /// Brings an arbitrary part of what was not synced to the disk.
    fn sync_some(&mut self, rng: &mut StdRng) {
        for (offset, written) in std::mem::take(&mut self.unsynced) {
            let mut at = 0;
            while at < written.len() {
                let sector_end = ((offset + at) / SECTOR_BYTES + 1) * SECTOR_BYTES - offset;
                let end = sector_end.min(written.len());
                if rng.random() {
                    Self::write(&mut self.durable, offset + at, &written[at..end]);
                }
                at = end;
            }
        }
    }

    fn crash(&mut self, rng: &mut StdRng) {
        self.sync_some(rng);
        self.live.clone_from(&self.durable);
    }
}

impl DirNode {
    fn change(&mut self, change: DirChange) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }

    fn crash(&mut self, rng: &mut StdRng) {
        for change in std::mem::take(&mut self.unsynced) {
            if rng.random() {
                change.apply(&mut self.durable);
            }
        }
        self.live.clone_from(&self.durable);
    }
}

impl State {
    fn find(&mut self, path: &Path) -> io::Result<usize> {
        let mut at = 0;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let Node::Dir(dir) = &self.nodes[at] else { return Err(missing()) };
            at = *dir.live.get(name.to_str().unwrap()).ok_or_else(missing)?;
        }
        Ok(at)
    }

    fn file(&mut self, node: usize) -> &mut FileNode {
        match &mut self.nodes[node] {
            Node::File(file) => file,
            Node::Dir(_) => panic!("a directory is used as a file"),
        }
    }

    fn dir(&mut self, path: &Path) -> io::Result<&mut DirNode> {
        let node = self.find(path)?;
        match &mut self.nodes[node] {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(missing()),
        }
    }

    /// Counts a change down; an error once the process is dead.
    fn change(&mut self) -> io::Result<()> {
        match &mut self.changes_left {
            None => Ok(()),
            Some(0) => Err(io::Error::other("the process is dead")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn check(&self, operation: Operation) -> io::Result<()> {
        match self.failing.iter().find(|(failing, _)| *failing == operation) {
            Some((_, kind)) => Err((*kind).into()),
            None => Ok(()),
        }
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        let number = self.nodes.len();
        self.dir(parent(path))?.change(DirChange::Insert(name(path), number));
        self.nodes.push(node);
        Ok(number)
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

struct FaultyFile {
    disk: FaultyDisk,
    node: usize,
}

impl Files for FaultyDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.find(path).is_ok() {
            return Ok(());
        }
        drop(state);
        if let Some(parent) = path.parent() {
            self.create_dir_all(parent)?;
        }
        state = self.state();
        state.change()?;
        state.add(path, Node::Dir(DirNode::default())).map(drop)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Ok(self.state().dir(dir)?.live.keys().cloned().collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        let dir = state.dir(dir)?;
        dir.unsynced.clear();
        dir.durable = dir.live.clone();
        Ok(())
    }

    fn create(&self, path: &Path, allocate_bytes: u64) -> io::Result<Box<dyn OpenFile>> {
        let mut state = self.state();
        state.change()?;
        let zeros = vec![0; usize::try_from(allocate_bytes).unwrap()];
        let unsynced = vec![(0, zeros.clone())];
        let file = FileNode { live: zeros, durable: vec![], unsynced };
        let node = state.add(path, Node::File(file))?;
        // The name is taken although there is no room.
        state.check(Operation::Create)?;
        Ok(Box::new(FaultyFile { disk: self.clone(), node }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        let node = self.state().find(path)?;
        Ok(Box::new(FaultyFile { disk: self.clone(), node }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(parent(from), parent(to), "only names within a directory are changed");
        let mut state = self.state();
        state.change()?;
        let node = state.find(from)?;
        state.dir(parent(from))?.change(DirChange::Rename(name(from), name(to), node));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        state.find(path)?;
        state.dir(parent(path))?.change(DirChange::Remove(name(path)));
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.remove(path)
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        struct Lock(FaultyDisk);
        impl Drop for Lock {
            fn drop(&mut self) {
                self.0.state().locked = false;
            }
        }
        let mut state = self.state();
        if std::mem::replace(&mut state.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock(self.clone())))
    }

    fn place(&self, dir: &Path) -> io::Result<Place> {
        let inode = self.state().find(dir)? as u64;
        Ok(Place { device: 0, inode })
    }

    fn boot_id(&self) -> io::Result<String> {
        Ok(format!("boot {}", self.state().boot))
    }
}

impl OpenFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().file(self.node).live.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let live = &state.file(self.node).live;
        let from = usize::try_from(offset).unwrap().min(live.len());
        let read = buffer.len().min(live.len() - from);
        buffer[..read].copy_from_slice(&live[from..from + read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.counts.writes += 1;
        let dies = state.changes_left == Some(1);
        state.change()?;
        state.check(Operation::Write)?;
        // A process that is killed in a write has written the beginning.
        let written = if dies || state.short_writes {
            state.rng.random_range(1..=bytes.len())
        } else {
            bytes.len()
        };
        let offset = usize::try_from(offset).unwrap();
        let file = state.file(self.node);
        FileNode::write(&mut file.live, offset, &bytes[..written]);
        file.unsynced.push((offset, bytes[..written].to_vec()));
        Ok(written)
    }

    fn sync_data(&self) -> io::Result<()> {
        let held = |state: &mut State| state.hold_syncs;
        let state = self.disk.state();
        let mut state = self.disk.syncs_go_on.wait_while(state, held).unwrap();
        state.counts.data_syncs += 1;
        drop(state);
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.change()?;
        if let Err(error) = state.check(Operation::SyncData) {
            let mut rng = StdRng::seed_from_u64(state.rng.random());
            state.file(self.node).sync_some(&mut rng);
            return Err(error);
        }
        let file = state.file(self.node);
        file.unsynced.clear();
        file.durable.clone_from(&file.live);
        Ok(())
    }
}
