//! The disk as [`Files`].

use std::{io, path::Path};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    Fate, FaultyDisk, Operation, State,
    moment::Torn,
    name,
    node::{DirChange, DirNode, FileNode, Node},
    parent,
};
use crate::journal::files::{Files, OpenFile, Place};

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
        match state.change(Operation::Create, None)? {
            Fate::Happens => state.add(path, Node::Dir(DirNode::default())).map(drop),
            Fate::Fails(error) => Err(error),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.check(Operation::Read)?;
        Ok(state.dir(dir)?.live.keys().cloned().collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        match state.change(Operation::SyncDir, None)? {
            Fate::Happens if state.lies.about_names => Ok(()),
            Fate::Happens => {
                state.dir(dir)?.sync();
                Ok(())
            }
            // Names belong to the file system, which keeps what it could not write.
            Fate::Fails(error) => Err(error),
        }
    }

    fn create(&self, path: &Path, allocate_bytes: u64) -> io::Result<Box<dyn OpenFile>> {
        let mut state = self.state();
        let fate = state.change(Operation::Create, None)?;
        let mut file = FileNode::default();
        match fate {
            Fate::Happens => {
                file.write(0, &vec![0; usize::try_from(allocate_bytes).unwrap()]);
                let node = state.add(path, Node::File(file))?;
                Ok(Box::new(FaultyFile { disk: self.clone(), node }))
            }
            Fate::Fails(error) => {
                // The name is taken although there is no room, or for a part only.
                let allocated = state.rng.random_range(0..=allocate_bytes);
                file.write(0, &vec![0; usize::try_from(allocated).unwrap()]);
                state.add(path, Node::File(file))?;
                Err(error)
            }
        }
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        let mut state = self.state();
        state.check(Operation::Open)?;
        let node = state.find(path)?;
        Ok(Box::new(FaultyFile { disk: self.clone(), node }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(parent(from), parent(to), "only names within a directory are changed");
        let mut state = self.state();
        let node = state.find(from)?;
        let change = DirChange::Rename(name(from), name(to), node);
        state.change_names((Operation::Rename, parent(from)), change)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.find(path)?;
        let change = DirChange::Remove(name(path));
        state.change_names((Operation::Remove, parent(path)), change)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let names: Vec<String> = state.dir(path)?.live.keys().cloned().collect();
        for name in names {
            state.change_names((Operation::Remove, path), DirChange::Remove(name))?;
        }
        let change = DirChange::Remove(name(path));
        state.change_names((Operation::Remove, parent(path)), change)
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
        state.check(Operation::Read)?;
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
        let offset = usize::try_from(offset).unwrap();
        let is_recorded = state.moments.is_some();
        let torn = is_recorded.then(|| Torn { node: self.node, offset, bytes: bytes.to_vec() });
        let fate = state.change(Operation::Write, torn)?;
        // A process that is killed in a write has written the beginning.
        let is_cut = dies || state.short_writes || matches!(fate, Fate::Fails(_));
        let written = if is_cut { state.rng.random_range(1..=bytes.len()) } else { bytes.len() };
        state.file(self.node).write(offset, &bytes[..written]);
        match fate {
            Fate::Happens => Ok(written),
            Fate::Fails(error) => Err(error),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let held = |state: &mut State| state.hold_syncs;
        let mut state = self.disk.state();
        state.counts.data_syncs_begun += 1;
        let mut state = self.disk.syncs_go_on.wait_while(state, held).unwrap();
        state.counts.data_syncs += 1;
        drop(state);
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        match state.change(Operation::Sync, None)? {
            Fate::Happens if state.lies.about_bytes => Ok(()),
            Fate::Happens => {
                state.file(self.node).sync();
                Ok(())
            }
            Fate::Fails(error) => {
                let mut rng = StdRng::seed_from_u64(state.rng.random());
                state.file(self.node).sync_some(&mut rng);
                if state.lies.about_errors { Ok(()) } else { Err(error) }
            }
        }
    }
}
