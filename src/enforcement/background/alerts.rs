//! Raises and resolves usage alerts in the ledger.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{
        alerts::is_reached, catalog::decimal::Percent, cell_key::CellKey, pool::PoolMembership,
    },
    enforcement::{
        alerts::{has_thresholds, pool_thresholds, reached, thresholds},
        answer::Figures,
        counter::Counter,
        directory::tenant_state::{TenantState, Terms},
        engine::Engine,
        error::EngineError,
    },
    ledger::{
        Ledger,
        alerts::{AlertChanges, AlertRule, COUNTERS_SETTLED_MAX},
    },
};

/// How often counters that were used are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Counters that were used within this time are looked at by the sweep.
const USED_LATELY: Duration = Duration::from_secs(10);

/// A window that has been over for longer is not held against today's limits any more: what was told
/// of it stands.
const LATE_LOOK_MAX: SignedDuration = SignedDuration::from_hours(1);

/// Keeps the ledger's alerts true until `stop`.
pub async fn keep(engine: Arc<Engine>, ledger: Ledger, stop: CancellationToken) {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let keeper = Keeper { engine, ledger };
    loop {
        tokio::select! {
            _ = look.tick() => keeper.look().await,
            () = stop.cancelled() => return,
        }
    }
}

/// The look after the last flush of a run.
pub async fn look_last(engine: Arc<Engine>, ledger: Ledger) {
    Keeper { engine, ledger }.look().await;
}

struct Keeper {
    engine: Arc<Engine>,
    ledger: Ledger,
}

/// A counter whose figure here may change what stands.
struct Doubt {
    rule: AlertRule,
    counters: Vec<Arc<Counter>>,
    /// Thresholds that its figure here reaches; `None` when only the ledger has a figure.
    reached: Option<Vec<Percent>>,
}

impl Keeper {
    async fn look(&self) {
        let mut doubts = vec![];
        for key in self.engine.alerts.take_due(self.engine.leasing.now()) {
            match self.engine.tenant(&key.tenant, "tenant").await {
                Ok(state) if key.tenant.pool().is_some() => {
                    doubts.extend(self.pool_doubts(&state, &key));
                }
                Ok(state) => match self.doubt(&state, &key) {
                    Some(doubt) => doubts.push(doubt),
                    None => self.engine.alerts.agree(&key),
                },
                Err(EngineError::Unknown(_)) => self.engine.alerts.agree(&key),
                Err(_) => self.engine.alerts.differ(key, self.engine.leasing.now()),
            }
        }
        for doubts in doubts.chunks(COUNTERS_SETTLED_MAX) {
            self.settle(doubts).await;
        }
    }

    /// `None`: there is nothing to settle, be it that the figures agree or that the plan has no such
    /// meter any more.
    fn doubt(&self, state: &TenantState, key: &CellKey) -> Option<Doubt> {
        let terms = state.terms();
        let meter = terms.plan.meter(key.meter.as_str())?;
        let thresholds = thresholds(&terms, meter);
        let now = terms.tenant.now(self.engine.clock.now());
        let window = terms.tenant.subscription.schedule.window_of_label(key.label)?;
        if window.end.is_some_and(|end| now.duration_since(end) > LATE_LOOK_MAX) {
            return None;
        }
        let counter = state.counter(key);
        let figure = counter.as_ref().filter(|_| meter.meter.is_summed());
        let reached = figure.map(|counter| reached(&terms, meter, used(counter)));
        let alerts = &self.engine.alerts;
        if reached.as_ref().is_some_and(|reached| alerts.agrees(key, reached)) {
            return None;
        }
        let (key, cells, limit) = (key.clone(), vec![key.clone()], meter.limit.amount);
        let counters = counter.into_iter().collect();
        Some(Doubt { rule: AlertRule { key, cells, limit, thresholds, now }, counters, reached })
    }

    /// The same for a pool: of each class' share, or of the one that `key` names.
    fn pool_doubts(&self, state: &TenantState, key: &CellKey) -> Vec<Doubt> {
        let terms = state.terms();
        let now = terms.tenant.now(self.engine.clock.now());
        let window = terms.tenant.subscription.schedule.window_of_label(key.label);
        let is_past = |end: Timestamp| now.duration_since(end) > LATE_LOOK_MAX;
        if window.is_none_or(|window| window.end.is_some_and(is_past)) {
            self.engine.alerts.agree(key);
            return vec![];
        }
        let shares = terms.tenant.pools.iter().flat_map(|of| of.pool.shares());
        let shares = shares.map(|share| (share.alert_key(key.label), share));
        let is_meant = |own: &CellKey| key.subject.is_none() || key.subject == own.subject;
        let shares: Vec<_> = shares.filter(|(own, _)| is_meant(own)).collect();
        if shares.iter().all(|(own, _)| own != key) {
            // Each is looked at again by a key of its own.
            self.engine.alerts.agree(key);
        }
        let doubts = shares.into_iter().filter_map(|(own, share)| {
            let doubt = self.doubt_of_share(&terms, &own, &share, now);
            if doubt.is_none() {
                self.engine.alerts.agree(&own);
            }
            doubt
        });
        doubts.collect()
    }

