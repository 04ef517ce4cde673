//! Raises and resolves usage alerts in the ledger.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{catalog::decimal::Percent, cell_key::CellKey},
    enforcement::{
        alerts::{has_thresholds, reached, thresholds},
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
    counter: Option<Arc<Counter>>,
    /// Thresholds that its figure here reaches; `None` when only the ledger has a figure.
    reached: Option<Vec<Percent>>,
}

impl Keeper {
    async fn look(&self) {
        let mut doubts = vec![];
        for key in self.engine.alerts.take_due(self.engine.leasing.now()) {
            match self.engine.tenant(&key.tenant, "tenant").await {
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
        let (key, limit) = (key.clone(), meter.limit.amount);
        Some(Doubt { rule: AlertRule { key, limit, thresholds, now }, counter, reached })
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
        if let Some(counter) = &doubt.counter {
            counter.slow().holder.look();
            self.engine.leasing.wake(counter);
        }
    }
}

fn used(counter: &Counter) -> i64 {
    Figures::of(counter).used.cast_signed()
}

impl Engine {
    /// Asks for a look at a counter that was used lately, if its figure says something else than what
    /// was last settled. What was flushed is looked at anyway; this finds what another sidecar's
    /// flush had no time to tell of.
    pub(super) fn doubt_alerts(&self, terms: &Terms, counter: &Counter) {
        if !has_thresholds(&counter.key) {
            return;
        }
        let lately = self.leasing.now().saturating_sub(USED_LATELY);
        let Some(meter) = terms.plan.meter(counter.key.meter.as_str()) else { return };
        if counter.used_at() >= lately
            && !self.alerts.agrees(&counter.key, &reached(terms, meter, used(counter)))
            && !self.alerts.is_differing(&counter.key)
        {
            self.alerts.look_at([counter.key.clone()]);
        }
    }
}

fn count(changes: AlertChanges) {
    let AlertChanges { raised, reopened, resolved } = changes;
    for (change, times) in [("raised", raised), ("reopened", reopened), ("resolved", resolved)] {
        metrics::counter!("tollgate_alerts_total", "change" => change).increment(times);
    }
}
