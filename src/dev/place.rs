//! Directories that a private server can live in.

use std::{
    env, fs,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use uuid::Uuid;

use super::account::Account;

/// Longest directory for a server, in bytes: a Unix socket's whole path is at most 107.
const PLACE_BYTES_MAX: usize = 85;
/// Where servers live whose wanted directory does not suit them; `/tmp` may be emptied at boot.
const FALLBACK_PARENT: &str = "/var/tmp";

/// One server's own directory, entered by nobody else.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) dir: PathBuf,
    /// Removed with the server.
    pub(super) is_scratch: bool,
    pub(super) account: Option<Account>,
}

impl Place {
    /// A new directory that is removed with its server.
    pub(super) fn scratch(server: &str) -> Result<Self> {
        let account = Account::for_servers()?;
        let name = format!("tollgate-{server}-{}", Uuid::new_v4().simple());
        let wanted = env::temp_dir().join(&name);
        let dir = if suits(&wanted, account.as_ref()) {
            wanted
        } else {
            Path::new(FALLBACK_PARENT).join(name)
        };
        Self::make(dir, true, account)
    }

    /// The directory `wanted`, or where it does not suit (a server that root starts cannot enter
    /// `/root`; a socket's path is short) one in `/var/tmp`, to which `wanted` becomes a link.
    pub(super) fn lasting(wanted: &Path, server: &str) -> Result<Self> {
        let account = Account::for_servers()?;
        let wanted = std::path::absolute(wanted)
            .with_context(|| format!("finding the directory {}", wanted.display()))?;
        if let Ok(elsewhere) = fs::read_link(&wanted) {
            return Self::make(elsewhere, false, account);
        }
        if suits(&wanted, account.as_ref()) {
            return Self::make(wanted, false, account);
        }
        let name = format!("tollgate-{server}-{}", Uuid::new_v4().simple());
        let place = Self::make(Path::new(FALLBACK_PARENT).join(name), false, account)?;
        create_parent(&wanted)?;
        std::os::unix::fs::symlink(&place.dir, &wanted)
            .with_context(|| format!("linking {}", wanted.display()))?;
        Ok(place)
    }

    /// `dir` itself, for a process that runs as who we are.
    pub(super) fn own(dir: &Path) -> Result<Self> {
        let dir = std::path::absolute(dir)
            .with_context(|| format!("finding the directory {}", dir.display()))?;
        Self::make(dir, false, None)
    }

    fn make(dir: PathBuf, is_scratch: bool, account: Option<Account>) -> Result<Self> {
        create_parent(&dir)?;
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => {
                if let Some(account) = &account {
                    account.own(&dir)?;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                check_owner(&dir, account.as_ref())?;
            }
            Err(error) => {
                return Err(error).with_context(|| format!("creating {}", dir.display()));
            }
        }
        Ok(Self { dir, is_scratch, account })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_scratch {
            // What cannot be removed is only left behind in the directory for temporary files.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn create_parent(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))
}

/// A directory that somebody else owns may hold somebody else's data, or a trap.
fn check_owner(dir: &Path, account: Option<&Account>) -> Result<()> {
    let owner = fs::symlink_metadata(dir)?;
    let expected = account.map_or(rustix::process::geteuid().as_raw(), |account| account.uid);
    if !owner.is_dir() || owner.uid() != expected {
        bail!(
            "{} exists and is not a directory of uid {expected}; remove it or choose another place",
            dir.display()
        );
    }
    Ok(())
}

/// Whether the account can enter every existing directory above `dir`, and a socket fits into it.
fn suits(dir: &Path, account: Option<&Account>) -> bool {
    if dir.as_os_str().len() > PLACE_BYTES_MAX {
        return false;
    }
    let Some(account) = account else { return true };
    dir.ancestors().skip(1).filter_map(|above| fs::metadata(above).ok()).all(|above| {
        let mode = above.mode();
        match () {
            () if above.uid() == account.uid => mode & 0o100 != 0,
            () if above.gid() == account.gid => mode & 0o010 != 0,
            () => mode & 0o001 != 0,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_below_one_that_the_account_cannot_enter_does_not_suit() {
        let root = tempfile::tempdir().unwrap();
        let stranger = Account { name: "stranger".into(), uid: 54_321, gid: 54_321 };
        let dir = root.path().join("redis");
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!suits(&dir, Some(&stranger)));
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o711)).unwrap();
        assert!(suits(&dir, Some(&stranger)));
    }

    #[test]
    fn a_directory_that_is_too_long_for_a_socket_links_to_one_that_stays_the_same() {
        let root = tempfile::tempdir().unwrap();
        let wanted = root.path().join("x".repeat(120));
        let first = Place::lasting(&wanted, "redis").unwrap();
        let second = Place::lasting(&wanted, "redis").unwrap();
        assert_eq!(first.dir, second.dir);
        assert!(first.dir.starts_with(FALLBACK_PARENT));
        fs::remove_dir(&first.dir).unwrap();
        assert_eq!(fs::read_link(&wanted).unwrap(), first.dir);
    }

    #[test]
    fn a_scratch_directory_is_gone_with_its_server() {
        let place = Place::scratch("redis").unwrap();
        let dir = place.dir.clone();
        assert!(dir.is_dir());
        drop(place);
        assert!(!dir.exists());
    }
}
