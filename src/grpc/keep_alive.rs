//! Whether a client that says nothing is still there.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

/// Asks a client that has made no call for a while.
pub struct KeepAlive {
    ping_pong: PingPong,
    interval: Duration,
    timeout: Duration,
    /// Runs until the next question, or until the answer is due.
    timer: Pin<Box<Sleep>>,
    is_asked: bool,
    /// A call came since the timer was set.
    is_heard: bool,
}

impl KeepAlive {
    /// Asks by `ping_pong` after each `interval` without a call, and waits for the answer as long as
    /// `timeout`.
    pub fn new(ping_pong: PingPong, interval: Duration, timeout: Duration) -> Self {
        let timer = Box::pin(sleep(interval));
        Self { ping_pong, interval, timeout, timer, is_asked: false, is_heard: false }
    }

    /// Notes that a call came.
    pub fn heard(&mut self) {
        self.is_heard = true;
    }

    /// Ends when the client has not answered in time.
    pub fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_asked && self.ping_pong.poll_pong(cx).is_ready() {
                self.wait(self.interval);
            }
            ready!(self.timer.as_mut().poll(cx));
            if self.is_asked {
                return Poll::Ready(());
            }
            if std::mem::take(&mut self.is_heard) {
                self.wait(self.interval);
            } else {
                // Fails where the connection is at its end, which then ends it.
                let _ = self.ping_pong.send_ping(Ping::opaque());
                self.wait(self.timeout);
                self.is_asked = true;
            }
        }
    }

    fn wait(&mut self, duration: Duration) {
        self.is_asked = false;
        self.timer.as_mut().reset(Instant::now() + duration);
    }
}
