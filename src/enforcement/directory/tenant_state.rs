//! One tenant in memory: its terms, and its counters.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use jiff::Timestamp;

use super::{
    catalogs::{CatalogInForce, LookedAt},
    counters::{Basis, CounterSeed, Counters, NoCounter},
    known_grant::{self, KnownGrant},
    onlooker::Onlooker,
};
use crate::{
    domain::{
        amount::check_amount,
        catalog::{
            compiled_catalog::CompiledCatalog,
            compiled_plan::{CompiledPlan, PlanMeter},
        },
        cell_key::CellKey,
        grant::Grant,
        ids::Subject,
        meter::{Aggregation, MeterKind},
        period::Period,
        pool::PoolMembership,
        tenant::Tenant,
        window::Window,
    },
    enforcement::{
        answer::Figures, counter::Counter, pool_draw::PoolPlace, rates::tenant_rates::TenantRates,
    },
    leases::{message::Ceiling, onlookers::Standing},
};

/// What a tenant may do: replaced whole when anything of it changes.
#[derive(Debug)]
pub struct Terms {
    /// Shared with the file that it is from, where there is one.
    pub tenant: Arc<Tenant>,
    pub plan: Arc<CompiledPlan>,
    pub(super) catalog: Arc<CatalogInForce>,
    /// Of the tenant's, where every check looks: it stands for no cell of a pool, is served, and lives by
    /// the real clock.
    is_plain: bool,
    /// The counter of each meter's current window, where the limit holds for the whole tenant; by
    /// the meter's dense number. A cache of [`TenantState`]'s map: what spares the hot path its
    /// lock and the hash of a key.
    current: Box<[ArcSwapOption<Counter>]>,
    /// The tenant's grants by meter, in burn order; empty where it has none at all.
    grants: Box<[Box<[KnownGrant]>]>,
    /// The tenant's places in pools by meter; empty where it has none at all.
    pools: Box<[Option<PoolPlace>]>,
}

impl Terms {
    /// Terms without counters.
    pub fn new(tenant: Arc<Tenant>, plan: Arc<CompiledPlan>, catalog: Arc<CatalogInForce>) -> Self {
        let current = plan.meters.iter().map(|_| ArcSwapOption::empty()).collect();
        let of_meter = |meter: &PlanMeter| {
            let grants = tenant.grants.iter().filter(|grant| grant.meter == meter.meter.name);
            grants.cloned().map(KnownGrant::new).collect()
        };
        let grants = match tenant.grants.is_empty() {
            true => Box::default(),
            false => plan.meters.iter().map(of_meter).collect(),
        };
        let place = |meter: &PlanMeter| {
            let is_of = |one: &&PoolMembership| one.pool.meter == meter.meter.name;
            // Its own cells are in no pool.
            let is_member = tenant.id.pool().is_none();
            tenant.pools.iter().find(is_of).filter(|_| is_member).map(PoolPlace::new)
        };
        let pools = match tenant.pools.is_empty() {
            true => Box::default(),
            false => plan.meters.iter().map(place).collect(),
        };
        let is_served = tenant.subscription.status.is_served();
        let is_plain = is_served && tenant.id.pool().is_none() && tenant.test_clock.is_none();
        Self { tenant, plan, catalog, is_plain, current, grants, pools }
    }

    /// The same terms for a tenant that has changed in nothing that its plan goes by.
    pub fn of(&self, tenant: Tenant) -> Self {
        Self::new(Arc::new(tenant), self.plan.clone(), self.catalog.clone())
    }

    /// The tenant's membership in a pool of the meter.
    pub fn membership(&self, meter: &PlanMeter) -> Option<&PoolMembership> {
        self.tenant.pools.iter().find(|one| one.pool.meter == meter.meter.name)
    }

    /// The tenant's place in a pool that it draws on instead of on its plan's limit.
    #[inline]
    pub fn pool(&self, meter: &PlanMeter) -> Option<&PoolPlace> {
        self.pools.get(meter.index.get())?.as_ref()
    }

    /// The tenant's grants on `meter` that are for `subject` too, in burn order.
    #[inline]
    pub fn grants(
        &self,
        meter: &PlanMeter,
        subject: Option<&Subject>,
    ) -> impl DoubleEndedIterator<Item = &Grant> {
        self.known_grants(meter, subject).map(|known| &known.grant)
    }

