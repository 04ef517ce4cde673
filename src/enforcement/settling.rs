//! The keys of a request, from the claim over the hand-over to the journal to their answer.

use std::sync::{Arc, atomic::Ordering};

use super::{
    counter::Counter,
    engine::Engine,
    error::EngineError,
    leasing::Leasing,
    repeats::{Begun, Claim, Content, FirstAnswer, Patience, Remembered, StillInHand, Verb},
};
use crate::{
    domain::{
        ids::{IdempotencyKey, TenantId},
        usage::Durability,
    },
    journal::{Pending, position::RecordPlace, record::RecordRef, shared::Health},
};

/// The keys of a request on their way from claim to answer.
///
/// A settling that is dropped before the journal has the record, or after the journal has certainly
/// refused it, frees its keys; otherwise it answers them. See [`super::owed::Owed`] for who holds it
/// until the record's fate is known.
#[derive(Debug)]
pub struct Settling {
    claim: Option<Claim<RecordPlace>>,
    /// Of its own: only requests with keys have one, and it is large.
    first: Option<Box<FirstAnswer<RecordPlace>>>,
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
    /// Of a request with this claim on its keys, if it has any.
    pub fn new(claim: Option<Claim<RecordPlace>>) -> Self {
        Self { claim, first: None, first_counted: None, more_counted: vec![] }
    }

    /// The journal has the record: from now on this is the answer, if there are keys to give it to.
    pub fn answered(
        &mut self,
        answer: impl FnOnce() -> Option<Remembered>,
        place: Option<RecordPlace>,
    ) {
        if self.claim.is_some() {
            self.first = Some(Box::new(FirstAnswer { answer: answer(), place }));
        }
    }

    /// The record is as durable as was asked, and this is known of its place.
    pub fn kept(mut self, place: RecordPlace) {
        if let Some(first) = &mut self.first {
            first.place = Some(place);
        }
    }

    /// What the record stands for was counted.
    pub fn counted(&mut self, counted: impl IntoIterator<Item = Counted>) {
        let mut counted = counted.into_iter();
        self.first_counted = counted.next();
        self.more_counted.extend(counted);
    }

    /// The record is certainly not kept: the keys are free again, and its units do not count.
    pub fn refused(mut self, leasing: &Arc<Leasing>) {
        self.first = None;
        for Counted { counter, units } in self.first_counted.iter().chain(&self.more_counted) {
            counter.refuse(*units);
            leasing.wake_if_idle(counter);
        }
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        if let (Some(claim), Some(first)) = (self.claim.take(), self.first.take()) {
            claim.answer(*first);
        }
    }
}

impl Engine {
    /// Claims a key, or says what became of it, as [`super::repeats::Repeats::begin`] does. What
    /// was answered first and may be lost since is forgotten: the ledger finds it if it is not.
    pub(super) async fn claim(
        &self,
        (tenant, key): (&TenantId, &IdempotencyKey),
        verb: Verb,
        content: &Content,
        patience: &mut Patience,
    ) -> Result<Begun<RecordPlace>, StillInHand> {
        loop {
            let begun = self.repeats.begin(tenant, verb, key, content, patience).await?;
            let rewinds = match &begun {
                Begun::Repeat(FirstAnswer { place: Some(place), .. })
                    if self.may_be_lost(*place) =>
                {
                    *self.journal.rewinds().borrow()
                }
                _ => return Ok(begun),
            };
            self.repeats.forget(tenant, verb, key, |place| place.may_be_lost(rewinds));
        }
    }

    /// Hands events to the journal as one record.
    pub(super) fn hand_over(
        &self,
        events: RecordRef<'_>,
        durability: Durability,
    ) -> Result<Pending, EngineError> {
        let pending = self.journal.enqueue(events, durability)?;
        self.handed_over.own().fetch_max(pending.position().into(), Ordering::AcqRel);
        Ok(pending)
    }

    fn may_be_lost(&self, place: RecordPlace) -> bool {
        place.rewinds.is_some() && place.may_be_lost(*self.journal.rewinds().borrow())
    }

    /// Waits until what was journalled at `place` is as durable as a repeat asks.
    pub(super) async fn wait_durable(
        &self,
        place: RecordPlace,
        durability: Durability,
    ) -> Result<(), EngineError> {
        if durability == Durability::Memory {
            return Ok(());
        }
        let mut synced = self.journal.synced();
        let mut health = self.journal.health();
        let mut rewinds = self.journal.rewinds();
        let stopped = || EngineError::JournalStopped("the first request's fate is unknown".into());
        tokio::select! {
            biased;
            reached = synced.wait_for(|synced| *synced >= place.position) => {
                reached.map(drop).map_err(|_| stopped())?;
            }
            _ = health.wait_for(|health| *health != Health::Running) => return Err(stopped()),
            _ = rewinds.wait_for(|rewinds| place.may_be_lost(*rewinds)) => {}
        }
        // Also what is synced may be another record, which was given the place since.
        match self.may_be_lost(place) {
            false => Ok(()),
            true => Err(EngineError::Unavailable(
                "the disk had no room for the first request with this idempotency key; send it \
                 again with that key"
                    .into(),
            )),
        }
    }
}
