//! A private Postgres.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use super::{
    place::Place,
    programs,
    supervised::{Ended, Server, Supervised, command_in},
};

/// The superuser of the private cluster; only who can enter its directory can connect.
const SUPERUSER: &str = "tollgate";

/// A Postgres server of our own, on a Unix socket. Blocking calls: from async code, use a thread
/// that may block.
#[derive(Debug)]
pub struct Postgres {
    // Before `place`: the server stops before its directory goes.
    server: Option<Supervised>,
    programs: PathBuf,
    place: Place,
}

impl Postgres {
    /// Starts an empty server that forgets everything when it is dropped. It does not sync, which
    /// makes it fast; what it committed still survives its own restart.
    pub fn scratch() -> Result<Self> {
        Self::start(Place::scratch("postgres")?)
    }

    /// Starts the server that keeps its data in `dir`, making it on the first call.
    pub fn lasting(dir: &Path) -> Result<Self> {
        Self::start(Place::lasting(dir, "postgres")?)
    }

    fn start(place: Place) -> Result<Self> {
        let programs = programs::postgres_folder()?;
        let mut postgres = Self { server: None, programs, place };
        postgres.init()?;
        postgres.start_again()?;
        Ok(postgres)
    }

    fn data(&self) -> PathBuf {
        self.place.dir.join("data")
    }

    /// Makes the cluster beside its final place and moves it there, so that an interrupted attempt
    /// is never taken for a cluster.
    fn init(&self) -> Result<()> {
        if self.data().exists() {
            return Ok(());
        }
        let unfinished = self.place.dir.join("data.unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        let mut initdb = command_in(&self.place, &self.programs.join("initdb"));
        initdb.args(["--username", SUPERUSER, "--auth", "trust", "--encoding", "UTF8"]);
        initdb.args(["--locale", "C", "--no-instructions", "--pgdata"]).arg(&unfinished);
        if self.place.is_scratch {
            initdb.arg("--no-sync");
        }
        let output = initdb.output().context("running initdb")?;
        if !output.status.success() {
            bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        fs::rename(&unfinished, self.data()).context("moving the new cluster into place")
    }

    /// Starts the server again after [`Postgres::stop`] or [`Postgres::kill`], on the same socket
    /// and with the same data.
    pub fn start_again(&mut self) -> Result<()> {
        let (data, program) = (self.data(), self.programs.join("postgres"));
        let mut arguments = vec!["-D".to_owned(), data.display().to_string()];
        let sockets = format!("unix_socket_directories={}", self.place.dir.display());
        let mut settings = vec![
            sockets.as_str(),
            "unix_socket_permissions=0700",
            "listen_addresses=",
            "max_connections=200",
            "timezone=UTC",
            "log_timezone=UTC",
        ];
        if self.place.is_scratch {
            settings.extend(["fsync=off", "full_page_writes=off", "shared_buffers=64MB"]);
        }
        for setting in settings {
            arguments.extend(["-c".to_owned(), setting.to_owned()]);
        }
        // INT ends the sessions and writes a checkpoint; QUIT ends at once and leaves the rest to
        // recovery, which nobody will need for a scratch server.
        let stop_signal = if self.place.is_scratch { "QUIT" } else { "INT" };
        let server = Server { name: "postgres", program: &program, arguments, stop_signal };
        // The old server, if any, is gone before the new one reads the data.
        self.server = None;
        self.server = Some(Supervised::start(server, &self.place, |pid| is_ready(&data, pid))?);
        Ok(())
    }

    /// Stops the server; connections break. Its data stays until it is dropped.
    pub fn stop(&mut self) -> Result<()> {
        self.server.take().map_or(Ok(()), |mut server| server.stop().map(drop))
    }

    /// Ends the server as a crash would: sessions break off, and the next start recovers from its
    /// log. (SIGKILL would do the same, but leave sessions that hold on to the shared memory for a
    /// moment, and a new start in that moment fails.)
    pub fn kill(&mut self) -> Result<()> {
        self.server.take().map_or(Ok(()), |mut server| server.kill(Signal::QUIT))
    }

    /// How the server ended by itself; `None` while it runs, or when it was stopped.
    pub fn ended(&mut self) -> Option<Ended> {
        self.server.as_mut().and_then(Supervised::ended)
    }

    /// Whether the server runs.
    pub fn is_running(&mut self) -> bool {
        self.server.as_mut().is_some_and(Supervised::is_running)
    }

    /// The URL of one of its databases, as its superuser; `postgres` always exists.
    pub fn url(&self, database: &str) -> String {
        self.url_as(SUPERUSER, database)
    }

    /// The URL of one of its databases, as `user`.
    pub fn url_as(&self, user: &str, database: &str) -> String {
        let socket = percent_encode(&self.place.dir.display().to_string());
        format!("postgres://{user}@localhost/{database}?host={socket}")
    }

    /// The directory of its socket and its data.
    pub fn dir(&self) -> &Path {
        &self.place.dir
    }

    /// The process id of the server, for a look at what it left behind.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Supervised::pid)
    }
}

/// Postgres itself writes `ready` into the eighth line of its pid file once it takes connections.
fn is_ready(data: &Path, pid: Pid) -> bool {
    let Ok(text) = fs::read_to_string(data.join("postmaster.pid")) else { return false };
    let mut lines = text.lines().map(str::trim);
    lines.next() == Some(&pid.as_raw_nonzero().to_string()) && lines.nth(6) == Some("ready")
}

/// Encodes what would end a query parameter early; a slash may stay.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_server_is_found_again_with_its_data_and_leaves_nothing_running() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("postgres");
        let mut first = Postgres::lasting(&dir).unwrap();
        let identity = fs::read(first.data().join("global/pg_control")).unwrap()[..8].to_vec();
        let place = first.dir().to_owned();
        assert!(first.is_running());
        first.stop().unwrap();
        assert!(!first.data().join("postmaster.pid").exists(), "stopped in good order");
        drop(first);

        let second = Postgres::lasting(&dir).unwrap();
        assert_eq!(second.dir(), place);
        let again = fs::read(second.data().join("global/pg_control")).unwrap()[..8].to_vec();
        assert_eq!(again, identity, "the same cluster");
        drop(second);
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn a_socket_directory_with_a_space_is_encoded_in_the_url() {
        assert_eq!(percent_encode("/var/my dir&"), "/var/my%20dir%26");
    }
}
