//! Usage alerts, as this sidecar sees them: which counters are worth a look, and what stands.
//!
//! The ledger raises and resolves; it is only asked about counters whose figures here say something
//! else than what was last settled.

use std::sync::{Mutex, MutexGuard};

use ahash::{AHashMap, AHashSet};

use super::directory::tenant_state::Terms;
use crate::{
    domain::{
        alerts::{Alert, AlertKind, is_reached},
        catalog::{compiled_plan::PlanMeter, decimal::Percent, policies::AlertPolicy},
        cell_key::CellKey,
        meter::MeterKind,
        usage_status::MeterStatus,
    },
    ledger::alerts::{AlertThreshold, StandingAlert},
};

/// Counters that wait for a look; beyond it they wait for the next sweep.
const DUE_MAX: usize = 100_000;
/// Counters whose standing alerts are remembered; of others the ledger is asked again.
const STANDING_MAX: usize = 1_000_000;

/// What is known of alerts.
#[derive(Debug, Default)]
pub struct Alerts {
    due: Mutex<AHashSet<CellKey>>,
    /// As they were last settled; counters without any are absent.
    standing: Mutex<AHashMap<CellKey, Vec<StandingAlert>>>,
}

impl Alerts {
    /// Asks for a look at counters: something was counted, or their limits have changed.
    pub fn look_at(&self, keys: impl IntoIterator<Item = CellKey>) {
        let mut due = lock(&self.due);
        // Thresholds are of the plan's limits: grants have none.
        for key in keys.into_iter().filter(|key| !key.label.is_of_grant()) {
            if due.len() >= DUE_MAX {
                return;
            }
            due.insert(key);
        }
    }

    /// Takes out all counters that wait for a look.
    pub fn take_due(&self) -> AHashSet<CellKey> {
        std::mem::take(&mut lock(&self.due))
    }

    /// What stood when `key` was last settled.
    pub fn standing(&self, key: &CellKey) -> Vec<StandingAlert> {
        lock(&self.standing).get(key).cloned().unwrap_or_default()
    }

    /// How many stood when `key` was last settled.
    pub fn standing_of(&self, key: &CellKey) -> usize {
        lock(&self.standing).get(key).map_or(0, Vec::len)
    }

    /// Notes what stands now.
    pub fn settled(&self, key: CellKey, alerts: Vec<StandingAlert>) {
        let mut standing = lock(&self.standing);
        if alerts.is_empty() {
            standing.remove(&key);
        } else if standing.len() < STANDING_MAX || standing.contains_key(&key) {
            standing.insert(key, alerts);
        }
    }

    /// Forgets what stood of counters that are not `live` any more.
    pub fn forget(&self, live: impl Fn(&CellKey) -> bool) {
        lock(&self.standing).retain(|key, _| live(key));
    }

    /// The alerts of a meter whose usage is `status`, whether they are noted yet or not. Where that is
    /// not what was last settled, the counter is looked at soon.
    pub fn of(&self, terms: &Terms, meter: &PlanMeter, status: &MeterStatus) -> Vec<Alert> {
        let reached: Vec<_> = thresholds(terms, meter)
            .into_iter()
            .filter(|threshold| is_reached(threshold.percent, status.used, status.limit))
            .collect();
        let key = CellKey {
            tenant: terms.tenant.id.clone(),
            meter: status.meter.clone(),
            subject: status.subject.clone(),
            label: status.window.label,
        };
        let noted = self.standing(&key);
        if noted.len() != reached.len() {
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

/// How many thresholds of a limit `used` units reach.
pub fn reached(terms: &Terms, meter: &PlanMeter, used: i64) -> usize {
    let catalog = terms.catalog();
    let is_reached = |percent: &&Percent| is_reached(**percent, used, meter.limit.amount);
    percents(terms, &catalog.definition().alerts, meter).iter().filter(is_reached).count()
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
