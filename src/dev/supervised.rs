//! A server process that ends with its owner.
//!
//! A small shell stands between owner and server and reads from a pipe that only the owner holds
//! open. When the owner stops the server, panics, exits or is killed, the pipe ends and the shell
//! stops the server. A parent-death signal would do less: it follows the *thread* that started the
//! child, and setting it needs unsafe code.

use std::{
    fmt, fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::place::Place;

const SCRIPT: &str = include_str!("supervise.sh");
/// How long a server may take until it answers; recovery after a crash is part of it.
const READY_WAIT_MAX: Duration = Duration::from_secs(60);
const READY_POLL: Duration = Duration::from_millis(5);
/// How much of a log is quoted when a server does not come up.
const LOG_LINES_QUOTED: usize = 12;

/// What a process is given of our environment, besides PATH: how it logs.
const PASSED_ON: [&str; 3] = ["RUST_BACKTRACE", "TOLLGATE_LOG_FILTER", "TOLLGATE_LOG_FORMAT"];

/// What to run, and how it is told to stop.
pub(super) struct Server<'a> {
    pub(super) name: &'static str,
    pub(super) program: &'a Path,
    pub(super) arguments: Vec<String>,
    /// The name of the signal that stops it in good order (`TERM`).
    pub(super) stop_signal: &'static str,
}

/// How a server ended that nobody had asked to, and the last that it logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub name: &'static str,
    /// As in "killed by signal 9".
    pub how: String,
    pub log: PathBuf,
    pub last_of_log: String,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, how, log, last_of_log } = self;
        write!(
            f,
            "{name} has ended by itself ({how}); the end of {}:\n{last_of_log}",
            log.display()
        )
    }
}

#[derive(Debug)]
pub(super) struct Supervised {
    name: &'static str,
    shell: Child,
    pid: Pid,
    log: PathBuf,
}

impl Supervised {
    /// Starts `server` in `place` and waits until `is_ready` says so (it is given the server's
    /// process id).
    pub(super) fn start(
        server: Server<'_>,
        place: &Place,
        is_ready: impl Fn(Pid) -> bool,
    ) -> Result<Self> {
        let log = place.dir.join(format!("{}.log", server.name));
        let mut command = command_in(place, Path::new("sh"));
        command.args(["-c", SCRIPT, "tollgate-supervise", server.stop_signal]).arg(&log);
        command.arg(if place.is_scratch { place.dir.as_path() } else { Path::new("") });
        command.arg(server.program).args(&server.arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // A group of its own: Ctrl-C in a terminal reaches the owner, who then stops its servers
        // in order.
        command.process_group(0);
        let mut shell = command.spawn().context("starting `sh`")?;
        let pid = read_pid(&mut shell)
            .with_context(|| format!("starting {}", server.program.display()))?;
        let mut supervised = Self { name: server.name, shell, pid, log };
        supervised.wait_until(|| is_ready(pid))?;
        Ok(supervised)
    }

    fn wait_until(&mut self, is_ready: impl Fn() -> bool) -> Result<()> {
        let started = Instant::now();
        while !is_ready() {
            if let Some(status) = self.shell.try_wait()? {
                let how = in_words(status);
                bail!("{} ended at once ({how}):\n{}", self.name, self.last_of_log());
            }
            if started.elapsed() > READY_WAIT_MAX {
                bail!("{} does not answer after {READY_WAIT_MAX:?}:\n{}", self.name, {
                    self.last_of_log()
                });
            }
            thread::sleep(READY_POLL);
        }
        Ok(())
    }

    /// The last lines of what it logged.
    fn last_of_log(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_QUOTED)..].join("\n")
    }

    /// The server's process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Stops the server in good order and waits for its end.
    pub(super) fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(mut pipe) = self.shell.stdin.take() {
            // A shell that is gone already has seen its server end.
            let _ = pipe.write_all(b"stop\n");
        }
        self.shell.wait().with_context(|| format!("waiting for {} to stop", self.name))
    }

    /// Ends the server with `signal`, in no good order, and waits for its end.
    pub(super) fn kill(&mut self, signal: Signal) -> Result<()> {
        if self.shell.try_wait()?.is_none() {
            kill_process(self.pid, signal).with_context(|| format!("killing {}", self.name))?;
        }
        self.stop().map(drop)
    }

    /// Whether the server still runs.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.shell.try_wait(), Ok(None))
    }

    /// How it ended; `None` while it runs.
    pub(super) fn ended(&mut self) -> Option<Ended> {
        let how = match self.shell.try_wait() {
            Ok(None) => return None,
            Ok(Some(status)) => in_words(status),
            Err(error) => format!("it cannot be waited for: {error}"),
        };
        let (log, last_of_log) = (self.log.clone(), self.last_of_log());
        Some(Ended { name: self.name, how, log, last_of_log })
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // The shell has what it needs to end the server even if we cannot wait for it.
        let _ = self.stop();
    }
}

