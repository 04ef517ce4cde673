//! Usage alerts, as this sidecar sees them: which counters are worth a look, and what stands.
//!
//! The ledger raises and resolves; it is only asked about counters whose figures here say something
//! else than what was last settled.

use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use ahash::{AHashMap, AHashSet};

use super::directory::tenant_state::Terms;
use crate::{
    domain::{
        alerts::{Alert, AlertKind, is_reached},
        catalog::{compiled_plan::PlanMeter, decimal::Percent, policies::AlertPolicy},
        cell_key::CellKey,
        ids::TenantId,
        meter::MeterKind,
        usage_status::MeterStatus,
    },
    ledger::alerts::{AlertThreshold, StandingAlert},
};

/// Counters that wait for a look; beyond it the sweep finds them.
const DUE_MAX: usize = 1_000_000;
/// Counters whose settlement is remembered; the ledger is asked about others whenever they reach a
/// threshold.
const SETTLED_MAX: usize = 1_000_000;
/// Counters whose figures here say something else than the ledger; beyond it the sweep finds them.
const DIFFERING_MAX: usize = 100_000;
/// How long a counter that differs waits for its next look: as long as its last wait again, from the
/// first to the last of these.
const DIFFERING_WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// What is recommended where a pool runs out: the catalog's words are about plans.
const POOL_ACTION: &str = "Have the pool made larger, or use less of it.";

/// What is known of alerts.
#[derive(Debug)]
pub struct Alerts {
    /// Somebody takes out what waits for a look.
    is_looked_at: bool,
    due: Mutex<AHashSet<CellKey>>,
    /// What stood when a counter was last settled. One that is absent was not settled yet: what
    /// stands of it is not known, which is something else than that nothing does.
    settled: Mutex<AHashMap<CellKey, Vec<StandingAlert>>>,
    differing: Mutex<AHashMap<CellKey, Differing>>,
}

/// A counter of which usage is not flushed yet, or that Redis has not told of, or never will.
#[derive(Clone, Copy, Debug)]
struct Differing {
    /// Since the start of the run.
    next_look: Duration,
    wait: Duration,
}

impl Alerts {
    /// Nothing known yet. Without a ledger nobody looks at counters, and none of them waits.
    pub fn new(has_ledger: bool) -> Self {
        Self {
            is_looked_at: has_ledger,
            due: Mutex::default(),
            settled: Mutex::default(),
            differing: Mutex::default(),
        }
    }

    /// Whether counters are looked at.
    pub fn are_looked_at(&self) -> bool {
        self.is_looked_at
    }

    /// Asks for a look at counters: something was counted, or their limits have changed.
    pub fn look_at(&self, keys: impl IntoIterator<Item = CellKey>) {
        if !self.is_looked_at {
            return;
        }
        let mut due = lock(&self.due);
        for key in keys.into_iter().filter(has_thresholds) {
            if due.len() >= DUE_MAX {
                return;
            }
            due.insert(match key.tenant.pool() {
                // Whichever share of the pool it is.
                Some(pool) => CellKey { tenant: TenantId::of_pool(pool, None), ..key },
                None => key,
            });
        }
    }

    /// Takes out all counters that wait for a look at `now`, since the start of the run.
    pub fn take_due(&self, now: Duration) -> AHashSet<CellKey> {
        let mut due = std::mem::take(&mut *lock(&self.due));
        let differing = lock(&self.differing);
        due.extend(
            differing.iter().filter(|(_, it)| it.next_look <= now).map(|(key, _)| key.clone()),
        );
        due
    }

    /// What stood when `key` was last settled; `None` when it was not yet.
    pub fn standing(&self, key: &CellKey) -> Option<Vec<StandingAlert>> {
        lock(&self.settled).get(key).cloned()
    }

    /// Whether `reached` thresholds are those that stand, as far as it is known.
    pub fn agrees(&self, key: &CellKey, reached: &[Percent]) -> bool {
        let settled = lock(&self.settled);
        match settled.get(key) {
            Some(standing) => standing.iter().map(|alert| &alert.percent).eq(reached),
            // Beyond the bound, what reaches nothing is taken for settled.
            None => reached.is_empty() && settled.len() >= SETTLED_MAX,
        }
    }

