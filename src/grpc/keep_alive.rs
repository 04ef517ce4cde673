//! Whether a client that says nothing is still there.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

/// Whether anything was read from a client since it was last asked.
#[derive(Clone, Debug, Default)]
pub struct Heard(Arc<AtomicBool>);

impl Heard {
    /// Something was read.
    #[inline]
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// Asks a client of which nothing was heard for a while. One that goes on sending is there, however
/// long its answer takes behind what it sends.
pub struct KeepAlive {
    ping_pong: PingPong,
    heard: Heard,
    interval: Duration,
    timeout: Duration,
    /// Runs until the next question, or until the answer is due.
    timer: Pin<Box<Sleep>>,
    is_asked: bool,
}

impl KeepAlive {
    /// Asks by `ping_pong` when nothing was `heard` for an `interval`, and waits for as long as
    /// `timeout` that anything is.
    pub fn new(ping_pong: PingPong, heard: Heard, interval: Duration, timeout: Duration) -> Self {
        let timer = Box::pin(sleep(interval));
        Self { ping_pong, heard, interval, timeout, timer, is_asked: false }
    }

    /// Ends when nothing is heard of a client that was asked.
    pub fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // So that the next question may be put; that something was heard is known without it.
        let _ = self.ping_pong.poll_pong(cx);
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let wait = match (self.heard.take(), self.is_asked) {
                (true, _) => {
                    self.is_asked = false;
                    self.interval
                }
                (false, true) => return Poll::Ready(()),
                (false, false) => {
                    // Fails where the connection is at its end, which then ends it.
                    let _ = self.ping_pong.send_ping(Ping::opaque());
                    self.is_asked = true;
                    self.timeout
                }
            };
            self.timer.as_mut().reset(Instant::now() + wait);
        }
    }
}