    #[inline]
    fn known_grants(
        &self,
        meter: &PlanMeter,
        subject: Option<&Subject>,
    ) -> impl DoubleEndedIterator<Item = &KnownGrant> {
        let grants = self.grants.get(meter.index.get()).map_or(&[][..], |grants| grants);
        grants.iter().filter(move |known| known.is_for(subject))
    }

    /// The meter called `meter`, where a limit of the plan's is all that is to be asked: the tenant
    /// is one that callers name, is served and lives by the real clock, the meter is added up for the
    /// whole of it, and no pool and no grant covers anything.
    #[inline]
    pub fn plain_meter(&self, meter: &str) -> Option<&PlanMeter> {
        if !self.is_plain {
            return None;
        }
        let meter = self.plan.meter(meter)?;
        let has_grants =
            self.grants.get(meter.index.get()).is_some_and(|grants| !grants.is_empty());
        if has_grants || self.pool(meter).is_some() {
            return None;
        }
        if meter.meter.kind == MeterKind::Static || meter.limit.per_subject {
            return None;
        }
        meter.meter.is_summed().then_some(meter)
    }

    /// As [`Terms::plain_meter`], with what `amount` counts for on it.
    #[inline]
    pub fn plain_units(&self, meter: &str, amount: i64) -> Option<(&PlanMeter, u64)> {
        let meter = self.plain_meter(meter)?;
        Some((meter, units_of(meter, amount)?))
    }

    /// The counter of the window of `meter` that was last the current one, where the limit holds
    /// for the whole tenant.
    #[inline]
    pub fn current(&self, meter: &PlanMeter) -> Guard<Option<Arc<Counter>>> {
        let slot = self.current.get(meter.index.get());
        slot.map_or_else(|| Guard::from_inner(None), |slot| slot.load())
    }

    /// Whether usage of `meter` can be denied: by the plan's limit, or by the pool it draws on.
    pub fn is_bounded(&self, meter: &PlanMeter) -> bool {
        meter.limit.ceiling().is_some() || self.pool(meter).is_some()
    }

    /// The counter of `meter`, without a subject, at `at`.
    pub fn cell_key(&self, meter: &PlanMeter, at: Timestamp) -> CellKey {
        CellKey {
            tenant: self.tenant.id.clone(),
            meter: meter.meter.name.clone(),
            subject: None,
            label: self.tenant.subscription.schedule.window(meter.limit.period, at).label,
        }
    }

    /// Lets go of the counters of pools that are `done`: others may be waiting for that.
    pub fn let_go_of_pools(&self, done: impl Fn(&Counter) -> bool) {
        self.pools.iter().flatten().for_each(|place| place.forget(&done));
    }

    /// What the shared counters may never pass on `key`; `None` when the plan has lost its meter.
    pub fn ceiling_of(&self, key: &CellKey) -> Option<Ceiling> {
        match key.label.period {
            // Of a grant that is not known any more nothing is left to give.
            Period::Grant { id } => {
                let grant = self.tenant.grant(id).filter(|grant| !grant.is_revoked);
                let units = grant.map_or(0, |grant| grant.amount);
                Some(Ceiling { units: Some(units), version: self.tenant.version })
            }
            _ => self.plan.meter(key.meter.as_str()).map(|meter| self.ceiling(meter)),
        }
    }

    /// The plan's catalog as it is in force now.
    pub fn catalog(&self) -> Arc<CompiledCatalog> {
        self.catalog.compiled()
    }

    /// The same, for a moment: nobody else counts as its holder.
    pub fn look_at_catalog(&self) -> LookedAt {
        self.catalog.look()
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
    counters: Counters,
    rates: TenantRates,
}

impl TenantState {
    /// A tenant without counters.
    pub fn new(terms: Terms, seed: Arc<CounterSeed>) -> Self {
        Self {
            terms: ArcSwap::from_pointee(terms),
            counters: Counters::new(seed),
            rates: TenantRates::default(),
        }
    }

    /// The terms in force.
    pub fn terms(&self) -> Arc<Terms> {
        self.terms.load_full()
    }

