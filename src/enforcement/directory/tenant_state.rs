//! One tenant in memory: its terms, and its counters.

use std::sync::{Arc, RwLock, RwLockReadGuard};

use ahash::AHashMap;
use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::{SignedDuration, Timestamp};

use crate::{
    domain::{
        catalog::compiled_plan::{CompiledPlan, PlanMeter},
        cell_key::CellKey,
        ids::{MeterName, Subject},
        tenant::Tenant,
        window::Window,
    },
    enforcement::counter::{Counter, CounterSeed},
    leases::message::{Ceiling, Totals},
};

/// How long after a window's end what its counters left behind is kept: late usage goes on from it.
const LEFT_KEPT_AFTER: SignedDuration = SignedDuration::from_hours(1);
/// Dropped counters of one tenant that are remembered. Beyond it counters stay, about 2 kB each.
const LEFT_MAX: usize = 100_000;

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
    counters: RwLock<Counters>,
    seed: CounterSeed,
}

/// A tenant's counters.
#[derive(Debug, Default)]
struct Counters {
    counters: AHashMap<CellKey, Arc<Counter>>,
    /// Windows and totals of the counters that were dropped. The shared counters trust that a run's totals only
    /// grow, so a later counter of the same key has to go on from them.
    left: AHashMap<CellKey, (Window, Totals)>,
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
        self.read().counters.get(key).cloned()
    }

    /// The counter of `key`, made with `window` and `ceiling` when it is not live.
    pub fn counter_or_new(&self, key: CellKey, window: Window, ceiling: Ceiling) -> Arc<Counter> {
        let mut live = self.counters.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Counters { counters, left } = &mut *live;
        let make = |key: &CellKey| {
            Arc::new(match left.remove(key) {
                None => Counter::new(key.clone(), window, ceiling, self.seed),
                Some((_, totals)) => {
                    Counter::resumed(key.clone(), window, ceiling, self.seed, totals)
                }
            })
        };
        counters.entry(key).or_insert_with_key(make).clone()
    }

    /// All live counters.
    pub fn all_counters(&self) -> Vec<Arc<Counter>> {
        self.read().counters.values().cloned().collect()
    }

    /// Drops the counters that are `done` and that nobody else holds. What they leave behind is
    /// kept until some time after the window's end; while too much is kept, none is dropped.
    ///
    /// Whoever looks a counter up does so under the same lock, so a counter with a single holder
    /// gets no second one while it is dropped.
    pub fn drop_counters(&self, now: Timestamp, done: impl Fn(&Counter) -> bool) {
        let mut live = self.counters.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Counters { counters, left } = &mut *live;
        left.retain(|_, (window, _)| {
            window.end.is_none_or(|end| now.duration_since(end) < LEFT_KEPT_AFTER)
        });
        for slot in &self.terms.load().current {
            if slot.load().as_ref().is_some_and(|counter| done(counter)) {
                slot.store(None);
            }
        }
        counters.retain(|key, counter| {
            if Arc::get_mut(counter).is_none() || !done(counter) || left.len() >= LEFT_MAX {
                return true;
            }
            left.insert(key.clone(), (counter.window, counter.totals()));
            false
        });
    }

    fn live_subjects(&self, meter: &MeterName) -> usize {
        self.read()
            .counters
            .keys()
            .filter(|key| key.meter == *meter && key.subject.is_some())
            .count()
    }

    fn read(&self) -> RwLockReadGuard<'_, Counters> {
        self.counters.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
