//! The rates of one tenant: made when they are first asked for, forgotten when they are unused.

use std::{
    cmp::Ordering,
    collections::HashMap,
    sync::{
        RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use super::key::RateKey;
use crate::{
    domain::{
        catalog::{compiled_plan::PlanRate, names::RateName, operations::RateScope},
        ids::Subject,
        one_seed::OneSeed,
    },
    leases::rate::message::RateTerms,
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
    /// Few, and found sooner by looking through them than by a hash of the name.
    rates: Vec<(RateName, OfRate)>,
    /// Subjects over all rates.
    subjects: usize,
}

#[derive(Debug, Default)]
struct OfRate {
    whole: Option<Known>,
    subjects: HashMap<Subject, Known, OneSeed>,
}

impl Kept {
    fn of(&self, rate: &RateName) -> Option<&OfRate> {
        self.rates.iter().find(|(name, _)| name == rate).map(|(_, of_rate)| of_rate)
    }

    fn of_mut(&mut self, rate: &RateName) -> &mut OfRate {
        let place = self.rates.iter().position(|(name, _)| name == rate);
        let place = place.unwrap_or_else(|| {
            self.rates.push((rate.clone(), OfRate::default()));
            self.rates.len() - 1
        });
        &mut self.rates[place].1
    }
}

/// A key, and the terms that it was made for or has been told last.
#[derive(Debug)]
struct Known {
    version: u64,
    scope: RateScope,
    key: RateKey,
}

impl Known {
    /// Whether it serves a request that came under the terms of `version`. One that came under
    /// older ones is judged by the newer: else the two would change the key with every request.
    fn is_for(&self, version: u64, rate: &PlanRate) -> bool {
        match version.cmp(&self.version) {
            Ordering::Less => true,
            Ordering::Equal => self.scope == rate.rate.scope,
            Ordering::Greater => false,
        }
    }
}

impl OfRate {
    fn get(&self, subject: Option<&Subject>) -> Option<&Known> {
        match subject {
            None => self.whole.as_ref(),
            Some(subject) => self.subjects.get(subject),
        }
    }

    fn put(&mut self, subject: Option<&Subject>, key: Known) {
        match subject {
            None => self.whole = Some(key),
            Some(subject) => {
                self.subjects.insert(subject.clone(), key);
            }
        }
    }
}

impl TenantRates {
    /// The key of a rate as the tenant has it at its `version`; `fresh` makes it when it is new. The
    /// rate of the whole tenant always has one; a subject gets one if there is room.
    pub fn key(
        &self,
        (version, rate): (u64, &PlanRate),
        subject: Option<&Subject>,
        budget: &SubjectBudget,
        now_ns: impl FnOnce() -> u64,
        fresh: impl FnOnce() -> RateKey,
    ) -> Result<RateKey, TooManySubjects> {
        let find = |kept: &Kept| -> Option<RateKey> {
            let known = kept.of(&rate.rate.name)?.get(subject)?;
            known.is_for(version, rate).then(|| known.key.clone())
        };
        if let Some(key) = find(&self.read()) {
            return Ok(key);
        }
        let mut kept = self.write();
        if let Some(key) = find(&kept) {
            return Ok(key);
        }
        let known = kept.of(&rate.rate.name).and_then(|of_rate| of_rate.get(subject));
        let key = match known {
            Some(known) => {
                let terms = RateTerms { version, windows: rate.windows.clone() };
                known.key.changed_to(terms, fresh())
            }
            None => {
                if subject.is_some() {
                    if !budget.has_room(kept.subjects) {
                        self.search(&mut kept, budget, now_ns());
                    }
                    if !budget.has_room(kept.subjects) {
                        return Err(TooManySubjects);
                    }
                    kept.subjects += 1;
                    budget.live.fetch_add(1, Relaxed);
                }
                fresh()
            }
        };
        kept.of_mut(&rate.rate.name)
            .put(subject, Known { version, scope: rate.rate.scope, key: key.clone() });
        Ok(key)
    }

    /// Forgets the keys that a new one is as good as and that nobody else holds.
    pub fn forget_unused(&self, budget: &SubjectBudget, now_ns: u64) {
        if !self.read().rates.is_empty() {
            forget(&mut self.write(), budget, now_ns);
        }
    }

    /// Whether there is no key.
    pub fn are_unused(&self) -> bool {
        self.read().rates.is_empty()
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
    let is_kept = |known: &Known| !known.key.is_unused(now_ns);
    kept.rates.retain_mut(|(_, of_rate)| {
        of_rate.whole = of_rate.whole.take().filter(is_kept);
        of_rate.subjects.retain(|_, known| is_kept(known));
        of_rate.whole.is_some() || !of_rate.subjects.is_empty()
    });
    let subjects = kept.rates.iter().map(|(_, of_rate)| of_rate.subjects.len()).sum();
    budget.live.fetch_sub(kept.subjects.saturating_sub(subjects), Relaxed);
    kept.subjects = subjects;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::{
        clock::Clock,
        domain::{catalog::operations::RateDef, rate::RateWindow},
        enforcement::rates::decided::{Decided, Outcome, Want},
        leases::rate::stack::RateStack,
    };

    /// A tenant's rates, on a clock that is set by hand.
    struct Bench {
        rates: TenantRates,
        budget: SubjectBudget,
        clock: Clock,
    }

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

    impl Bench {
        fn new(tenant_max: usize, total_max: usize) -> Self {
            let budget = SubjectBudget::new(tenant_max, total_max);
            Self { rates: TenantRates::default(), budget, clock: Clock::manual(second(1)) }
        }

        fn key(&self, permits: u32, subject: Option<usize>) -> Result<RateKey, TooManySubjects> {
            self.key_at(1, permits, subject)
        }

        fn key_at(
            &self,
            version: u64,
            permits: u32,
            subject: Option<usize>,
        ) -> Result<RateKey, TooManySubjects> {
            let subject = subject.map(|number| Subject::new(format!("user-{number}")).unwrap());
            let (rate, clock) = (rate(permits), self.clock.clone());
            let stack = Arc::new(RateStack::new(rate.windows.clone()));
            let fresh = || RateKey::Own { stack, clock };
            let now_ns = self.clock.steady_ns();
            self.rates.key((version, &rate), subject.as_ref(), &self.budget, || now_ns, fresh)
        }

        /// Whether one more passes, at one per second.
        fn take(&self, subject: usize) -> bool {
            take(&self.key(1, Some(subject)).unwrap(), 1)
        }

        fn wait_ms(&self, ms: i64) {
            self.clock.set(self.clock.now() + SignedDuration::from_millis(ms));
        }

        fn forget_unused(&self) {
            self.rates.forget_unused(&self.budget, self.clock.steady_ns());
        }
    }

    fn second(number: i64) -> Timestamp {
        Timestamp::from_second(number).unwrap()
    }

    fn take(key: &RateKey, permits: u32) -> bool {
        let decided = key.offhand(permits, Want::Take);
        matches!(decided, Some(Decided { outcome: Outcome::Met(None), .. }))
    }

    #[test]
    fn a_key_goes_on_while_it_is_used_and_is_forgotten_when_a_new_one_is_as_good() {
        let bench = Bench::new(10, 10);
        assert!(bench.take(1));
        bench.wait_ms(999);
        bench.forget_unused();
        assert!(!bench.take(1));
        assert_eq!((bench.budget.live(), bench.rates.are_unused()), (1, false));
        bench.wait_ms(1);
        bench.forget_unused();
        assert_eq!((bench.budget.live(), bench.rates.are_unused()), (0, true));
    }

    #[test]
    fn at_the_bound_unused_subjects_make_room_and_used_ones_do_not() {
        let bench = Bench::new(3, 10);
        assert!(bench.take(0) && bench.take(2));
        bench.key(1, Some(1)).unwrap();
        bench.wait_ms(500);
        assert!(bench.take(3));
        assert_eq!(bench.key(1, Some(4)).err(), Some(TooManySubjects));
        assert_eq!(bench.budget.live(), 3);
        assert!(bench.key(1, None).is_ok());
    }

    #[test]
    fn all_tenants_share_one_bound() {
        let bench = Bench::new(10, 2);
        assert!(bench.take(1));
        let other = Bench { rates: TenantRates::default(), ..bench };
        assert!(other.take(1));
        assert_eq!(other.key(1, Some(2)).err(), Some(TooManySubjects));
    }

    #[test]
    fn another_plan_takes_what_was_used_along() {
        let bench = Bench::new(10, 10);
        assert!(take(&bench.key(10, None).unwrap(), 10));
        let raised = bench.key_at(2, 100, None).unwrap();
        assert_eq!(raised.standings().tightest().unwrap().remaining, 90);
        // And goes on as that.
        assert!(take(&bench.key_at(2, 100, None).unwrap(), 90));
        assert!(!take(&bench.key_at(2, 100, None).unwrap(), 1));
    }

    #[test]
    fn requests_under_old_and_new_terms_by_turns_refund_nothing() {
        let bench = Bench::new(10, 10);
        let mut admitted = 0;
        for _ in 0..500 {
            admitted += u32::from(take(&bench.key_at(2, 100, None).unwrap(), 1));
            // Ten per second would cut what is owed to ten.
            admitted += u32::from(take(&bench.key_at(1, 10, None).unwrap(), 1));
        }
        assert_eq!(admitted, 100);
    }
}