    /// The terms in force, for a moment: nobody else counts as their holder.
    #[inline]
    pub fn look_at_terms(&self) -> Guard<Arc<Terms>> {
        self.terms.load()
    }

    /// Where the tenant's rates stand.
    pub fn rates(&self) -> &TenantRates {
        &self.rates
    }

    /// Replaces the terms by newer ones; the counters learn their new ceilings. Answers which
    /// counters have one.
    ///
    /// The terms come first: a counter that is made meanwhile either is among all counters here, or
    /// was made after, from these terms.
    pub fn replace_terms(&self, terms: Terms) -> Vec<Arc<Counter>> {
        let terms = Arc::new(terms);
        let is_older = |known: &Terms| terms.tenant.version < known.tenant.version;
        // Listed before: no lock is waited for between the new terms and those who look by the old.
        let looked_at = self.all_counters();
        let before = self.terms.rcu(|known| match is_older(known) {
            true => known.clone(),
            false => terms.clone(),
        });
        if is_older(&before) {
            return vec![];
        }
        looked_at.iter().for_each(|counter| counter.onlookers.send_away());
        let mut changed = self.all_counters();
        // Once more, for those that were made meanwhile.
        changed.iter().for_each(|counter| counter.onlookers.send_away());
        changed.retain(|counter| match terms.ceiling_of(&counter.key) {
            Some(ceiling) => counter.set_ceiling(ceiling),
            None => false,
        });
        changed
    }

    /// Sends all away who found a counter by terms that are no longer in force.
    pub fn send_onlookers_away(&self) {
        self.all_counters().iter().for_each(|counter| counter.onlookers.send_away());
    }

    /// An onlooker of `counter`, which the caller has found by `terms`, if they are still in force.
    pub(super) fn onlooker(
        &self,
        terms: &Arc<Terms>,
        counter: &Arc<Counter>,
    ) -> Option<(Onlooker, Standing)> {
        // Before the terms are looked at: if they are replaced after this, it does not stand.
        let standing = counter.onlookers.standing()?;
        let is_in_force = Arc::ptr_eq(&self.terms.load(), terms);
        let onlooker = is_in_force.then(|| self.counters.onlooker(counter))??;
        Some((onlooker, standing))
    }

    /// The counter of `meter` at `now`, made when it is not there yet. A subject gets one unless
    /// the meter has `meter_max` already.
    #[inline]
    pub fn current_counter(
        &self,
        terms: &Terms,
        meter: &PlanMeter,
        subject: Option<&Subject>,
        now: Timestamp,
        meter_max: usize,
    ) -> Result<Arc<Counter>, NoCounter> {
        if subject.is_none()
            && let Some(slot) = terms.current.get(meter.index.get())
        {
            if let Some(counter) = &*slot.load()
                && counter.window.contains(now)
            {
                return Ok(counter.clone());
            }
            let counter = self.counter_at(terms, meter, None, now, None)?;
            // Usage of an earlier window is rare, and leaves the current one where it is.
            let is_newest = slot
                .load()
                .as_ref()
                .is_none_or(|held| held.window.start() <= counter.window.start());
            if is_newest {
                slot.store(Some(counter.clone()));
            }
            return Ok(counter);
        }
        self.counter_at(terms, meter, subject, now, subject.map(|_| meter_max))
    }

    fn counter_at(
        &self,
        terms: &Terms,
        meter: &PlanMeter,
        subject: Option<&Subject>,
        now: Timestamp,
        meter_max: Option<usize>,
    ) -> Result<Arc<Counter>, NoCounter> {
        let window = terms.tenant.subscription.schedule.window(meter.limit.period, now);
        let key = CellKey { subject: subject.cloned(), ..terms.cell_key(meter, now) };
        self.counter_or_new(&key, window, meter_max)
    }

    /// The counter of a grant's stretch that `at` falls into, made when it is not live.
    pub fn grant_counter(
        &self,
        terms: &Terms,
        grant: &Grant,
        at: Timestamp,
    ) -> Result<Arc<Counter>, NoCounter> {
        let window = grant.stretch(&terms.tenant.subscription.schedule, at);
        self.counter_or_new(&grant_key(terms, grant, window), window, None)
    }