    /// Whether the next look at `key` is arranged for, because the ledger had no more to say.
    pub fn is_differing(&self, key: &CellKey) -> bool {
        lock(&self.differing).contains_key(key)
    }

    /// Notes what stands now.
    pub fn settled(&self, key: CellKey, alerts: Vec<StandingAlert>) {
        let mut settled = lock(&self.settled);
        if settled.len() < SETTLED_MAX || settled.contains_key(&key) {
            settled.insert(key, alerts);
        }
    }

    /// Notes that the figures of `key` agree with the ledger.
    pub fn agree(&self, key: &CellKey) {
        lock(&self.differing).remove(key);
    }

    /// Notes that the figures of `key` still differ from the ledger at `now`, since the start of the
    /// run, and has it looked at later and later.
    pub fn differ(&self, key: CellKey, now: Duration) {
        let mut differing = lock(&self.differing);
        let (first, last) = DIFFERING_WAITS;
        let wait = match differing.get(&key) {
            // A look that an event asked for is not one more in vain.
            Some(known) if known.next_look > now => known.wait,
            Some(known) => (known.wait * 2).min(last),
            None if differing.len() >= DIFFERING_MAX => return,
            None => first,
        };
        differing.insert(key, Differing { next_look: now + wait, wait });
    }

    /// Forgets what was known of counters that are not `live` any more.
    pub fn forget(&self, live: impl Fn(&CellKey) -> bool) {
        lock(&self.settled).retain(|key, _| live(key));
        lock(&self.differing).retain(|key, _| live(key));
    }

    /// The alerts of a meter whose usage is `status`, whether they are noted yet or not. Where that is
    /// not what was last settled, the counter is looked at soon.
    pub fn of(&self, terms: &Terms, meter: &PlanMeter, status: &MeterStatus) -> Vec<Alert> {
        let pool = status.pool.as_ref().zip(terms.membership(meter));
        let (thresholds, used, key) = match pool {
            Some((pool, membership)) => {
                let key = membership.alert_key(pool.label);
                (pool_thresholds(terms), pool.used.cast_signed(), key)
            }
            None => {
                let key = CellKey {
                    tenant: terms.tenant.id.clone(),
                    meter: status.meter.clone(),
                    subject: status.subject.clone(),
                    label: status.window.label,
                };
                (thresholds(terms, meter), status.used, key)
            }
        };
        let is_reached = |one: &AlertThreshold| is_reached(one.percent, used, status.limit);
        let reached: Vec<_> = thresholds.into_iter().filter(is_reached).collect();
        let percents: Vec<_> = reached.iter().map(|threshold| threshold.percent).collect();
        let noted = self.standing(&key).unwrap_or_default();
        if !self.agrees(&key, &percents) && !self.is_differing(&key) {
            self.look_at([key]);
        }
        let raised_at = |percent| {
            noted.iter().find(|alert| alert.percent == percent).map(|alert| alert.raised_at)
        };
        reached
            .into_iter()
            .map(|threshold| Alert {
                meter: status.meter.clone(),
                subject: status.subject.clone(),
                raised_at: raised_at(threshold.percent),
                resolved_at: None,
                threshold: threshold.percent,
                recommended_action: threshold.recommended_action,
            })
            .collect()
    }
}

/// Whether there are thresholds of what `key` counts: they are of the plans' limits and of pools, and
/// grants have none.
pub fn has_thresholds(key: &CellKey) -> bool {
    !key.label.is_of_grant()
}

/// The thresholds of a limit, with what the catalog recommends at each.
pub fn thresholds(terms: &Terms, meter: &PlanMeter) -> Vec<AlertThreshold> {
    let catalog = terms.catalog();
    let policy = &catalog.definition().alerts;
    let recommended =
        |percent| AlertKind::of(percent).recommended_action(policy).map(str::to_owned);
    percents(terms, policy, meter)
        .iter()
        .map(|percent| AlertThreshold {
            percent: *percent,
            recommended_action: recommended(*percent),
        })
        .collect()
}

