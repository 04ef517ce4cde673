//! The signals that end a process.

use std::{io, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals this close to each other are one: what runs a process may pass on a Ctrl-C that the
/// terminal has sent to all.
const TOGETHER: Duration = Duration::from_secs(1);

/// SIGTERM and SIGINT, caught from the moment this exists. The first asks for an orderly stop, a
/// second one for the end at once.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Catches the signals from now on.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal and names it.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Carries out an orderly stop, which the next signal cuts off, except one that comes together
    /// with the signal before.
    pub async fn unless_again<T>(&mut self, stop: impl Future<Output = T>) -> Result<T, CutOff> {
        let together = tokio::time::sleep(TOGETHER);
        tokio::pin!(stop, together);
        loop {
            tokio::select! {
                stopped = &mut stop => return Ok(stopped),
                signal = self.next() => {
                    if together.is_elapsed() {
                        return Err(CutOff { signal });
                    }
                }
                // Its end has to be waited for to be seen.
                () = &mut together, if !together.is_elapsed() => {}
            }
        }
    }
}

/// A second signal has ended an orderly stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cut off by a second {signal}; what was not finished is left to the next start")]
pub struct CutOff {
    pub signal: &'static str,
}
