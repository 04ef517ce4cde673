//! A file system in memory that fails as told, for tests.
//!
//! It knows what was synced. A process that is killed leaves everything that it wrote; a host that
//! crashes leaves what was synced, and an arbitrary part of the rest: sectors and names in any
//! combination. After a sync of a file that failed, what it should have written is never written
//! again, although it can still be read (as Linux does it).

mod files;
mod moment;
mod node;

use std::{
    io,
    path::{Component, Path},
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

pub use self::moment::{Death, Moment};
use self::{
    moment::Torn,
    node::{DirChange, DirNode, Node},
};

/// Operations that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Open,
    Read,
    Write,
    /// Of a file's bytes.
    Sync,
    SyncDir,
    Rename,
    Remove,
}

/// What the disk says to have synced and has not: as good as a journal that forgets to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lies {
    pub about_bytes: bool,
    pub about_names: bool,
    /// A file's sync that fails does not say so.
    pub about_errors: bool,
}

struct State {
    /// Never shrinks: an unlinked file can still be open. The first is the root.
    nodes: Vec<Arc<Node>>,
    rng: StdRng,
    /// Changes until the process dies.
    changes_left: Option<u64>,
    /// Changes so far.
    changes: u64,
    failing: Vec<(Operation, io::ErrorKind)>,
    /// The change of that number fails, those after it do not.
    failing_once: Option<(u64, io::ErrorKind)>,
    failed_once: Option<Operation>,
    short_writes: bool,
    hold_syncs: bool,
    lies: Lies,
    locked: bool,
    boot: u32,
    counts: Counts,
    moments: Option<Vec<Moment>>,
}

impl State {
    fn new(rng: StdRng) -> Self {
        Self {
            nodes: vec![Arc::new(Node::Dir(DirNode::default()))],
            rng,
            changes_left: None,
            changes: 0,
            failing: vec![],
            failing_once: None,
            failed_once: None,
            short_writes: false,
            hold_syncs: false,
            lies: Lies::default(),
            locked: false,
            boot: 1,
            counts: Counts::default(),
            moments: None,
        }
    }
}

/// How often something was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub writes: u32,
    /// Those that are held too.
    pub data_syncs_begun: u32,
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
        let state = State::new(StdRng::seed_from_u64(seed));
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

    /// Makes one change fail: the one that comes after so many more.
    pub fn fail_once_after(&self, changes: u64, kind: io::ErrorKind) {
        let mut state = self.state();
        state.failing_once = Some((state.changes + changes + 1, kind));
    }

    /// What it was that failed by [`FaultyDisk::fail_once_after`].
    pub fn failed_once(&self) -> Option<Operation> {
        self.state().failed_once
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

    /// Has the disk lie from now on.
    pub fn lie(&self, lies: Lies) {
        self.state().lies = lies;
    }

    /// How often something was done.
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Changes so far, those included that failed.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Keeps the moment before each change from now on.
    pub fn record(&self) {
        self.state().moments = Some(vec![]);
    }

    /// The moments since [`FaultyDisk::record`], and the present one.
    pub fn moments(&self) -> Vec<Moment> {
        let mut state = self.state();
        let mut moments = state.moments.take().unwrap_or_default();
        moments.push(Moment { nodes: state.nodes.clone(), torn: None, boot: state.boot });
        moments
    }

    /// The state after the process or the host died and was started again.
    pub fn restart(&self, death: Death) -> Self {
        let mut state = self.state();
        // Nobody that the old process left behind touches the new state.
        state.changes_left = Some(0);
        let seed = state.rng.random();
        let now = Moment { nodes: state.nodes.clone(), torn: None, boot: state.boot };
        let restarted = now.after(death, seed);
        restarted.state().short_writes = state.short_writes;
        restarted.state().lies = state.lies;
        restarted
    }

    /// Flips one bit of a file.
    pub fn flip_bit(&self, path: &Path, bit: usize) {
        let mut state = self.state();
        let node = state.find(path).unwrap();
        state.file(node).flip_bit(bit);
    }

    /// A file's bytes.
    pub fn content(&self, path: &Path) -> Vec<u8> {
        let mut state = self.state();
        let node = state.find(path).unwrap();
        state.file(node).live.clone()
    }
}

impl Moment {
    /// The disk after that death at this moment; `seed` decides what is left of what was on its way.
    pub fn after(&self, death: Death, seed: u64) -> FaultyDisk {
        let mut rng = StdRng::seed_from_u64(seed);
        let (nodes, boot) = self.left_by(death, &mut rng);
        let state = State { nodes, boot, ..State::new(rng) };
        FaultyDisk { state: Arc::new(Mutex::new(state)), syncs_go_on: Arc::default() }
    }
}

/// What becomes of a change.
enum Fate {
    Happens,
    /// It fails, and may have happened in part.
    Fails(io::Error),
}

impl State {
    fn find(&mut self, path: &Path) -> io::Result<usize> {
        let mut at = 0;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let Node::Dir(dir) = &*self.nodes[at] else { return Err(missing()) };
            at = *dir.live.get(name.to_str().unwrap()).ok_or_else(missing)?;
        }
        Ok(at)
    }

    fn file(&mut self, node: usize) -> &mut node::FileNode {
        match Arc::make_mut(&mut self.nodes[node]) {
            Node::File(file) => file,
            Node::Dir(_) => panic!("a directory is used as a file"),
        }
    }

    fn dir(&mut self, path: &Path) -> io::Result<&mut DirNode> {
        let node = self.find(path)?;
        match Arc::make_mut(&mut self.nodes[node]) {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(missing()),
        }
    }

    /// Begins a change; an error once the process is dead.
    fn change(&mut self, operation: Operation, torn: Option<Torn>) -> io::Result<Fate> {
        match &mut self.changes_left {
            None => {}
            Some(0) => return Err(io::Error::other("the process is dead")),
            Some(left) => *left -= 1,
        }
        self.changes += 1;
        if let Some(moments) = &mut self.moments {
            moments.push(Moment { nodes: self.nodes.clone(), torn, boot: self.boot });
        }
        if let Some((number, kind)) = self.failing_once
            && number == self.changes
        {
            self.failed_once = Some(operation);
            return Ok(Fate::Fails(kind.into()));
        }
        Ok(self.check(operation).map_or_else(Fate::Fails, |()| Fate::Happens))
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
        self.nodes.push(Arc::new(node));
        Ok(number)
    }

    /// A change of names: one that fails may have happened all the same.
    fn change_names(
        &mut self,
        (operation, dir): (Operation, &Path),
        change: DirChange,
    ) -> io::Result<()> {
        match self.change(operation, None)? {
            Fate::Happens => {
                self.dir(dir)?.change(change);
                Ok(())
            }
            Fate::Fails(error) => {
                if self.rng.random() {
                    self.dir(dir)?.change(change);
                }
                Err(error)
            }
        }
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
