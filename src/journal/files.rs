//! The file layer: what the journal asks of a file system, so that tests can make it fail.
//!
//! All calls block. A file's name is only sure to survive a host crash after [`Files::sync_dir`] on
//! its directory, its bytes only after [`OpenFile::sync`] or [`OpenFile::sync_data`].

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

/// Where a directory lies. A copy of it lies elsewhere; a rename changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Number of the file system's device; may be another one after the host has started again.
    pub device: u64,
    /// Number of the directory in its file system.
    pub inode: u64,
}

/// A file system.
pub trait Files: Send + Sync + 'static {
    /// Creates a directory and its parents; one that exists is fine.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Names of a directory's entries, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Creates a file, or empties one that exists, and opens it for writing. The first
    /// `allocate_bytes` bytes are zeros that have their place on disk.
    fn create(&self, path: &Path, allocate_bytes: u64) -> io::Result<Box<dyn OpenFile>>;
    /// Opens a file for reading and syncing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>>;
    /// Renames a file or directory; a file that had the name is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and what is in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Takes an exclusive lock on the file, created if need be, held until the value is dropped.
    /// `WouldBlock` when another process has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
    /// Where a directory lies.
    fn place(&self, dir: &Path) -> io::Result<Place>;
    /// A text that is the same until the host starts again.
    fn boot_id(&self) -> io::Result<String>;
}

/// An open file.
pub trait OpenFile: Send + Sync {
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reads some bytes at `offset`; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes some bytes at `offset`, perhaps fewer than given.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Makes the written bytes durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes bytes and size durable.
    fn sync(&self) -> io::Result<()>;

    /// Writes all bytes at `offset`.
    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    offset += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Fills `buffer` from `offset` as far as the file goes, and says how far.
    fn read_full_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// Writes a small file so that after a crash it has either its old content or the new one.
pub fn replace_file(files: &dyn Files, path: &Path, content: &[u8]) -> io::Result<()> {
    let written = path.with_extension("tmp");
    let file = files.create(&written, 0)?;
    file.write_all_at(content, 0)?;
    file.sync()?;
    files.rename(&written, path)?;
    match path.parent() {
        Some(dir) => files.sync_dir(dir),
        None => Ok(()),
    }
}

/// Reads a whole file.
pub fn read_file(files: &dyn Files, path: &Path) -> io::Result<Vec<u8>> {
    let file = files.open(path)?;
    let bytes = usize::try_from(file.len()?)
        .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "the file exceeds memory"))?;
    let mut content = vec![0; bytes];
    let filled = file.read_full_at(&mut content, 0)?;
    content.truncate(filled);
    Ok(content)
}
