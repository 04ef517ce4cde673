//! From the hand-over to the journal to the acknowledgement.

use std::{ops::Deref, sync::Arc};

use futures::FutureExt;
use tokio::runtime::Handle;

use super::{engine::Engine, error::EngineError, leasing::Leasing, settling::Settling};
use crate::journal::{Pending, error::AppendError};

/// An answer, and what it has to wait for before it may leave.
pub struct Decided<'e, A> {
    pub answer: A,
    /// Absent: nothing was journalled for it.
    pub owed: Option<Owed<&'e Engine>>,
}

impl<A> From<A> for Decided<'_, A> {
    fn from(answer: A) -> Self {
        Self { answer, owed: None }
    }
}

/// A record that an answer tells of.
///
/// What the record took stands, or is given back, by what becomes of it, whether or not the caller
/// waits for that: dropped before it is known (the caller hung up), a task goes on waiting. There
/// are never more of these tasks than records that the journal has not written or synced, which are
/// bounded.
pub struct Owed<E: Deref<Target = Engine>> {
    /// Absent once the record's fate is known.
    open: Option<Open>,
    /// Borrowed where it can be: every core would count the holders of what all requests share in
    /// one place.
    pub engine: E,
    pub events: u64,
}

/// A record whose fate is not known yet.
struct Open {
    pending: Pending,
    settling: Settling,
}

impl Open {
    /// Draws the consequences.
    fn end(
        self,
        leasing: &Arc<Leasing>,
        outcome: Result<(), AppendError>,
    ) -> Result<(), EngineError> {
        match &outcome {
            Ok(()) => self.settling.kept(self.pending.place()),
            Err(error) if error.is_certain() => self.settling.refused(leasing),
            // It may be on disk: the keys are answered, and repeats wait for what never comes.
            Err(_) => {}
        }
        outcome.map_err(EngineError::from)
    }

    async fn wait(mut self, leasing: Arc<Leasing>) -> Result<(), EngineError> {
        let outcome = (&mut self.pending).await.map(drop);
        self.end(&leasing, outcome)
    }
}

impl<E: Deref<Target = Engine>> Owed<E> {
    /// `settling` waits for `pending`, which holds so many events.
    pub fn new(engine: E, pending: Pending, settling: Settling, events: u64) -> Self {
        Self { open: Some(Open { pending, settling }), engine, events }
    }

    /// Waits until the record is as durable as was asked.
    pub async fn acknowledged(&mut self) -> Result<(), EngineError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let outcome = (&mut open.pending).await.map(drop);
        self.open.take().map_or(Ok(()), |open| open.end(&self.engine.leasing, outcome))
    }
}

impl<E: Deref<Target = Engine>> Drop for Owed<E> {
    fn drop(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        if let Some(outcome) = (&mut open.pending).now_or_never() {
            // Nobody is there to be told.
            let _ = open.end(&self.engine.leasing, outcome.map(drop));
        } else if Handle::try_current().is_ok() {
            let leasing = &self.engine.leasing;
            leasing.tasks.spawn(open.wait(leasing.clone()));
        }
        // Without a runtime, or when it ends, so does this run; its keys are answered as far as it
        // is known.
    }
}

impl Engine {
    /// Waits until what was decided is as durable as was asked.
    pub(super) async fn acknowledged<A>(&self, decided: Decided<'_, A>) -> Result<A, EngineError> {
        if let Some(mut owed) = decided.owed {
            let events = owed.events;
            owed.acknowledged().await?;
            self.metrics.events_recorded.increment(events);
        }
        Ok(decided.answer)
    }
}