/// The thresholds of the shares of pools: the catalog's.
pub fn pool_thresholds(terms: &Terms) -> Vec<AlertThreshold> {
    let catalog = terms.catalog();
    let recommended_action = Some(POOL_ACTION.to_owned());
    let percents = catalog.definition().alerts.thresholds.iter();
    percents
        .map(|percent| AlertThreshold {
            percent: *percent,
            recommended_action: recommended_action.clone(),
        })
        .collect()
}

/// The thresholds of a limit that `used` units reach, in the order of [`thresholds`].
pub fn reached(terms: &Terms, meter: &PlanMeter, used: i64) -> Vec<Percent> {
    let catalog = terms.catalog();
    let is_reached = |percent: &&Percent| is_reached(**percent, used, meter.limit.amount);
    let percents = percents(terms, &catalog.definition().alerts, meter);
    percents.iter().filter(is_reached).copied().collect()
}

/// The plan's own thresholds of a limit, or the catalog's. What is only read, or unlimited, has none.
fn percents<'a>(terms: &'a Terms, policy: &'a AlertPolicy, meter: &PlanMeter) -> &'a [Percent] {
    if meter.meter.kind == MeterKind::Static || meter.limit.amount.is_none() {
        return &[];
    }
    let own = terms.plan.definition.plan.limits.get(&meter.meter.name);
    own.and_then(|limit| limit.alerts.as_deref()).unwrap_or(&policy.thresholds)
}

/// Nothing that holds one of these locks panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::ids::MeterName;

    fn key(meter: &str) -> CellKey {
        CellKey {
            tenant: TenantId::new("acme").unwrap(),
            meter: MeterName::new(meter).unwrap(),
            subject: None,
            label: "lifetime:0:0".parse().unwrap(),
        }
    }

    fn percents(texts: &[&str]) -> Vec<Percent> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn standing(texts: &[&str]) -> Vec<StandingAlert> {
        let alert = |percent| StandingAlert { percent, raised_at: Timestamp::UNIX_EPOCH };
        percents(texts).into_iter().map(alert).collect()
    }

    #[test]
    fn where_nobody_looks_no_counter_waits_for_it() {
        for (has_ledger, waiting) in [(true, 1), (false, 0)] {
            let alerts = Alerts::new(has_ledger);
            alerts.look_at([key("calls")]);
            assert_eq!(alerts.take_due(Duration::ZERO).len(), waiting);
        }
    }

    #[test]
    fn what_was_never_settled_agrees_with_nothing() {
        let alerts = Alerts::new(true);
        assert!(!alerts.agrees(&key("calls"), &[]));
        alerts.settled(key("calls"), vec![]);
        assert!(alerts.agrees(&key("calls"), &[]));
        assert!(!alerts.agrees(&key("calls"), &percents(&["80"])));
        assert!(!alerts.agrees(&key("seats"), &[]));
    }

    #[test]
    fn other_thresholds_of_the_same_number_do_not_agree() {
        let alerts = Alerts::new(true);
        alerts.settled(key("calls"), standing(&["80"]));
        assert!(alerts.agrees(&key("calls"), &percents(&["80"])));
        assert!(!alerts.agrees(&key("calls"), &percents(&["50"])));
    }

    #[test]
    fn a_lasting_difference_is_looked_at_less_and_less() {
        let alerts = Alerts::new(true);
        let (mut now, mut looks) = (Duration::ZERO, 0);
        alerts.differ(key("calls"), now);
        while now < Duration::from_hours(1) {
            now += Duration::from_secs(1);
            for key in alerts.take_due(now) {
                looks += 1;
                alerts.differ(key, now);
            }
        }
        assert_eq!(looks, 6 + 58, "after 1, 3, 7, 15, 31 and 63 seconds, then every minute");
        alerts.agree(&key("calls"));
        assert!(alerts.take_due(now + Duration::from_hours(1)).is_empty());
    }
}
