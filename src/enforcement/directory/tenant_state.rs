//! One tenant in memory: its terms, and its counters.

use std::sync::{Arc, RwLock};

use ahash::AHashMap;
use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::Timestamp;

use crate::{
    domain::{
        catalog::compiled_plan::{CompiledPlan, PlanMeter},
        cell_key::CellKey,
        ids::{MeterName, Subject},
        tenant::Tenant,
        window::Window,
    },
    enforcement::counter::{Counter, CounterSeed},
    leases::message::Ceiling,
};

/// What a tenant may do: replaced whole when anything of it changes.
#[derive(Debug)]
pub struct Terms {
    pub tenant: Tenant,
    pub plan: Arc<CompiledPlan>,
    /// The counter of each meter's current window, where the limit holds for the whole tenant; by
    /// the meter's dense number. A cache of [`TenantState`]'s map: what spares the hot path its
    /// lock and the hash of a key.
    current: Box<[ArcSwapOption<Counter>]>,
}

impl Terms {
    /// Terms without counters.
    pub fn new(tenant: Tenant, plan: Arc<CompiledPlan>) -> Self {
        let current = plan.meters.iter().map(|_| ArcSwapOption::empty()).collect();
        Self { tenant, plan, current }
    }

    /// What the shared counters may never pass on `meter`.
    pub fn ceiling(&self, meter: &PlanMeter) -> Ceiling {
        Ceiling { units: meter.limit.ceiling(), version: self.tenant.version }
    }
}

/// One tenant. Found by its id once per request; everything else hangs off it.
#[derive(Debug)]
pub struct TenantState {
    terms: ArcSwap<Terms>,
    /// Guards the set of live counters, of all windows and subjects; held for a look-up at most.
    counters: RwLock<AHashMap<CellKey, Arc<Counter>>>,
    seed: CounterSeed,
}

/// Too many subjects are live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManySubjects;

impl TenantState {
    /// A tenant without counters.
    pub fn new(terms: Terms, seed: CounterSeed) -> Self {
        Self { terms: ArcSwap::from_pointee(terms), counters: RwLock::default(), seed }
    }

    /// The terms in force.
    pub fn terms(&self) -> Arc<Terms> {
        self.terms.load_full()
    }

    /// Replaces the terms by newer ones; the counters learn their new ceilings. Answers which
    /// counters have one.
    pub fn replace_terms(&self, terms: Terms) -> Vec<Arc<Counter>> {
        if terms.tenant.version < self.terms.load().tenant.version {
            return vec![];
        }
        let terms = Arc::new(terms);
        self.terms.store(terms.clone());
        let mut changed = self.all_counters();
        changed.retain(|counter| match terms.plan.meter(counter.key.meter.as_str()) {
            Some(meter) => counter.set_ceiling(terms.ceiling(meter)),
            None => false,
        });
        changed
    }

    /// The counter of `meter` at `now`, made when it is not there yet.
    #[inline]
    pub fn current_counter(
        &self,
        terms: &Terms,
        meter: &PlanMeter,
        subject: Option<&Subject>,
        now: Timestamp,
        subjects_max: usize,
    ) -> Result<Arc<Counter>, TooManySubjects> {
        if subject.is_none()
            && let Some(slot) = terms.current.get(meter.index.get())
        {
            if let Some(counter) = &*slot.load()
                && counter.window.contains(now)
            {
                return Ok(counter.clone());
            }
            let counter = self.counter_at(terms, meter, None, now, subjects_max)?;
            slot.store(Some(counter.clone()));
            return Ok(counter);
        }
        self.counter_at(terms, meter, subject, now, subjects_max)
    }

    fn counter_at(
        &self,
        terms: &Terms,
        meter: &PlanMeter,
        subject: Option<&Subject>,
        now: Timestamp,
        subjects_max: usize,
    ) -> Result<Arc<Counter>, TooManySubjects> {
        let window = terms.tenant.subscription.schedule.window(meter.limit.period, now);
        let key = CellKey {
            tenant: terms.tenant.id.clone(),
            meter: meter.meter.name.clone(),
            subject: subject.cloned(),
            label: window.label,
        };
        if let Some(counter) = self.counter(&key) {
            return Ok(counter);
        }
        if subject.is_some() && self.live_subjects(&meter.meter.name) >= subjects_max {
            return Err(TooManySubjects);
        }
        Ok(self.counter_or_new(key, window, terms.ceiling(meter)))
    }

    /// The counter of `key`, if it is live.
    pub fn counter(&self, key: &CellKey) -> Option<Arc<Counter>> {
        self.read().get(key).cloned()
    }

    /// The counter of `key`, made with `window` and `ceiling` when it is not live.
    pub fn counter_or_new(&self, key: CellKey, window: Window, ceiling: Ceiling) -> Arc<Counter> {
        let mut counters = self.counters.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        counters
            .entry(key.clone())
            .or_insert_with(|| Arc::new(Counter::new(key, window, ceiling, self.seed)))
            .clone()
    }

    /// All live counters.
    pub fn all_counters(&self) -> Vec<Arc<Counter>> {
        self.read().values().cloned().collect()
    }

    /// Drops the counters that are `idle` and that nobody else holds.
    ///
    /// Whoever looks a counter up does so under the same lock, so a counter with a single holder
    /// gets no second one while it is dropped.
    pub fn drop_idle_counters(&self, idle: impl Fn(&Counter) -> bool) -> usize {
        for slot in &self.terms.load().current {
            if slot.load().as_ref().is_some_and(|counter| idle(counter)) {
                slot.store(None);
            }
        }
        let mut counters = self.counters.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let before = counters.len();
        counters.retain(|_, counter| Arc::strong_count(counter) > 1 || !idle(counter));
        before - counters.len()
    }

    fn live_subjects(&self, meter: &MeterName) -> usize {
        self.read().keys().filter(|key| key.meter == *meter && key.subject.is_some()).count()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, AHashMap<CellKey, Arc<Counter>>> {
        self.counters.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