/// A command that runs as the place's account, in its directory, in a plain environment.
pub(super) fn command_in(place: &Place, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(&place.dir).env_clear();
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    command.env("PATH", path).env("LC_ALL", "C").env("TZ", "UTC");
    for name in PASSED_ON {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    if let Some(account) = &place.account {
        account.apply(&mut command);
    }
    command
}

/// The shell hands on how its server ended: with 128 and the signal's number for a signal.
fn in_words(status: ExitStatus) -> String {
    match status.code() {
        Some(code) if code > 128 => format!("killed by signal {}", code - 128),
        _ => status.to_string(),
    }
}

fn read_pid(shell: &mut Child) -> Result<Pid> {
    let output = shell.stdout.take().context("the shell has no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let raw: i32 = line.trim().parse().context("the shell named no process")?;
    Pid::from_raw(raw).context("the shell named no process")
}

#[cfg(test)]
mod tests {
    use rustix::process::test_kill_process;

    use super::*;

    fn sleeper(place: &Place) -> Supervised {
        let program = Path::new("sleep");
        let arguments = vec!["1000".to_owned()];
        let server = Server { name: "sleep", program, arguments, stop_signal: "TERM" };
        Supervised::start(server, place, |_| true).unwrap()
    }

    fn wait_for(what: &str, condition: impl Fn() -> bool) {
        let started = Instant::now();
        while !condition() {
            assert!(started.elapsed() < Duration::from_secs(20), "{what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_server_ends_when_it_is_stopped() {
        let place = Place::scratch("sleep").unwrap();
        let mut server = sleeper(&place);
        let pid = server.pid;
        assert!(server.is_running());
        server.stop().unwrap();
        assert!(!server.is_running());
        assert!(test_kill_process(pid).is_err());
        assert!(place.dir.exists(), "an orderly stop leaves the directory to its owner");
    }

    #[test]
    fn a_server_that_is_killed_says_how_it_ended() {
        let place = Place::scratch("sleep").unwrap();
        let mut server = sleeper(&place);
        assert_eq!(server.ended(), None);
        fs::write(&server.log, "the last words").unwrap();
        kill_process(server.pid, Signal::KILL).unwrap();
        let started = Instant::now();
        let ended = loop {
            assert!(started.elapsed() < Duration::from_secs(20));
            if let Some(ended) = server.ended() {
                break ended.to_string();
            }
            thread::sleep(Duration::from_millis(5));
        };
        assert!(ended.starts_with("sleep has ended by itself (killed by signal 9)"), "{ended}");
        assert!(ended.ends_with("sleep.log:\nthe last words"), "{ended}");
    }

    #[test]
    fn a_server_and_its_scratch_directory_go_when_the_owner_is_gone() {
        let place = Place::scratch("sleep").unwrap();
        let mut server = sleeper(&place);
        let pid = server.pid;
        // What the kernel does to the pipe of a process that dies.
        drop(server.shell.stdin.take());
        wait_for("the server ends", || test_kill_process(pid).is_err());
        wait_for("the directory goes", || !place.dir.exists());
    }

    #[test]
    fn a_server_that_cannot_start_says_what_its_log_says() {
        let place = Place::scratch("sleep").unwrap();
        let program = Path::new("sleep");
        let arguments = vec!["nonsense".to_owned()];
        let server = Server { name: "sleep", program, arguments, stop_signal: "TERM" };
        let error = Supervised::start(server, &place, |_| false).unwrap_err();
        assert!(error.to_string().contains("nonsense"), "{error}");
    }
}
