//! Who the private servers run as.

use std::{fs, os::unix::process::CommandExt, path::Path, process::Command};

use anyhow::{Context, Result, bail};

/// An unprivileged user of this machine. Postgres refuses to run as root, and Redis has no reason
/// to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The users tried, in this order, when we are root.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

impl Account {
    /// The account to change to; `None` when this process is not root and stays who it is.
    pub(super) fn for_servers() -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
        let found = CANDIDATES.iter().find_map(|name| find_in_passwd(&passwd, name));
        if found.is_none() {
            bail!(
                "a private Postgres cannot run as root, and /etc/passwd has none of the users \
                 {CANDIDATES:?}; create one, or start as another user"
            );
        }
        Ok(found)
    }

    /// Makes `command` run as this account, without supplementary groups.
    pub(super) fn apply(&self, command: &mut Command) {
        // The standard library drops supplementary groups by itself when root sets a uid.
        command.uid(self.uid).gid(self.gid);
    }

    /// Hands `path` to this account.
    pub(super) fn own(&self, path: &Path) -> Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("giving {} to user {}", path.display(), self.name))
    }
}

fn find_in_passwd(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (user, _password, uid, gid) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let account = Account { name: user.into(), uid: uid.parse().ok()?, gid: gid.parse().ok()? };
        (user == name && account.uid != 0).then_some(account)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name_and_is_never_root() {
        let passwd = "root:x:0:0::/root:/bin/sh\nmy-postgres:x:7:7::/:/bin/sh\n\
                      broken\npostgres:x:101:104:,,,:/var/lib/postgresql:/bin/bash\n";
        let account = find_in_passwd(passwd, "postgres").unwrap();
        assert_eq!((account.uid, account.gid), (101, 104));
        assert_eq!(find_in_passwd(passwd, "root"), None);
        assert_eq!(find_in_passwd(passwd, "nobody"), None);
    }
}
