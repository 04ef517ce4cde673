//! The rates of one tenant: made when they are first asked for, forgotten when they are unused.

use std::sync::{
    Arc, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use ahash::AHashMap;

use super::key::RateKey;
use crate::domain::{
    catalog::{compiled_plan::PlanRate, names::RateName},
    ids::Subject,
    rate::RateWindow,
};

/// A tenant whose subjects are at their bound is searched for unused ones at most so often.
const SEARCH_EVERY_NS: u64 = 100_000_000;

/// How many subjects may be live at a time.
#[derive(Debug)]
pub struct SubjectBudget {
    tenant_max: usize,
    total_max: usize,
    live: AtomicUsize,
}

impl SubjectBudget {
    /// At most `tenant_max` of one tenant, and `total_max` of all.
    pub fn new(tenant_max: usize, total_max: usize) -> Self {
        Self { tenant_max, total_max, live: AtomicUsize::new(0) }
    }

    /// Subjects that are live now.
    pub fn live(&self) -> usize {
        self.live.load(Relaxed)
    }

    fn has_room(&self, of_tenant: usize) -> bool {
        of_tenant < self.tenant_max && self.live() < self.total_max
    }
}

/// More subjects are live than are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManySubjects;

/// The rates of one tenant.
#[derive(Debug, Default)]
pub struct TenantRates {
    /// Held for a look-up, or for a sweep.
    kept: RwLock<Kept>,
    searched_at_ns: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    rates: AHashMap<RateName, OfRate>,
    /// Subjects over all rates.
    subjects: usize,
}

#[derive(Debug, Default)]
struct OfRate {
    whole: Option<Arc<RateKey>>,
    subjects: AHashMap<Subject, Arc<RateKey>>,
}

impl OfRate {
    fn get(&self, subject: Option<&Subject>) -> Option<&Arc<RateKey>> {
        match subject {
            None => self.whole.as_ref(),
            Some(subject) => self.subjects.get(subject),
        }
    }

    fn put(&mut self, subject: Option<&Subject>, key: Arc<RateKey>) {
        match subject {
            None => self.whole = Some(key),
            Some(subject) => {
                self.subjects.insert(subject.clone(), key);
            }
        }
    }
}

impl TenantRates {
    /// The key of a rate, made when it is new or what the plan allows has changed. The rate of the
    /// whole tenant always has one; a subject gets one if there is room.
    pub fn key(
        &self,
        rate: &PlanRate,
        subject: Option<&Subject>,
        budget: &SubjectBudget,
        now_ns: u64,
    ) -> Result<Arc<RateKey>, TooManySubjects> {
        if let Some(key) = self.known(&rate.rate.name, subject)
            && is_same(key.windows(), &rate.windows)
        {
            return Ok(key);
        }
        let mut kept = self.write();
        let known = kept.rates.get(&rate.rate.name).and_then(|of_rate| of_rate.get(subject));
        let key = match known {
            Some(known) if is_same(known.windows(), &rate.windows) => return Ok(known.clone()),
            Some(known) => known.with_windows(rate.windows.clone(), now_ns),
            None => {
                if subject.is_some() {
                    if !budget.has_room(kept.subjects) {
                        self.search(&mut kept, budget, now_ns);
                    }
                    if !budget.has_room(kept.subjects) {
                        return Err(TooManySubjects);
                    }
                    kept.subjects += 1;
                    budget.live.fetch_add(1, Relaxed);
                }
                RateKey::new(rate.windows.clone())
            }
        };
        let key = Arc::new(key);
        let of_rate = kept.rates.entry(rate.rate.name.clone()).or_default();
        of_rate.put(subject, key.clone());
        Ok(key)
    }

    /// Forgets the keys that a new one is as good as and that nobody else holds.
    pub fn forget_unused(&self, budget: &SubjectBudget, now_ns: u64) {
        if !self.read().rates.is_empty() {
            forget(&mut self.write(), budget, now_ns);
        }
    }

    fn known(&self, rate: &RateName, subject: Option<&Subject>) -> Option<Arc<RateKey>> {
        self.read().rates.get(rate).and_then(|of_rate| of_rate.get(subject)).cloned()
    }

    fn search(&self, kept: &mut Kept, budget: &SubjectBudget, now_ns: u64) {
        let searched_at_ns = self.searched_at_ns.load(Relaxed);
        if searched_at_ns == 0 || now_ns.saturating_sub(searched_at_ns) >= SEARCH_EVERY_NS {
            self.searched_at_ns.store(now_ns.max(1), Relaxed);
            forget(kept, budget, now_ns);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Kept> {
        self.kept.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, Kept> {
        self.kept.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Whoever looks a key up does so under the same lock, so one with a single holder gets no second
/// while it is forgotten.
fn forget(kept: &mut Kept, budget: &SubjectBudget, now_ns: u64) {
    let is_kept = |key: &Arc<RateKey>| Arc::strong_count(key) > 1 || !key.is_unused(now_ns);
    kept.rates.retain(|_, of_rate| {
        of_rate.whole = of_rate.whole.take().filter(is_kept);
        of_rate.subjects.retain(|_, key| is_kept(key));
        of_rate.whole.is_some() || !of_rate.subjects.is_empty()
    });
    let subjects = kept.rates.values().map(|of_rate| of_rate.subjects.len()).sum();
    budget.live.fetch_sub(kept.subjects.saturating_sub(subjects), Relaxed);
    kept.subjects = subjects;
}

fn is_same(one: &Arc<[RateWindow]>, other: &Arc<[RateWindow]>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalog::operations::{RateDef, RateScope};

    const SECOND_NS: u64 = 1_000_000_000;

    fn rate(permits: u32) -> PlanRate {
        let window = RateWindow::new(permits, std::time::Duration::from_secs(1), permits);
        let rate = RateDef {
            name: RateName::new("api").unwrap(),
            title: None,
            scope: RateScope::Sidecar,
            subject: Some("user".into()),
            on_outage: None,
        };
        PlanRate { rate, windows: [window].into() }
    }

    fn subject(number: usize) -> Subject {
        Subject::new(format!("user-{number}")).unwrap()
    }

    #[test]
    fn a_key_goes_on_while_it_is_used_and_is_forgotten_when_a_new_one_is_as_good() {
        let (rates, budget) = (TenantRates::default(), SubjectBudget::new(10, 10));
        let one = subject(1);
        let key = || rates.key(&rate(1), Some(&one), &budget, 0).unwrap();
        assert!(key().take(1, 0).is_ok());
        rates.forget_unused(&budget, SECOND_NS - 1);
        assert!(key().take(1, 0).is_err());
        assert_eq!(budget.live(), 1);
        rates.forget_unused(&budget, SECOND_NS);
        assert_eq!(budget.live(), 0);
    }

    #[test]
    fn at_the_bound_unused_subjects_make_room_and_used_ones_do_not() {
        let (rates, budget) = (TenantRates::default(), SubjectBudget::new(3, 10));
        for number in 0..3 {
            let key = rates.key(&rate(1), Some(&subject(number)), &budget, 0).unwrap();
            assert!(number == 1 || key.take(1, 0).is_ok());
        }
        assert!(rates.key(&rate(1), Some(&subject(3)), &budget, SECOND_NS / 2).is_ok());
        let full = rates.key(&rate(1), Some(&subject(4)), &budget, SECOND_NS / 2 + 1);
        assert_eq!(full.err(), Some(TooManySubjects));
        assert_eq!(budget.live(), 3);
        assert!(rates.key(&rate(1), None, &budget, SECOND_NS / 2).is_ok());
    }

    #[test]
    fn all_tenants_share_one_bound() {
        let budget = SubjectBudget::new(10, 2);
        let tenants = [TenantRates::default(), TenantRates::default()];
        for tenant in &tenants {
            let key = tenant.key(&rate(1), Some(&subject(1)), &budget, 0).unwrap();
            key.take(1, 0).unwrap();
        }
        assert!(tenants[0].key(&rate(1), Some(&subject(2)), &budget, 0).is_err());
    }

    #[test]
    fn another_plan_takes_what_was_used_along() {
        let (rates, budget) = (TenantRates::default(), SubjectBudget::new(10, 10));
        rates.key(&rate(10), None, &budget, 0).unwrap().take(10, 0).unwrap();
        let raised = rates.key(&rate(100), None, &budget, 0).unwrap();
        assert_eq!(raised.standings(0).tightest().unwrap().remaining, 90);
    }
}
