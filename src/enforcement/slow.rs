//! The slow side of a counter: what it takes to get units, and to tell what became of them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::waiters::Waiters;
use crate::leases::{
    denials::Denied, holder::Holder, kept_ceiling::KeptCeiling, kept_holder::KeptHolder,
    message::Ceiling, seen::Seen,
};

/// The slow side: the holder and those who wait.
#[derive(Debug)]
pub struct Slow {
    pub holder: Holder,
    pub ceiling: KeptCeiling,
    pub waiters: Waiters,
    /// What was last seen of the key, if it is a pool's.
    pub seen: Option<Box<Seen>>,
    /// The journal knows that this run touches the key.
    pub(super) is_opened: bool,
    /// How far the counter had journalled when it was last asked to part, all of it in the ledger.
    pub(super) parted_at: Option<u64>,
    /// Units of what is undone of which the ledger knows nothing.
    pub(super) refused: u64,
    /// The last denial, unless it was found to be over.
    pub(super) denied: Option<Denied>,
    /// Absent while nobody waits for either.
    bells: Option<Box<Bells>>,
}

/// What is told to those who wait, but not for units.
#[derive(Debug, Default)]
pub(super) struct Bells {
    /// Told after the next answer or failure of a call.
    pub called: Option<Arc<Notify>>,
    /// Wakes the driver before its time. Made when it first sleeps.
    pub wake: Option<Arc<Notify>>,
}

/// All that there is of a slow side while nothing goes on: what is mostly nothing comes last.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Resting {
    ceiling: KeptCeiling,
    is_opened: bool,
    holder: KeptHolder,
    parted_at: Option<u64>,
    refused: u64,
    seen: Option<Seen>,
}

impl Slow {
    /// One of which nothing is known but what is given.
    pub fn new(holder: Holder, ceiling: Ceiling) -> Self {
        Self {
            holder,
            ceiling: ceiling.into(),
            waiters: Waiters::default(),
            seen: None,
            is_opened: false,
            parted_at: None,
            refused: 0,
            denied: None,
            bells: None,
        }
    }

    /// All that there is of it but what was denied, unless something goes on.
    pub(super) fn at_rest(&self) -> Option<Resting> {
        let is_awaited = !self.waiters.is_empty() || self.bells.is_some();
        let holder = self.holder.at_rest(self.ceiling).filter(|_| !is_awaited)?;
        let Self { ceiling, is_opened, parted_at, refused, .. } = *self;
        let seen = self.seen.as_deref().copied();
        Some(Resting { ceiling, is_opened, holder, parted_at, refused, seen })
    }

    /// One that goes on from where it came to rest.
    pub(super) fn from_rest(resting: Resting) -> Self {
        let Resting { ceiling, is_opened, holder, parted_at, refused, seen } = resting;
        Self {
            holder: Holder::of(holder),
            ceiling,
            waiters: Waiters::default(),
            seen: seen.map(Box::new),
            is_opened,
            parted_at,
            refused,
            denied: None,
            bells: None,
        }
    }

    /// The bells, to be hung up.
    pub(super) fn bells(&mut self) -> &mut Bells {
        self.bells.get_or_insert_default()
    }

    /// The driver's bell, if it sleeps.
    pub(super) fn wake_bell(&self) -> Option<Arc<Notify>> {
        self.bells.as_ref()?.wake.clone()
    }

    /// Takes one of the bells away, and all room with the last.
    pub(super) fn take_bell(
        &mut self,
        take: impl FnOnce(&mut Bells) -> Option<Arc<Notify>>,
    ) -> Option<Arc<Notify>> {
        let bells = self.bells.as_mut()?;
        let taken = take(bells);
        if bells.called.is_none() && bells.wake.is_none() {
            self.bells = None;
        }
        taken
    }
}

#[cfg(test)]
impl Resting {
    /// One whose numbers are all as long as they can be.
    pub fn longest() -> Self {
        let ceiling = Ceiling { units: Some(u64::MAX - 2), version: u64::MAX };
        Self {
            ceiling: ceiling.into(),
            is_opened: true,
            holder: KeptHolder::longest(),
            parted_at: Some(u64::MAX),
            refused: u64::MAX,
            seen: Some(Seen { ceiling, taken: u64::MAX }),
        }
    }
}
