//! A record on its way.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use super::{
    error::AppendError,
    pen::Pen,
    position::{Position, RecordPlace},
};
use crate::lanes::Share;

/// A record on its way: resolves once it has reached the level that was asked for.
#[must_use = "an acknowledgement may only leave once this has resolved"]
pub struct Pending {
    pub(super) place: RecordPlace,
    pub(super) waits: Option<Waits>,
}

/// What is waited for.
pub(super) struct Waits {
    pub pen: Share<Pen>,
    pub outcome: oneshot::Receiver<Result<Position, AppendError>>,
    pub has_yielded: bool,
}

impl Pending {
    /// Whether it has resolved already: well, since what is refused at once is not on its way.
    pub fn is_resolved(&self) -> bool {
        self.waits.is_none()
    }

    /// Where the record is, or will be: known at once, durable only when the future has resolved.
    pub fn position(&self) -> Position {
        self.place.position
    }

    /// The same, and whether it is final: it is once the future has resolved well, except for a
    /// record that is acknowledged from memory.
    pub fn place(&self) -> RecordPlace {
        self.place
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Future for Pending {
    type Output = Result<Position, AppendError>;

    /// Lets others queue their records first; then writes them all, unless somebody else has.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(waits) = &mut self.waits else { return Poll::Ready(Ok(self.place.position)) };
        if !waits.has_yielded {
            waits.has_yielded = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if waits.outcome.is_empty() {
            waits.pen.help();
        }
        Pin::new(&mut waits.outcome).poll(context).map(|answer| {
            let gone = || AppendError::Uncertain { reason: "the writer is gone".into() };
            let position = answer.unwrap_or_else(|_| Err(gone()))?;
            // Whoever is waited for is told after the write.
            self.place.rewinds = None;
            Ok(position)
        })
    }
}
