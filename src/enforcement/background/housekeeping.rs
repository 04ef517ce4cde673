//! What has to be done every now and then: lapse holds, retire counters, drop tenants, save the
//! snapshot.

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
        counter::Counter,
        directory::{tenant_state::TenantState, walking::Walk},
        engine::Engine,
        lease_metrics::Outstanding,
    },
};

/// How often lapsed holds are given back.
const EXPIRE_EVERY: Duration = Duration::from_millis(100);
/// How often all counters are looked at, unless they are too many for that. After each time the snapshot
/// is saved.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Tenants that are looked at in one step.
const STEP_TENANTS_MAX: usize = 2_000;
/// Counters after which a step ends, with the tenant that they are of.
const STEP_COUNTERS_MAX: usize = 2_000;
/// The least pause between two steps. It makes the sweep of more than five million counters longer
/// than [`SWEEP_EVERY`].
const PAUSE_MIN: Duration = Duration::from_millis(2);
/// The counters of windows that begin within this time are made ahead; so long may the ledger be
/// away before a new window falls to its limit's outage policy.
const PREPARED_AHEAD: SignedDuration = SignedDuration::from_secs(120);
/// Only where the window before was used within this time.
const PREPARED_IF_USED_WITHIN: Duration = Duration::from_secs(300);
/// At the end of a sweep, what dropped counters left is searched so many times for what may be
/// forgotten: eight sweeps come to all of it.
const LEFT_SEARCHES: usize = 8;
/// What a dropped counter left is kept for so long after its window's end.
const LEFT_AFTER: SignedDuration = SignedDuration::from_secs(30);
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
    let mut sweep = Sweep::default();
    while !stop.is_cancelled() {
        // In a thread of its own: those who serve are not held up.
        let swept = engine.clone();
        let begun = spawn_blocking(move || {
            let step = swept.sweep_some(&mut sweep);
            (sweep, step)
        });
        let step = match begun.await {
            Ok((swept, step)) => {
                sweep = swept;
                step
            }
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            // The runtime ends.
            Err(_) => return,
        };
        if step.is_last {
            save(engine).await;
        }
        tokio::select! {
            () = sleep(step.pause()) => {}
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

/// A look at all counters, some at a time, so that none of its steps takes long.
#[derive(Debug, Default)]
struct Sweep {
    walk: Walk,
    /// Counters seen so far.
    live: usize,
    outstanding: Outstanding,
    /// Counters of one tenant for which there is something to do; kept for its room.
    due: Vec<Arc<Counter>>,
    /// As `due`, whose alerts may have changed.
    doubted: Vec<Arc<Counter>>,
}

/// What a step of a sweep came to.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Tenants that were looked at, of so many.
    tenants: usize,
    of: usize,
    /// It was the last one.
    is_last: bool,
}

impl Step {
    /// How long to wait before the next one: with all of them a sweep takes [`SWEEP_EVERY`], unless
    /// they are too many for it.
    fn pause(self) -> Duration {
        let (tenants, of) = (self.tenants.max(1), self.of.max(1));
        #[allow(clippy::cast_precision_loss)] // A pause need not be exact.
        let part = tenants as f64 / of as f64;
        SWEEP_EVERY.mul_f64(part.min(1.0)).max(PAUSE_MIN)
    }
}

impl Engine {
    /// Goes on with a sweep. Retires counters that are over or idle, drops those that are done, and
    /// tenants that are then unused, and, when it has come to the end, sets the gauges and begins anew.
    fn sweep_some(self: &Arc<Self>, sweep: &mut Sweep) -> Step {
        let real_now = self.clock.now();
        let mut walk = std::mem::take(&mut sweep.walk);
        let of = walk.of(&self.directory);
        let (met, live) = (walk.met(), sweep.live);
        let mut is_last = false;
        while !is_last
            && walk.met() - met < STEP_TENANTS_MAX
            && sweep.live - live < STEP_COUNTERS_MAX
        {
            let look = |state: &TenantState| self.sweep_tenant(state, real_now, sweep);
            is_last = !walk.go_on(&self.directory, look);
        }
        let tenants = walk.met() - met;
        match is_last {
            true => self.finish_sweep(std::mem::take(sweep), real_now),
            false => sweep.walk = walk,
        }
        Step { tenants, of, is_last }
    }

    fn sweep_tenant(self: &Arc<Self>, state: &TenantState, real_now: Timestamp, sweep: &mut Sweep) {
        let terms = state.look_at_terms();
        let now = terms.tenant.now(real_now);
        let Sweep { live, outstanding, due, doubted, .. } = sweep;
        let mut has_done = false;
        state.look_at_all_counters(|counter| {
            *live += 1;
            let is_idle = self.is_idle(counter, now);
            let is_changed = counter.look_at_slow(|slow| {
                outstanding.add(slow.holder.outstanding(&counter.cell));
                // Used again, or to be retired.
                match is_idle {
                    true => !counter.has_parted_by(slow),
                    false => slow.holder.is_retiring(),
                }
            });
            has_done |= is_idle && counter.is_done();
            if is_changed || self.is_next_due(counter, now) {
                due.push(counter.clone());
            }
            if self.may_have_changed_alerts(counter) {
                doubted.push(counter.clone());
            }
        });
        doubted.drain(..).for_each(|counter| self.doubt_alerts(&terms, &counter));
        for counter in due.drain(..) {
            self.part_or_revive(&counter, now);
            self.prepare_next(state, &counter, now);
        }
        state.rates().forget_unused(self.rates.subjects(), self.clock.steady_ns());
        let is_done = |counter: &Counter| counter.is_done() && self.is_idle(counter, now);
        terms.let_go_of_pools(is_done);
        if has_done {
            self.forget_over(&state.drop_done_counters(now, is_done));
        }
    }

    fn finish_sweep(&self, sweep: Sweep, real_now: Timestamp) {
        self.leasing.counters.shrink();
        self.directory.shrink();
        // Who has begun in a window just before its end is done with it by then.
        let past = real_now.saturating_sub(LEFT_AFTER).unwrap_or(Timestamp::MIN);
        (0..LEFT_SEARCHES).for_each(|_| self.forget_over(&self.directory.forget_left(past)));
        self.forget_values(real_now);
        self.alerts.forget(|key| self.directory.is_current(key, real_now));
        #[allow(clippy::cast_precision_loss)] // Gauges are doubles.
        {
            metrics::gauge!("tollgate_counters_live").set(sweep.live as f64);
            metrics::gauge!("tollgate_tenants_live").set(self.directory.len() as f64);
            metrics::gauge!("tollgate_rate_subjects_live").set(self.rates.subjects().live() as f64);
            metrics::gauge!("tollgate_reservations_live").set(self.holds.len() as f64);
        }
        self.leasing.metrics.show(sweep.outstanding);
    }

    /// Has the counters in this process, if they are here, forget keys whose windows are over.
    fn forget_over(&self, keys: &[CellKey]) {
        keys.iter().for_each(|key| self.leasing.counters.forget_over(key));
    }

    fn part_or_revive(&self, counter: &Arc<Counter>, now: Timestamp) {
        let is_over = is_over(counter, now);
        if self.is_idle(counter, now) {
            if counter.has_parted() {
                return;
            }
            counter.part(self.leasing.retentions.of(&counter.key));
        } else {
            let is_retiring = counter.look_at_slow(|slow| slow.holder.is_retiring());
            // The process' end retires all, and for good.
            if !is_retiring || is_over || self.check_open().is_err() {
                return;
            }
            // Used again before it was dropped.
            counter.revive();
        }
        self.leasing.wake(counter);
    }

    /// Whether the counter of the window after is to be made, unless it was made before.
    fn is_next_due(&self, counter: &Counter, now: Timestamp) -> bool {
        let Some(end) = counter.window.end() else { return false };
        let is_near = now < end && end.duration_since(now) <= PREPARED_AHEAD;
        let is_used = || {
            let lately = self.leasing.now().saturating_sub(PREPARED_IF_USED_WITHIN);
            counter.used_at() >= lately
        };
        is_near && is_used() && !counter.key.label.is_of_grant()
    }

    /// Makes the counter of the next window ahead of time, where this one is in use and about to
    /// end: a counter that is new to the shared counters needs the ledger, which may be away then.
    fn prepare_next(self: &Arc<Self>, state: &TenantState, counter: &Counter, now: Timestamp) {
        let Some(end) = counter.window.end() else { return };
        if !self.is_next_due(counter, now) || !counter.claim_next() {
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
        self.values.forget(|key| !self.directory.is_current(key, real_now));
    }
}

fn is_over(counter: &Counter, now: Timestamp) -> bool {
    counter.window.is_over(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_of_a_sweep_fill_its_time_unless_its_steps_are_too_many() {
        let sweep = |steps: usize, tenants| {
            let step = |place| Step { tenants, of: steps * tenants, is_last: place == steps };
            (1..=steps).map(|place| step(place).pause()).sum::<Duration>()
        };
        assert_eq!(sweep(1, 1), SWEEP_EVERY);
        assert_eq!(sweep(2_500, 2_000), SWEEP_EVERY);
        assert_eq!(sweep(5_000, 2_000), 2 * SWEEP_EVERY);
        let nobody = Step { tenants: 0, of: 0, is_last: true };
        assert_eq!(nobody.pause(), SWEEP_EVERY);
    }
}
