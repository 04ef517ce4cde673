//! Which windows have ended, and which of those are closed for billing.

use jiff::{SignedDuration, Timestamp};

use crate::{
    jobs::job::JobContext,
    ledger::subscribers::Subscriber,
    pricing::closing::{Closing, ClosingFacts, WAIT_MAX},
};

/// The present as this run sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct BillingClock {
    /// The present of tenants without a test clock.
    now: Timestamp,
    /// The machine's own.
    real_now: Timestamp,
    /// Through when every open run's usage is in the ledger.
    oldest_mark: Option<Timestamp>,
}

impl BillingClock {
    pub(super) fn new(context: &JobContext, oldest_mark: Option<Timestamp>) -> Self {
        Self { now: context.now, real_now: context.real_now, oldest_mark }
    }

    /// Where a window that ends at `end` stands; `None` = it has not ended.
    pub(super) fn closing(&self, subscriber: &Subscriber, end: Timestamp) -> Option<Closing> {
        self.closing_after(subscriber, end, WAIT_MAX)
    }

    /// As [`BillingClock::closing`], when sidecars are waited for for `wait_max`.
    pub(super) fn closing_after(
        &self,
        subscriber: &Subscriber,
        end: Timestamp,
        wait_max: SignedDuration,
    ) -> Option<Closing> {
        let (tenant_now, ended_at, now) = match subscriber.test_clock {
            // A test clock passed the end at the latest when it was last put where it stands.
            Some(clock) => (clock.at, clock.set_at, self.real_now),
            None => (self.now, end, self.now),
        };
        if tenant_now < end {
            return None;
        }
        Some(ClosingFacts { ended_at, oldest_mark: self.oldest_mark, now }.closing_after(wait_max))
    }
}
