//! From the hand-over to the journal to the acknowledgement.

use std::sync::{Arc, atomic::Ordering};

use super::{
    counter::Counter,
    engine::Engine,
    error::EngineError,
    leasing::Leasing,
    repeats::{Claim, FirstAnswer, Remembered},
};
use crate::{
    domain::usage::{Durability, UsageEvent},
    journal::{Pending, position::Position, record::Record, shared::Health},
};

/// The keys of a request on their way from claim to answer.
///
/// Once the journal has the record, the answer stands, whether or not the caller waits for it: a
/// settling that is dropped then (the caller hung up) answers its keys. Before that, or after the
/// journal has certainly refused the record, dropping it frees them.
#[derive(Debug)]
pub struct Settling {
    claims: Vec<Claim<Position>>,
    first: Option<FirstAnswer<Position>>,
    /// Of one event; a check has no more, and needs no vector for it.
    first_counted: Option<Counted>,
    /// Of the further events of a batch.
    more_counted: Vec<Counted>,
}

/// Units that a counter was told of.
#[derive(Debug)]
pub struct Counted {
    pub counter: Arc<Counter>,
    pub units: u64,
}

impl Settling {
    /// Of a request with these keys; none is fine.
    pub fn new(claims: Vec<Claim<Position>>) -> Self {
        Self { claims, first: None, first_counted: None, more_counted: vec![] }
    }

    /// The journal has the record: from now on this is the answer.
    pub fn answered(&mut self, answer: Option<Remembered>, position: Option<Position>) {
        self.first = Some(FirstAnswer { answer, position });
    }

    /// What the record stands for was counted.
    pub fn counted(&mut self, counted: impl IntoIterator<Item = Counted>) {
        let mut counted = counted.into_iter();
        self.first_counted = counted.next();
        self.more_counted.extend(counted);
    }

    /// The record is certainly not kept: the keys are free again, and its units do not count.
    fn refused(mut self, leasing: &Arc<Leasing>) {
        self.first = None;
        for Counted { counter, units } in self.first_counted.iter().chain(&self.more_counted) {
            counter.refuse(*units);
            leasing.wake_if_idle(counter);
        }
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        if let Some(first) = &self.first {
            for claim in self.claims.drain(..) {
                claim.answer(first.clone());
            }
        }
    }
}

/// An answer, and what it has to wait for before it may leave.
#[derive(Debug)]
pub struct Decided<A> {
    pub answer: A,
    /// Absent: nothing was journalled for it.
    pub owed: Option<Owed>,
}

/// A record that an answer tells of.
#[derive(Debug)]
pub struct Owed {
    pub pending: Pending,
    pub settling: Settling,
    pub events: u64,
}

impl<A> From<A> for Decided<A> {
    fn from(answer: A) -> Self {
        Self { answer, owed: None }
    }
}

impl Engine {
    /// Waits until what was decided is as durable as was asked.
    pub(super) async fn acknowledged<A>(&self, decided: Decided<A>) -> Result<A, EngineError> {
        if let Some(Owed { pending, settling, events }) = decided.owed {
            self.acknowledge(pending, settling).await?;
            self.metrics.events_recorded.increment(events);
        }
        Ok(decided.answer)
    }

    /// Hands events to the journal as one record.
    pub(super) fn hand_over(
        &self,
        events: Vec<UsageEvent>,
        durability: Durability,
    ) -> Result<Pending, EngineError> {
        let pending = self.journal.enqueue(&Record::Usage(events), durability)?;
        self.handed_over.fetch_max(pending.position().into(), Ordering::AcqRel);
        Ok(pending)
    }

    /// Waits until the record is as durable as was asked.
    pub(super) async fn acknowledge(
        &self,
        pending: Pending,
        settling: Settling,
    ) -> Result<(), EngineError> {
        match pending.await {
            Ok(_) => Ok(()),
            Err(error) => {
                if error.is_certain() {
                    settling.refused(&self.leasing);
                }
                Err(error.into())
            }
        }
    }

    /// Waits until what was journalled at `position` is as durable as a repeat asks.
    pub(super) async fn wait_durable(
        &self,
        position: Position,
        durability: Durability,
    ) -> Result<(), EngineError> {
        if durability == Durability::Memory {
            return Ok(());
        }
        let mut synced = self.journal.synced();
        let mut health = self.journal.health();
        let stopped = || EngineError::JournalStopped("the first request's fate is unknown".into());
        tokio::select! {
            biased;
            reached = synced.wait_for(|synced| *synced >= position) => {
                reached.map(drop).map_err(|_| stopped())
            }
            _ = health.wait_for(|health| *health != Health::Running) => {
                Err(stopped())
            }
        }
    }
}
