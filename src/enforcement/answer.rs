//! Figures of an answer, from what this sidecar knows now.

use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::counter::Counter;
use crate::domain::{
    bounds::Bounds,
    catalog::compiled_plan::PlanMeter,
    quota::{DecidedBy, QuotaAnswer, QuotaReason},
};

/// What was decided.
#[derive(Clone, Copy, Debug)]
pub struct Decision {
    pub reason: QuotaReason,
    pub decided_by: DecidedBy,
}

impl Decision {
    #[inline]
    fn is_allowed(self) -> bool {
        match self.reason {
            QuotaReason::WithinLimit
            | QuotaReason::Unlimited
            | QuotaReason::Overage
            | QuotaReason::WithinGrant
            | QuotaReason::AllowedByOutagePolicy => true,
            QuotaReason::LimitExceeded
            | QuotaReason::DeniedByOutagePolicy
            | QuotaReason::NotInPlan
            | QuotaReason::SubscriptionInactive
            | QuotaReason::TooManySubjects => false,
        }
    }
}

/// Units used in a window, and what else lies against its ceiling.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub used: u64,
    /// Held by reservations of this sidecar, or forfeited.
    pub blocked: u64,
}

impl Figures {
    /// Of a summed counter.
    #[inline]
    pub fn of(counter: &Counter) -> Self {
        Self {
            used: u64::try_from(counter.cell.used()).unwrap_or(0),
            blocked: counter.reserved.load(Ordering::Relaxed) + counter.cell.forfeited(),
        }
    }
}

/// Units left before the first denial; `None` = no denial ever.
#[inline]
pub fn remaining(meter: &PlanMeter, figures: Figures) -> Option<u64> {
    let ceiling = meter.limit.ceiling()?;
    Some(ceiling.saturating_sub(figures.used).saturating_sub(figures.blocked))
}

/// Units of `used` beyond the limit.
#[inline]
pub fn overage(meter: &PlanMeter, used: u64) -> u64 {
    meter.limit.amount.map_or(0, |limit| used.saturating_sub(limit))
}

/// Why usage of `used` is allowed.
#[inline]
pub fn reason_allowed(meter: &PlanMeter, used: u64) -> QuotaReason {
    match meter.limit.amount {
        None => QuotaReason::Unlimited,
        Some(limit) if used <= limit => QuotaReason::WithinLimit,
        Some(_) => QuotaReason::Overage,
    }
}

/// What an answer shows of a counter. Unlike the answer itself it is small enough to be handed
/// around: moving an answer that was just put together takes longer than deciding it.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    limit: Option<u64>,
    used: u64,
    remaining: Option<u64>,
    overage: u64,
    resets_at: Option<Timestamp>,
}

impl Shown {
    /// Of a counter of `meter` with these figures.
    #[inline]
    pub fn of(meter: &PlanMeter, window: Option<&Bounds>, figures: Figures) -> Self {
        Self {
            limit: meter.limit.amount,
            used: figures.used,
            remaining: remaining(meter, figures),
            overage: overage(meter, figures.used),
            resets_at: window.and_then(Bounds::end),
        }
    }

    /// The answer that shows it, without a reservation.
    #[inline]
    pub fn answer(self, decision: Decision) -> QuotaAnswer {
        let Self { limit, used, remaining, overage, resets_at } = self;
        QuotaAnswer {
            allowed: decision.is_allowed(),
            reason: decision.reason,
            decided_by: decision.decided_by,
            limit,
            used,
            remaining,
            overage,
            resets_at,
            reservation: None,
            remedies: vec![],
        }
    }
}

/// An answer without a reservation.
pub fn answer(
    meter: &PlanMeter,
    window: Option<&Bounds>,
    figures: Figures,
    decision: Decision,
) -> QuotaAnswer {
    Shown::of(meter, window, figures).answer(decision)
}