    /// Units that the grants in force have left, as far as this sidecar knows.
    #[inline]
    pub fn left_in_grants(
        &self,
        terms: &Terms,
        meter: &PlanMeter,
        subject: Option<&Subject>,
        now: Timestamp,
    ) -> u64 {
        let in_force =
            terms.known_grants(meter, subject).filter(|known| known.grant.is_in_force(now));
        let left = in_force.map(|known| {
            let counter = self.counter(&known.stretch(&terms.tenant, now).key);
            let Figures { used, blocked } =
                counter.map_or(Figures::default(), |counter| Figures::of(&counter));
            known.grant.amount.saturating_sub(used).saturating_sub(blocked)
        });
        left.fold(0, u64::saturating_add)
    }

    /// The counter of `key`, if it is live.
    pub fn counter(&self, key: &CellKey) -> Option<Arc<Counter>> {
        self.counters.get(key)
    }

    /// The counter of `key`, made with `window` when it is not live, unless the meter has
    /// `meter_max` already.
    pub fn counter_or_new(
        &self,
        key: &CellKey,
        window: Window,
        meter_max: Option<usize>,
    ) -> Result<Arc<Counter>, NoCounter> {
        // The terms are read here, in the making, not when the request began: see `replace_terms`.
        self.counters.get_or_new(key, window, meter_max, || {
            let terms = self.terms.load();
            // A plan that has lost the meter leaves the last ceiling that the key was told.
            let ceiling = terms.ceiling_of(key).unwrap_or(Ceiling { units: None, version: 0 });
            Basis { ceiling, is_on_test_clock: terms.tenant.test_clock.is_some() }
        })
    }

    /// All live counters.
    pub fn all_counters(&self) -> Vec<Arc<Counter>> {
        self.counters.all()
    }

    /// Has `look` look at all live counters; none comes or goes meanwhile.
    pub fn look_at_all_counters(&self, look: impl FnMut(&Arc<Counter>)) {
        self.counters.look_at_all(look);
    }

    /// Forgets what a dropped counter of `key` left, if its window is over by the tenant's clock; whether
    /// it did.
    pub fn forget_left(&self, key: &CellKey, real_now: Timestamp) -> bool {
        let now = self.terms.load().tenant.now(real_now);
        self.counters.forget_left(key, now)
    }

    /// Whether a state that is made anew from the same terms is as good as this, after
    /// [`TenantState::hand_over`].
    pub(super) fn is_unused(&self) -> bool {
        let terms = self.terms.load();
        let tenant = &terms.tenant;
        // How far the windows reach that are over is kept for all who live by the real clock; and who
        // is of a pool is found by its members.
        let is_own = tenant.test_clock.is_none() && tenant.id.pool().is_none();
        let is_own = is_own && tenant.pools.is_empty();
        is_own && self.counters.are_unused() && self.rates.are_unused()
    }

    /// The last look at it before it is dropped: whether it is unused. Then what has to be known of it
    /// is where a new one finds it.
    pub(super) fn hand_over(&self) -> bool {
        let is_unused = self.is_unused();
        if is_unused {
            self.counters.hand_over(&self.terms.load().tenant.id);
        }
        is_unused
    }

    /// Drops the counters that are `done` and that nobody else holds; `now` is the tenant's.
    /// Answers the keys of those whose windows are over.
    pub fn drop_done_counters(
        &self,
        now: Timestamp,
        done: impl Fn(&Counter) -> bool,
    ) -> Vec<CellKey> {
        let terms = self.terms.load();
        for slot in &terms.current {
            if slot.load().as_ref().is_some_and(|counter| done(counter)) {
                slot.store(None);
            }
        }
        terms.let_go_of_pools(&done);
        self.counters.drop_done(now, done)
    }
}

/// What `amount` counts for on a plain meter.
#[inline]
pub fn units_of(meter: &PlanMeter, amount: i64) -> Option<u64> {
    let amount = check_amount("amount", amount).ok()?;
    match meter.meter.aggregation {
        Aggregation::Sum => Some(amount),
        Aggregation::Count => Some(1),
        Aggregation::Max | Aggregation::Last | Aggregation::DistinctCount => None,
    }
}

/// The key of one stretch of a grant.
pub fn grant_key(terms: &Terms, grant: &Grant, window: Window) -> CellKey {
    known_grant::key(&terms.tenant, grant, window)
}
