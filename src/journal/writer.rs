//! The journal's thread: syncs, begins segments, and writes what no serving thread has written.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    error::AppendError,
    fatal::Fatal,
    intake::Waiter,
    metrics::Outcome,
    pen::{Pen, ToSync},
    shared::Health,
};
use crate::domain::usage::Durability;

/// The state of the thread.
pub struct Writer {
    pen: Arc<Pen>,
    sync_delay_max: Duration,
    /// When what was queued or written has to be on disk.
    deadline: Option<Instant>,
    /// Those whom the sync under way covers.
    waiters: Vec<Waiter>,
    /// The directory's lock, held as long as something may be written.
    _lock: Arc<dyn Any + Send + Sync>,
}

impl Writer {
    /// A thread for a run that has written nothing yet.
    pub fn new(pen: Arc<Pen>, sync_delay_max: Duration, lock: Arc<dyn Any + Send + Sync>) -> Self {
        Self { pen, sync_delay_max, deadline: None, waiters: vec![], _lock: lock }
    }

    /// Works until the intake is closed or an error ends it.
    pub fn run(mut self) {
        // A panic must not leave callers waiting for a thread that is gone.
        let health = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.work())) {
            Ok(Ok(())) => Health::Closed,
            Ok(Err(Fatal(reason))) => Health::Failed { reason },
            Err(_) => Health::Failed { reason: "the journal's writer panicked".into() },
        };
        if let Health::Failed { reason } = &health {
            tracing::error!(run = %self.pen.shared().run, %reason, "the journal has stopped for good");
            self.abandon(reason);
        }
        self.pen.shared().health.send_replace(health);
    }

    fn work(&mut self) -> Result<(), Fatal> {
        loop {
            self.pen.shared().bell.wait(self.deadline);
            // Asked before what waits is taken: a closed intake gets nothing more.
            let is_closed = self.pen.shared().intake.is_closed();
            self.pen.write_all()?;
            let is_overdue = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
            // Whoever waits for a sync gets one now; the others' comes when the delay is over. Who
            // comes to wait meanwhile rings.
            if is_overdue || is_closed || self.pen.has_waiters() {
                self.sync()?;
            }
            let depth = self.pen.shared().intake.depth();
            self.pen.shared().metrics.depth(depth, self.pen.shared().disk.used_bytes());
            if is_closed {
                return self.pen.close();
            }
            if is_overdue || self.deadline.is_none() {
                self.set_deadline();
            }
        }
    }

    /// Says until when the thread may sleep: the longest delay from now on, if anything is not
    /// synced that was queued, or until it is rung for.
    fn set_deadline(&mut self) {
        // First this, then the look: who queues in between rings.
        self.pen.shared().bell.hush();
        let is_synced = self.pen.shared().intake.tail() == self.pen.shared().synced();
        self.deadline = (!is_synced).then(|| Instant::now() + self.sync_delay_max);
        if self.deadline.is_some() {
            // Nobody has to ring for what the deadline covers.
            self.pen.shared().bell.soon();
        }
    }

    fn sync(&mut self) -> Result<(), Fatal> {
        let ToSync { file, written, mut waiters } = self.pen.to_sync()?;
        // Should the sync fail, they are told with the others.
        self.waiters.append(&mut waiters);
        if let Some(file) = &file {
            self.pen.shared().sync(&**file, written)?;
        }
        self.pen.shared().metrics.appended(
            Durability::Sync,
            Outcome::Kept,
            self.waiters.len() as u64,
        );
        for waiter in self.waiters.drain(..) {
            // A caller that went away needs no answer; its record is kept all the same.
            let _ = waiter.done.send(Ok(waiter.end));
        }
        Ok(())
    }

    /// Tells everybody who still waits.
    fn abandon(&mut self, reason: &Arc<str>) {
        self.waiters.append(&mut self.pen.abandon(reason));
        for waiter in self.waiters.drain(..) {
            self.pen.shared().metrics.appended(waiter.level, Outcome::Uncertain, 1);
            let _ = waiter.done.send(Err(AppendError::Uncertain { reason: reason.clone() }));
        }
    }
}