    fn doubt_of_share(
        &self,
        terms: &Terms,
        key: &CellKey,
        share: &PoolMembership,
        now: Timestamp,
    ) -> Option<Doubt> {
        let directory = &self.engine.directory;
        let cells = share.counter_keys(key.label);
        let live = cells.iter().filter_map(|cell| directory.known(&cell.tenant)?.counter(cell));
        let counters: Vec<_> = live.collect();
        let (key, limit) = (key.clone(), Some(share.share().units));
        let thresholds = pool_thresholds(terms);
        // Of what is not counted here, only the ledger has a figure.
        let reached = (counters.len() == cells.len()).then(|| {
            let used: i64 = counters.iter().map(|counter| used(counter)).sum();
            let percents = thresholds.iter().map(|threshold| threshold.percent);
            percents.filter(|percent| is_reached(*percent, used, limit)).collect::<Vec<_>>()
        });
        if reached.as_ref().is_some_and(|reached| self.engine.alerts.agrees(&key, reached)) {
            return None;
        }
        Some(Doubt { rule: AlertRule { key, cells, limit, thresholds, now }, counters, reached })
    }

    async fn settle(&self, doubts: &[Doubt]) {
        let rules: Vec<AlertRule> = doubts.iter().map(|doubt| doubt.rule.clone()).collect();
        let settled = match self.ledger.settle_alerts(&rules).await {
            Ok(settled) => settled,
            Err(error) => {
                tracing::debug!(%error, "alerts cannot be settled now");
                self.engine.alerts.look_at(rules.into_iter().map(|rule| rule.key));
                return;
            }
        };
        count(settled.changes);
        for (doubt, standing) in doubts.iter().zip(settled.standing) {
            let key = doubt.rule.key.clone();
            self.engine.alerts.settled(key.clone(), standing);
            let differs = |reached: &Vec<_>| !self.engine.alerts.agrees(&key, reached);
            if doubt.reached.as_ref().is_some_and(differs) {
                self.differ(doubt, key);
            } else {
                self.engine.alerts.agree(&key);
            }
        }
    }

    /// Something is not flushed yet, here or elsewhere, or Redis has not told of it.
    fn differ(&self, doubt: &Doubt, key: CellKey) {
        self.engine.alerts.differ(key, self.engine.leasing.now());
        for counter in &doubt.counters {
            counter.slow().holder.look();
            self.engine.leasing.wake(counter);
        }
    }
}

fn used(counter: &Counter) -> i64 {
    Figures::of(counter).used.cast_signed()
}

impl Engine {
    /// Asks for a look at a counter that [may have changed its alerts](Self::may_have_changed_alerts),
    /// if its figure says something else than what was last settled. What was flushed is looked at
    /// anyway; this finds what another sidecar's flush had no time to tell of.
    pub(super) fn doubt_alerts(&self, terms: &Terms, counter: &Counter) {
        let key = &counter.key;
        // A pool's figure is one of several.
        if key.tenant.pool().is_none() {
            let Some(meter) = terms.plan.meter(key.meter.as_str()) else { return };
            let stands = self.alerts.agrees(key, &reached(terms, meter, used(counter)));
            if stands || self.alerts.is_differing(key) {
                return;
            }
        }
        self.alerts.look_at([key.clone()]);
    }

    /// Whether the alerts of `counter` may be doubted: it has some, and was used lately.
    pub(super) fn may_have_changed_alerts(&self, counter: &Counter) -> bool {
        self.alerts.are_looked_at()
            && has_thresholds(&counter.key)
            && counter.used_at() >= self.leasing.now().saturating_sub(USED_LATELY)
    }
}

fn count(changes: AlertChanges) {
    let AlertChanges { raised, reopened, resolved } = changes;
    for (change, times) in [("raised", raised), ("reopened", reopened), ("resolved", resolved)] {
        metrics::counter!("tollgate_alerts_total", "change" => change).increment(times);
    }
}
