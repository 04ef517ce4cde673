//! CHECK: looks, and takes nothing.

use std::{sync::Arc, time::Duration};

use super::{
    answer::{Decision, Figures, answer, reason_allowed, remaining},
    asked::Asked,
    counter::Counter,
    engine::Engine,
    error::EngineError,
    labelling,
    pool_draw::PoolDraw,
};
use crate::domain::{
    catalog::compiled_plan::PlanMeter,
    limit::OutagePolicy,
    meter::Aggregation,
    quota::{DecidedBy, QuotaAnswer, QuotaReason},
};

/// What a counter says by itself.
pub(super) struct OwnLook {
    pub figures: Figures,
    /// Whether there is room for what is asked.
    pub fits: bool,
}

impl OwnLook {
    #[inline]
    fn at(meter: &PlanMeter, counter: &Counter, units: u64) -> Self {
        let figures = Figures::of(counter);
        let left = remaining(meter, figures);
        let fits = counter.cell.available() >= units || left.is_none_or(|left| units <= left);
        Self { figures, fits }
    }
}

/// What `counter` says of `units`, unless its limit has to be asked after first.
#[inline]
pub(super) fn own_look(
    meter: &PlanMeter,
    counter: &Counter,
    units: u64,
    is_fresh: impl FnOnce() -> bool,
) -> Option<OwnLook> {
    let is_known =
        meter.limit.ceiling().is_none() || counter.cell.available() >= units || is_fresh();
    is_known.then(|| OwnLook::at(meter, counter, units))
}

impl Engine {
    pub(super) async fn look(&self, asked: &Asked<'_>) -> Result<QuotaAnswer, EngineError> {
        self.look_within(asked, self.config.look_wait()).await
    }

    /// As [`Engine::look`], waiting for each counter at most `wait`.
    pub(super) async fn look_within(
        &self,
        asked: &Asked<'_>,
        wait: Duration,
    ) -> Result<QuotaAnswer, EngineError> {
        match asked.meter.meter.aggregation {
            Aggregation::Sum | Aggregation::Count => self.look_at_units(asked, wait).await,
            Aggregation::Max | Aggregation::Last => Ok(self.look_at_value(asked, asked.units)),
            Aggregation::DistinctCount => {
                let properties = asked.said.properties;
                let value = labelling::distinct_value(&asked.meter.meter, properties)?;
                let key = asked.key(&asked.window());
                let is_known = value.is_some_and(|value| self.values.knows(&key, value));
                let seen = self.value_figures(asked.meter, &key).used;
                Ok(self.look_at_value(asked, seen + u64::from(!is_known)))
            }
        }
    }

    async fn look_at_units(
        &self,
        asked: &Asked<'_>,
        wait: Duration,
    ) -> Result<QuotaAnswer, EngineError> {
        let counter = match self.current_counter(asked)? {
            Some(counter) => counter,
            None => return Ok(asked.denial(QuotaReason::TooManySubjects)),
        };
        counter.touch(asked.began);
        if let Some(pool) = &asked.pool {
            return Ok(Box::pin(self.look_at_pool(asked, pool, &counter, wait)).await);
        }
        let mut decided_by = DecidedBy::Memory;
        let known = own_look(asked.meter, &counter, asked.units, || self.is_fresh(&counter));
        let OwnLook { figures, fits: fits_own } = match known {
            Some(known) => known,
            None => {
                decided_by = self.freshen_within(&counter, wait).await;
                OwnLook::at(asked.meter, &counter, asked.units)
            }
        };
        let mut fits = fits_own;
        if !fits_own {
            for grant in self.grant_counters(asked) {
                decided_by = decided_by.max(self.freshen_within(&grant, wait).await);
            }
            let own = remaining(asked.meter, figures);
            let left = own.map_or(0, |own| own.saturating_add(asked.left_in_grants()));
            fits = asked.units <= left;
        }
        let reason = match (decided_by, asked.meter.limit.on_outage) {
            (DecidedBy::Fallback, OutagePolicy::Deny) => QuotaReason::DeniedByOutagePolicy,
            (DecidedBy::Fallback, OutagePolicy::Allow) => QuotaReason::AllowedByOutagePolicy,
            _ if fits && !fits_own => QuotaReason::WithinGrant,
            _ if fits => reason_allowed(asked.meter, figures.used.saturating_add(asked.units)),
            _ => QuotaReason::LimitExceeded,
        };
        Ok(asked.answer(&counter.window, figures, Decision { reason, decided_by }))
    }

    async fn look_at_pool(
        &self,
        asked: &Asked<'_>,
        pool: &PoolDraw,
        counter: &Counter,
        wait: Duration,
    ) -> QuotaAnswer {
        let mut decided_by = DecidedBy::Memory;
        for counter in pool.counters.iter().chain(&self.grant_counters(asked)) {
            decided_by = decided_by.max(self.freshen_within(counter, wait).await);
        }
        let left = pool.left();
        let reason = match decided_by {
            DecidedBy::Fallback => QuotaReason::DeniedByOutagePolicy,
            _ if asked.units <= left => QuotaReason::WithinLimit,
            _ if asked.units <= left.saturating_add(asked.left_in_grants()) => {
                QuotaReason::WithinGrant
            }
            _ => QuotaReason::LimitExceeded,
        };
        asked.answer(&counter.window, Figures::of(counter), Decision { reason, decided_by })
    }

    /// Makes sure that what is known is fresh enough to look at.
    pub(super) async fn freshen(&self, counter: &Arc<Counter>) -> DecidedBy {
        self.freshen_within(counter, self.config.look_wait()).await
    }

    /// As [`Engine::freshen`], waiting for the shared counters at most `wait`.
    pub(super) async fn freshen_within(&self, counter: &Arc<Counter>, wait: Duration) -> DecidedBy {
        if self.is_fresh(counter) {
            return DecidedBy::Memory;
        }
        Box::pin(self.leasing.refresh(counter, wait)).await;
        match self.is_fresh(counter) {
            true => self.leasing.asked(),
            false => DecidedBy::Fallback,
        }
    }

    fn is_fresh(&self, counter: &Counter) -> bool {
        self.leasing.is_fresh(counter, self.leasing.now())
    }

    fn look_at_value(&self, asked: &Asked<'_>, value: u64) -> QuotaAnswer {
        let window = asked.window();
        let figures: Figures = self.value_figures(asked.meter, &asked.key(&window));
        let reason = match asked.meter.limit.ceiling() {
            Some(ceiling) if value > ceiling => QuotaReason::LimitExceeded,
            _ => reason_allowed(asked.meter, value),
        };
        let decision = Decision { reason, decided_by: DecidedBy::Memory };
        answer(asked.meter, Some(&window.bounds()), figures, decision)
    }
}
