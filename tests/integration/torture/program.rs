//! A process of ours that is killed, stopped, and started again with the same directory.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::fixture::{Process, Processes};

/// How long a program may take to stop in good order, whatever is away.
const STOP_WAIT_MAX: Duration = Duration::from_secs(60);

/// One program. Blocking calls, each for a moment, but for [`Program::stop`].
pub struct Program {
    pub name: String,
    pub log: PathBuf,
    command: Box<dyn Fn() -> Command + Send + Sync>,
    /// Guards who starts and ends it; held while that takes.
    running: Mutex<Option<Process>>,
}

impl Program {
    /// Not running yet.
    pub fn new(
        name: String,
        log: PathBuf,
        command: impl Fn() -> Command + Send + Sync + 'static,
    ) -> Self {
        Self { name, log, command: Box::new(command), running: Mutex::default() }
    }

    /// Starts it, unless it runs.
    pub fn start(&self, processes: &Processes) {
        let mut running = self.running.lock().unwrap();
        if running.is_none() {
            let options = || std::fs::OpenOptions::new().create(true).append(true).open(&self.log);
            let mut command = (self.command)();
            command.stdout(Stdio::from(options().unwrap()));
            command.stderr(Stdio::from(options().unwrap()));
            *running = Some(processes.start(&mut command));
        }
    }

    /// As `kill -9` does.
    pub fn kill(&self) {
        if let Some(process) = self.running.lock().unwrap().take() {
            process.kill();
        }
    }

    /// It stands still until [`Program::resume`].
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends it a signal, if it runs.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &*self.running.lock().unwrap() {
            process.signal(signal);
        }
    }

    /// Asks it to stop in good order and waits until it has.
    pub fn stop(&self) -> Result<(), String> {
        let Some(mut process) = self.running.lock().unwrap().take() else { return Ok(()) };
        process.signal(Signal::TERM);
        let asked = Instant::now();
        loop {
            match process.child.try_wait().unwrap() {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("{} stopped with {status}", self.name)),
                None if asked.elapsed() > STOP_WAIT_MAX => {
                    process.kill();
                    return Err(format!("{} did not stop within {STOP_WAIT_MAX:?}", self.name));
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// How it ended though nobody made it; it counts as not running then.
    pub fn ended_by_itself(&self) -> Option<String> {
        let mut running = self.running.lock().unwrap();
        let status = running.as_mut()?.child.try_wait().unwrap()?;
        *running = None;
        Some(format!("{} ended by itself with {status}", self.name))
    }

    /// What it has logged, over all its starts.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}
