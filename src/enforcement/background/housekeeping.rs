//! What has to be done every now and then: lapse holds, retire counters, save the snapshot.

use std::{panic::resume_unwind, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::cell_key::CellKey,
    enforcement::{
        counter::Counter, directory::tenant_state::TenantState, engine::Engine,
        lease_metrics::Outstanding,
    },
};

/// How often lapsed holds are given back.
const EXPIRE_EVERY: Duration = Duration::from_millis(100);
/// The pause between two looks at the counters, after each of which the snapshot is saved.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// The counters of windows that begin within this time are made ahead; so long may the ledger be
/// away before a new window falls to its limit's outage policy.
const PREPARED_AHEAD: SignedDuration = SignedDuration::from_secs(120);
/// Only where the window before was used within this time.
const PREPARED_IF_USED_WITHIN: Duration = Duration::from_secs(300);
/// A counter whose window is over and that was not used for so long is retired.
const OVER_AFTER: Duration = Duration::from_secs(30);

/// Keeps house until `stop`.
pub async fn keep(engine: Arc<Engine>, stop: CancellationToken) {
    tokio::join!(expire(&engine, &stop), sweep(&engine, &stop));
}

async fn expire(engine: &Engine, stop: &CancellationToken) {
    let mut expire = interval(EXPIRE_EVERY);
    expire.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = expire.tick() => engine.expire_reservations(engine.clock.now()),
            () = stop.cancelled() => return,
        }
    }
}

async fn sweep(engine: &Arc<Engine>, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        // In a thread of its own: with many counters it would hold up those that serve.
        let swept = engine.clone();
        if let Err(error) = spawn_blocking(move || swept.sweep()).await
            && error.is_panic()
        {
            resume_unwind(error.into_panic());
        }
        save(engine).await;
        tokio::select! {
            () = sleep(SWEEP_EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
    save(engine).await;
}

async fn save(engine: &Engine) {
    let directory = engine.directory.clone();
    let saved = spawn_blocking(move || directory.save()).await;
    if let Ok(Err(error)) = saved {
        tracing::warn!(%error, "cannot save the snapshot of tenants and plans");
    }
}

impl Engine {
    /// Retires counters that are over or idle, drops those that are done, and sets the gauges. Takes
    /// some microseconds for each.
    fn sweep(self: &Arc<Self>) {
        let real_now = self.clock.now();
        let now_ns = self.clock.steady_ns();
        let mut live = 0;
        let mut outstanding = Outstanding::default();
        for state in self.directory.all() {
            let terms = state.terms();
            let now = terms.tenant.now(real_now);
            let counters = state.all_counters();
            live += counters.len();
            for counter in counters {
                outstanding.add(&counter);
                self.part_or_revive(&counter, now);
                self.prepare_next(&state, &counter, now);
                self.doubt_alerts(&terms, &counter);
            }
            state.rates().forget_unused(self.rates.subjects(), now_ns);
            state
                .drop_done_counters(now, |counter| counter.is_done() && self.is_idle(counter, now));
        }
        self.leasing.counters.shrink();
        self.forget_values(real_now);
        self.alerts.forget(|key| {
            self.directory.known(&key.tenant).is_some_and(|state| state.is_current(key, real_now))
        });
        #[allow(clippy::cast_precision_loss)] // Gauges are doubles.
        {
            metrics::gauge!("tollgate_counters_live").set(live as f64);
            metrics::gauge!("tollgate_tenants_live").set(self.directory.len() as f64);
            metrics::gauge!("tollgate_rate_subjects_live").set(self.rates.subjects().live() as f64);
            metrics::gauge!("tollgate_reservations_live").set(self.holds.len() as f64);
        }
        self.leasing.metrics.show(outstanding);
    }

    fn part_or_revive(&self, counter: &Arc<Counter>, now: Timestamp) {
        let is_over = is_over(counter, now);
        if self.is_idle(counter, now) {
            if counter.has_parted() {
                return;
            }
            counter.part(self.leasing.retentions.of(&counter.key));
        } else {
            let is_retiring = counter.slow().holder.is_retiring();
            // The process' end retires all, and for good.
            if !is_retiring || is_over || self.check_open().is_err() {
                return;
            }
            // Used again before it was dropped.
            counter.revive();
        }
        self.leasing.wake(counter);
    }

    /// Makes the counter of the next window ahead of time, where this one is in use and about to
    /// end: a counter that is new to the shared counters needs the ledger, which may be away then.
    fn prepare_next(self: &Arc<Self>, state: &TenantState, counter: &Counter, now: Timestamp) {
        if counter.key.label.is_of_grant() {
            return;
        }
        let Some(end) = counter.window.end else { return };
        let is_near = now < end && end.duration_since(now) <= PREPARED_AHEAD;
        let lately = self.leasing.now().saturating_sub(PREPARED_IF_USED_WITHIN);
        if !is_near || counter.used_at() < lately || !counter.claim_next() {
            return;
        }
        let terms = state.terms();
        let limit = terms.plan.meter(counter.key.meter.as_str()).map(|meter| &meter.limit);
        let Some(limit) = limit.filter(|limit| limit.ceiling().is_some()) else { return };
        let window = terms.tenant.subscription.schedule.window(limit.period, end);
        let key = CellKey { label: window.label, ..counter.key.clone() };
        let meter_max = key.subject.as_ref().map(|_| self.config.subjects_max);
        if let Ok(next) = state.counter_or_new(&key, window, meter_max) {
            // Not used itself yet: where use ends, so does the making.
            next.touch(counter.used_at());
            next.slow().holder.look();
            self.leasing.wake(&next);
        }
    }

    /// Whether it has not been used for long enough, and all that was is in the ledger.
    fn is_idle(&self, counter: &Counter, now: Timestamp) -> bool {
        let unused_for = match is_over(counter, now) {
            true => OVER_AFTER,
            false => self.config.counter_idle(),
        };
        let flushed_to = self.flushed_to.load(std::sync::atomic::Ordering::Acquire);
        let since = self.leasing.now().checked_sub(unused_for);
        since.is_some_and(|since| counter.is_idle(since, flushed_to))
    }

    fn forget_values(&self, real_now: Timestamp) {
        self.values.forget(|key| {
            !self.directory.known(&key.tenant).is_some_and(|state| state.is_current(key, real_now))
        });
    }
}

fn is_over(counter: &Counter, now: Timestamp) -> bool {
    counter.window.end.is_some_and(|end| end <= now)
}
