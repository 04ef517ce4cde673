//! CHECKs that are answered at once, by names as they lie in a message: without a future, a copy, or
//! a count of holders that all cores would write to.
//!
//! Only what most checks are is answered: a summed meter, counted for the whole tenant, allowed by
//! what is in memory and fresh. All else is for [`Engine::check_quota`], which answers the same
//! where both can.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    answer::{Decision, Shown, reason_allowed},
    counter::Counter,
    directory::tenant_state::units_of,
    engine::Engine,
    look::own_look,
};
use crate::domain::{
    catalog::compiled_plan::PlanMeter,
    quota::{DecidedBy, QuotaAnswer, QuotaReason},
};

/// Glances with one reading of the clocks; more would be answered by times that are too old.
const GLANCES_PER_READING: u64 = 64;

/// A CHECK of a meter for the whole tenant, by names that need not be any.
#[derive(Clone, Copy, Debug)]
pub struct Glance<'m> {
    pub tenant: &'m str,
    pub meter: &'m str,
    /// Base units.
    pub amount: i64,
}

/// Glances one after the other, which read the clocks and are counted together.
pub struct Glances<'e> {
    engine: &'e Engine,
    began: Duration,
    now: Timestamp,
    /// Answered since the clocks were read, by reason.
    answered: [(QuotaReason, u64); 3],
}

impl Engine {
    /// Begins to answer looks now.
    pub fn glances(&self) -> Glances<'_> {
        Glances {
            engine: self,
            began: self.leasing.now(),
            now: self.clock.now(),
            answered: [
                (QuotaReason::WithinLimit, 0),
                (QuotaReason::Unlimited, 0),
                (QuotaReason::Overage, 0),
            ],
        }
    }
}

impl Glances<'_> {
    /// Answers a CHECK, if it is allowed and nobody has to be waited for to say so. `None` says
    /// nothing about it.
    #[inline]
    pub fn look(&mut self, glance: Glance<'_>) -> Option<QuotaAnswer> {
        if self.engine.check_open().is_err() {
            return None;
        }
        let Glance { tenant, meter, amount } = glance;
        let look = |meter: &PlanMeter, counter: &Counter| self.look_at(meter, counter, amount);
        let (shown, reason) = self.engine.directory.look(tenant, meter, self.now, look)?;
        self.count(reason);
        Some(shown.answer(Decision { reason, decided_by: DecidedBy::Memory }))
    }

    #[inline]
    fn look_at(
        &self,
        meter: &PlanMeter,
        counter: &Counter,
        amount: i64,
    ) -> Option<(Shown, QuotaReason)> {
        let units = units_of(meter, amount)?;
        let is_fresh = || self.engine.leasing.is_fresh(counter, self.began);
        let own = own_look(meter, counter, units, is_fresh)?;
        if !own.fits {
            return None;
        }
        counter.touch(self.began);
        let reason = reason_allowed(meter, own.figures.used.saturating_add(units));
        Some((Shown::of(meter, Some(&counter.window), own.figures), reason))
    }

    #[inline]
    fn count(&mut self, reason: QuotaReason) {
        let mut all = 0;
        for (known, count) in &mut self.answered {
            *count += u64::from(*known == reason);
            all += *count;
        }
        if all >= GLANCES_PER_READING {
            *self = self.engine.glances();
        }
    }
}

impl Drop for Glances<'_> {
    /// Counts what was answered since the clocks were read: each took the mean of them.
    fn drop(&mut self) {
        if self.answered.iter().any(|(_, count)| *count > 0) {
            let took = self.engine.leasing.now().saturating_sub(self.began);
            self.engine.metrics.glanced(&self.answered, took);
        }
    }
}
