//! The machine's own file system.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt},
    path::Path,
};

use rustix::fs::{FallocateFlags, FlockOperation};

use super::files::{Files, OpenFile, Place};

/// [`Files`] on the machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        // For its owner alone: what is in it tells of tenants.
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // Names that are not text are not ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn create(&self, path: &Path, allocate_bytes: u64) -> io::Result<Box<dyn OpenFile>> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        if allocate_bytes > 0 {
            match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, allocate_bytes) {
                // Some file systems cannot allocate ahead; they get a sparse file.
                Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(allocate_bytes)?,
                outcome => outcome?,
            }
        }
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        Ok(Box::new(File::open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }

    fn place(&self, dir: &Path) -> io::Result<Place> {
        let found = fs::metadata(dir)?;
        Ok(Place { device: found.dev(), inode: found.ino() })
    }

    fn boot_id(&self) -> io::Result<String> {
        Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
    }
}

impl OpenFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_on_one_file_would_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let held = Disk.lock(&path).unwrap();
        let refused = Disk.lock(&path).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(held);
        assert!(Disk.lock(&path).is_ok());
    }

    #[test]
    fn a_copy_lies_elsewhere_and_a_renamed_directory_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (first, copy) = (dir.path().join("first"), dir.path().join("copy"));
        Disk.create_dir_all(&first).unwrap();
        Disk.create_dir_all(&copy).unwrap();
        let place = Disk.place(&first).unwrap();
        assert_ne!(Disk.place(&copy).unwrap(), place);
        Disk.rename(&first, &dir.path().join("renamed")).unwrap();
        assert_eq!(Disk.place(&dir.path().join("renamed")).unwrap(), place);
    }

    #[test]
    fn only_its_owner_enters_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("data/runs");
        Disk.create_dir_all(&dir).unwrap();
        for dir in [dir.parent().unwrap(), &dir] {
            assert_eq!(fs::metadata(dir).unwrap().mode() & 0o777, 0o700, "{dir:?}");
        }
    }

    #[test]
    fn an_allocated_file_reads_as_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let file = Disk.create(&dir.path().join("a"), 4096).unwrap();
        let mut buffer = [1; 16];
        assert_eq!(OpenFile::read_at(&*file, &mut buffer, 100).unwrap(), 16);
        assert_eq!(buffer, [0; 16]);
    }
}
