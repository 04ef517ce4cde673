//! A private Redis.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use rustix::process::Signal;

use super::{
    place::Place,
    programs,
    supervised::{Ended, Server, Supervised},
};

/// How long the server may take to answer one PING.
const PING_WAIT_MAX: Duration = Duration::from_secs(1);

/// A Redis server of our own, on a Unix socket. Blocking calls: from async code, use a thread that
/// may block.
#[derive(Debug)]
pub struct Redis {
    // Before `place`: the server stops before its directory goes.
    server: Option<Supervised>,
    program: PathBuf,
    place: Place,
}

impl Redis {
    /// Starts an empty server that keeps nothing on disk: whenever it starts again it is empty.
    pub fn scratch() -> Result<Self> {
        Self::start(Place::scratch("redis")?)
    }

    /// Starts the server that keeps its data in `dir`, in an append-only file.
    pub fn lasting(dir: &Path) -> Result<Self> {
        Self::start(Place::lasting(dir, "redis")?)
    }

    fn start(place: Place) -> Result<Self> {
        let mut redis = Self { server: None, program: programs::redis_server()?, place };
        redis.start_again()?;
        Ok(redis)
    }

    fn socket(&self) -> PathBuf {
        self.place.dir.join("redis.sock")
    }

    /// Starts the server again after [`Redis::stop`] or [`Redis::kill`], on the same socket.
    pub fn start_again(&mut self) -> Result<()> {
        let socket = self.socket();
        let appends = if self.place.is_scratch { "no" } else { "yes" };
        let (socket_text, dir) = (socket.display().to_string(), self.place.dir.display());
        let settings = [
            ("--port", "0"),
            ("--unixsocket", &socket_text),
            ("--unixsocketperm", "700"),
            ("--dir", &dir.to_string()),
            ("--save", ""),
            ("--appendonly", appends),
            // Counters may never be evicted.
            ("--maxmemory-policy", "noeviction"),
        ];
        let arguments =
            settings.iter().flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()]);
        let server = Server {
            name: "redis",
            program: &self.program,
            arguments: arguments.collect(),
            stop_signal: "TERM",
        };
        self.server = None;
        let is_ready = |_| answers(&socket).unwrap_or(false);
        self.server = Some(Supervised::start(server, &self.place, is_ready)?);
        Ok(())
    }

    /// Stops the server; connections break.
    pub fn stop(&mut self) -> Result<()> {
        self.server.take().map_or(Ok(()), |mut server| server.stop().map(drop))
    }

    /// Kills the server as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        self.server.take().map_or(Ok(()), |mut server| server.kill(Signal::KILL))
    }

    /// How the server ended by itself; `None` while it runs, or when it was stopped.
    pub fn ended(&mut self) -> Option<Ended> {
        self.server.as_mut().and_then(Supervised::ended)
    }

    /// Whether the server runs.
    pub fn is_running(&mut self) -> bool {
        self.server.as_mut().is_some_and(Supervised::is_running)
    }

    /// The URL to connect to.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
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

fn answers(socket: &Path) -> std::io::Result<bool> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PING_WAIT_MAX))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    // While it still loads its data, it says -LOADING.
    Ok(&answer == b"+PONG\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(redis: &Redis, command: &str) -> String {
        let mut stream = UnixStream::connect(redis.socket()).unwrap();
        stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut answer = [0; 256];
        let length = stream.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    #[test]
    fn a_scratch_server_comes_back_empty_on_the_same_socket() {
        let mut redis = Redis::scratch().unwrap();
        assert_eq!(ask(&redis, "SET key value"), "+OK\r\n");
        redis.stop().unwrap();
        assert!(!redis.is_running());
        redis.start_again().unwrap();
        assert_eq!(ask(&redis, "GET key"), "$-1\r\n");
        redis.kill().unwrap();
        redis.start_again().unwrap();
        assert!(redis.is_running());
    }

    #[test]
    fn a_lasting_server_finds_its_data_again() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("redis");
        let first = Redis::lasting(&dir).unwrap();
        let place = first.dir().to_owned();
        assert_eq!(ask(&first, "SET key value"), "+OK\r\n");
        drop(first);
        let second = Redis::lasting(&dir).unwrap();
        assert_eq!(ask(&second, "GET key"), "$5\r\nvalue\r\n");
        drop(second);
        std::fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn a_dropped_server_leaves_neither_process_nor_directory() {
        let redis = Redis::scratch().unwrap();
        let (pid, dir) = (redis.pid().unwrap(), redis.dir().to_owned());
        drop(redis);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert!(!dir.exists());
    }
}
