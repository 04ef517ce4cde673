//! One tenant's counters: those that are live, and what is to be known of dropped ones.
//!
//! A later counter of the same key goes on from what a dropped one left (`leases::dropped`). Usage that
//! is recorded in windows that are over still goes to the ledger, and no longer to the counters.

use std::{
    collections::HashMap,
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use jiff::Timestamp;

use super::{left_behind::LeftBehind, live::Live, meter_names::MeterNames, onlooker::Onlooker};
use crate::{
    domain::{
        cell_key::CellKey,
        ids::{MeterName, TenantId},
        one_seed::OneSeed,
        window::Window,
    },
    enforcement::counter::Counter,
    leases::{
        dropped::{Past, PastTo},
        message::Ceiling,
    },
};

/// Dropped counters of one tenant's subjects that leave something, at most; beyond it they stay live.
/// Callers name subjects as they like. Of counters without one there are no more than meters, windows
/// that are not over, and grants.
const LEFT_OF_SUBJECTS_MAX: usize = 100_000;

/// Why there is no counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoCounter {
    /// Its window is over and its counter was dropped.
    Past,
    /// The meter has as many live counters, of subjects and of past windows, as are allowed.
    TooMany,
}

/// What all counters of a directory share.
#[derive(Debug, Default)]
pub struct CounterSeed {
    names: MeterNames,
    left: LeftBehind,
}

impl CounterSeed {
    /// Keys of counters that have left something, of some tenants, whose windows are over at `now`, if
    /// it is their tenants' present too. Asked again and again, it comes to all tenants.
    pub fn search_left(&self, now: Timestamp) -> Vec<CellKey> {
        self.left.search(now)
    }

    /// Forgets what a counter of `key` left, whose tenant is not in memory and lives by the real clock,
    /// if its window is over at `now`; whether it is.
    pub fn forget_left(&self, key: &CellKey, now: Timestamp) -> bool {
        self.left.forget_of_dropped(key, now).is_some()
    }
}

/// What a counter is made by.
#[derive(Clone, Copy, Debug)]
pub struct Basis {
    pub ceiling: Ceiling,
    /// Its tenant lives by another clock than the real one.
    pub is_on_test_clock: bool,
}

/// The counters of all windows and subjects.
#[derive(Debug)]
pub struct Counters {
    /// Held for a look-up, or while counters are dropped. Under it, what they left is looked up and
    /// put away: nobody makes a counter whose dropped one has not left yet what it leaves.
    kept: RwLock<Kept>,
    seed: Arc<CounterSeed>,
}

#[derive(Debug, Default)]
struct Kept {
    live: Live,
    /// How many of them each meter has. Counted from when that is first asked: of most tenants it
    /// never is.
    live_of_meter: Option<Box<OfMeters>>,
    /// Made when there is something to be known of counters that were dropped.
    dropped: Option<Box<Dropped>>,
}

/// What a tenant knows of its dropped counters. What they left is with those of all tenants.
#[derive(Debug, Default)]
struct Dropped {
    /// Those of subjects that left something.
    subjects: usize,
    /// How far the windows of those reach of which nothing is kept.
    past_to: PastTo,
}

/// Counters by their meters.
#[derive(Debug, Default)]
struct OfMeters(HashMap<MeterName, usize, OneSeed>);

impl OfMeters {
    fn count(&mut self, meter: &MeterName) {
        *self.0.entry(meter.clone()).or_default() += 1;
    }

    fn uncount(&mut self, meter: &MeterName) {
        if let Some(counted) = self.0.get_mut(meter) {
            *counted = counted.saturating_sub(1);
        }
    }
}

impl Counters {
    /// None yet.
    pub fn new(seed: Arc<CounterSeed>) -> Self {
        Self { kept: RwLock::default(), seed }
    }

    /// The counter of `key`, if it is live.
    pub fn get(&self, key: &CellKey) -> Option<Arc<Counter>> {
        self.read().live.get(key).cloned()
    }

    /// The counter of `key`, made when it is not live. `basis` is asked while no other counter
    /// can be made. Where the meter has `meter_max` counters already, it gets no further one;
    /// absent, it always does.
    pub fn get_or_new(
        &self,
        key: &CellKey,
        window: Window,
        meter_max: Option<usize>,
        basis: impl FnOnce() -> Basis,
    ) -> Result<Arc<Counter>, NoCounter> {
        if let Some(counter) = self.get(key) {
            return Ok(counter);
        }
        let mut kept = self.write();
        if let Some(counter) = kept.live.get(key) {
            return Ok(counter.clone());
        }
        let Basis { ceiling, is_on_test_clock } = basis();
        let found = self.seed.left.look(key);
        let past_to = match is_on_test_clock {
            true => kept.past_to(),
            false => kept.past_to().max(found.past_to),
        };
        let left = past_to.look(found.left, &window).map_err(|Past| NoCounter::Past)?;
        if meter_max.is_some_and(|max| kept.count_of(&key.meter) >= max) {
            return Err(NoCounter::TooMany);
        }
        if left.is_some() {
            self.seed.left.resume(key);
            kept.uncount_left(key);
        }
        let key = self.seed.names.shared(key);
        let counter = Arc::new(match left {
            None => Counter::new(key, window, ceiling),
            Some(left) => Counter::resumed(key, window, ceiling, left),
        });
        kept.insert(counter.clone());
        Ok(counter)
    }

    /// Somebody more who only looks at `counter`, which the caller has found here and holds. `None`:
    /// counters are being dropped, which may take long.
    pub fn onlooker(&self, counter: &Arc<Counter>) -> Option<Onlooker> {
        // Nobody drops a counter and counts its onlookers meanwhile.
        let _kept = self.kept.try_read().ok()?;
        Some(Onlooker::new(counter.clone()))
    }

    /// All live counters.
    pub fn all(&self) -> Vec<Arc<Counter>> {
        self.read().live.iter().cloned().collect()
    }

    /// Has `look` look at all live counters; none comes or goes meanwhile.
    pub fn look_at_all(&self, look: impl FnMut(&Arc<Counter>)) {
        self.read().live.iter().for_each(look);
    }

    /// Drops the counters that are `done` and that nobody else holds to use them; `now` is the
    /// tenant's.
    ///
    /// Whoever looks a counter up does so under the same lock, so a counter with a single holder
    /// gets no second one while it is dropped.
    ///
    /// Answers the keys of those whose windows are over: nobody makes counters of them any more.
    pub fn drop_done(&self, now: Timestamp, done: impl Fn(&Counter) -> bool) -> Vec<CellKey> {
        let mut over = vec![];
        let mut kept = self.write();
        let Kept { live, live_of_meter, dropped } = &mut *kept;
        live.retain(|counter| {
            let (key, end) = (&counter.key, counter.window.end());
            let is_bounded = key.subject.is_some() && !counter.window.is_over(now);
            let left = dropped.as_ref().map_or(0, |dropped| dropped.subjects);
            if counter.onlookers.are_not_alone(|| Arc::strong_count(counter))
                || !done(counter)
                || (is_bounded && left >= LEFT_OF_SUBJECTS_MAX)
            {
                return true;
            }
            if let Some(of_meter) = live_of_meter {
                of_meter.uncount(&key.meter);
            }
            if counter.window.is_over(now) {
                dropped.get_or_insert_default().past_to.pass(end, now);
                over.push(key.clone());
            } else {
                self.seed.left.leave(key, end, counter.left());
                if key.subject.is_some() {
                    dropped.get_or_insert_default().subjects += 1;
                }
            }
            // Before it is out of `live`, but nobody finds it any more: who could has a share of it,
            // with which it would have been kept.
            counter.onlookers.send_away();
            false
        });
        if let Some(of_meter) = live_of_meter {
            of_meter.0.retain(|_, live| *live > 0);
        }
        if kept.live.is_empty() {
            kept.live_of_meter = None;
        }
        over
    }

    /// Forgets what a counter of `key` left, if its window is over at `now`, the tenant's.
    ///
    /// Answers whether it did.
    pub fn forget_left(&self, key: &CellKey, now: Timestamp) -> bool {
        let mut kept = self.write();
        let Some(end) = self.seed.left.forget(key, now) else { return false };
        kept.uncount_left(key);
        kept.dropped.get_or_insert_default().past_to.pass(Some(end), now);
        true
    }

    /// Whether none is live, and what is known of dropped ones may be forgotten but for
    /// [`Counters::hand_over`]: those of subjects stay counted.
    pub fn are_unused(&self) -> bool {
        let kept = self.read();
        let left = kept.dropped.as_ref().map_or(0, |dropped| dropped.subjects);
        kept.live.is_empty() && left == 0
    }

    /// Puts what has to be known of dropped ones to where other counters of `tenant` find it, that are
    /// made when these are no more. It lives by the real clock.
    pub fn hand_over(&self, tenant: &TenantId) {
        self.seed.left.pass(tenant, self.read().past_to());
    }

    fn read(&self) -> RwLockReadGuard<'_, Kept> {
        self.kept.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, Kept> {
        self.kept.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Kept {
    fn insert(&mut self, counter: Arc<Counter>) {
        if let Some(of_meter) = &mut self.live_of_meter {
            of_meter.count(&counter.key.meter);
        }
        self.live.insert(counter);
    }

    /// How far the windows reach of which nothing is kept.
    fn past_to(&self) -> PastTo {
        self.dropped.as_ref().map_or(PastTo::default(), |dropped| dropped.past_to)
    }

    /// What a counter of `key` had left is not kept any more.
    fn uncount_left(&mut self, key: &CellKey) {
        if key.subject.is_some()
            && let Some(dropped) = &mut self.dropped
        {
            dropped.subjects = dropped.subjects.saturating_sub(1);
        }
    }

    /// How many counters of `meter` are live.
    fn count_of(&mut self, meter: &MeterName) -> usize {
        let of_meter = self.live_of_meter.get_or_insert_with(|| {
            let mut of_meter = Box::<OfMeters>::default();
            self.live.iter().for_each(|counter| of_meter.count(&counter.key.meter));
            of_meter
        });
        of_meter.0.get(meter).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;
    use crate::domain::{
        ids::{Subject, TenantId},
        period::Period,
        window::WindowLabel,
    };

    const BASIS: Basis =
        Basis { ceiling: Ceiling { units: Some(100), version: 1 }, is_on_test_clock: false };

    fn counters() -> Counters {
        Counters::new(Arc::default())
    }

    /// The key of a subject, in a window of the first minute ever.
    fn cell(subject: &str) -> (CellKey, Window) {
        let label = WindowLabel { period: Period::Minute, start: 0, anchor_version: 1 };
        let start = Timestamp::UNIX_EPOCH;
        let key = CellKey {
            tenant: TenantId::new("acme").unwrap(),
            meter: MeterName::new("calls").unwrap(),
            subject: Some(Subject::new(subject).unwrap()),
            label,
        };
        (key, Window { label, start, end: Some(start + 1.minute()) })
    }

    fn make(counters: &Counters, subject: &str, max: usize) -> Result<Arc<Counter>, NoCounter> {
        let (key, window) = cell(subject);
        counters.get_or_new(&key, window, Some(max), || BASIS)
    }

    #[test]
    fn a_counter_that_was_dropped_in_mid_window_goes_on_with_its_totals() {
        let counters = counters();
        let first = make(&counters, "a", 9).unwrap();
        first.cell.record(10);
        first.refuse(4);
        first.undo_to(1);
        drop(first);
        assert_eq!(counters.drop_done(Timestamp::UNIX_EPOCH, |_| true), []);
        assert!(counters.all().is_empty());
        let again = make(&counters, "a", 9).unwrap();
        assert_eq!((again.cell.counts().recorded, again.cell.counts().undone), (10, 5));
        assert_eq!(again.undo_to(1), 0, "what was refused is not the ledger's");
        assert_eq!(again.undo_to(3), 2);
    }

    #[test]
    fn counters_are_found_by_their_keys_however_many_there_are() {
        let counters = counters();
        let is_live = |subject| counters.get(&cell(subject).0).is_some();
        let live = || (counters.all().len(), ["a", "b", "c"].map(is_live));
        assert_eq!(live(), (0, [false, false, false]));
        make(&counters, "a", 9).unwrap();
        assert_eq!(live(), (1, [true, false, false]));
        let held = make(&counters, "b", 9).unwrap();
        make(&counters, "c", 9).unwrap();
        assert_eq!(live(), (3, [true, true, true]));
        counters.drop_done(Timestamp::UNIX_EPOCH, |_| true);
        assert_eq!(live(), (1, [false, true, false]));
        drop(held);
        counters.drop_done(Timestamp::UNIX_EPOCH, |_| true);
        assert_eq!(live(), (0, [false, false, false]));
    }

    #[test]
    fn counters_are_found_while_they_become_many_and_few_again() {
        let counters = counters();
        let name = |number: usize| format!("subject-{number}");
        for number in 0..100 {
            make(&counters, &name(number), 100).unwrap();
            let is_live = |other: usize| counters.get(&cell(&name(other)).0).is_some();
            assert!((0..=number).all(is_live) && !is_live(number + 1), "with {number} before");
        }
        for left in (0..100).rev() {
            let first_out = cell(&name(left)).0;
            counters.drop_done(Timestamp::UNIX_EPOCH, |counter| counter.key == first_out);
            let live = counters.all();
            assert_eq!(live.len(), left);
            assert!(live.iter().all(|counter| {
                counters.get(&counter.key).is_some_and(|found| Arc::ptr_eq(&found, counter))
            }));
            assert!(counters.get(&first_out).is_none());
        }
    }

    #[test]
    fn a_counter_that_was_dropped_unopened_is_not_taken_for_opened() {
        let counters = counters();
        let opened = make(&counters, "opened", 9).unwrap();
        opened.set_opened();
        drop(opened);
        make(&counters, "unopened", 9).unwrap();
        counters.drop_done(Timestamp::UNIX_EPOCH, |_| true);
        let is_opened = |subject| make(&counters, subject, 9).unwrap().is_opened();
        assert!(is_opened("opened"), "it is journalled again and again");
        assert!(!is_opened("unopened"), "whoever closes the run would not know of the key");
    }

    #[test]
    fn a_window_whose_counters_were_dropped_after_its_end_gets_no_new_one() {
        let counters = counters();
        make(&counters, "a", 9).unwrap();
        let over = counters.drop_done(Timestamp::UNIX_EPOCH + 1.minute(), |_| true);
        assert_eq!(over, [cell("a").0]);
        assert_eq!(make(&counters, "b", 9).unwrap_err(), NoCounter::Past);
    }

    #[test]
    fn what_a_counter_left_is_forgotten_once_its_window_is_over_which_then_gets_no_new_one() {
        let counters = counters();
        let (key, window) = cell("a");
        make(&counters, "a", 9).unwrap().cell.record(10);
        counters.drop_done(Timestamp::UNIX_EPOCH, |_| true);
        counters.forget_left(&key, Timestamp::UNIX_EPOCH);
        let again = make(&counters, "a", 9).unwrap();
        assert_eq!(again.cell.counts().recorded, 10);
        drop(again);
        counters.drop_done(Timestamp::UNIX_EPOCH, |_| true);
        assert!(make(&counters, "b", 9).is_ok());
        counters.forget_left(&key, window.end.unwrap());
        for subject in ["a", "c"] {
            assert_eq!(make(&counters, subject, 9).unwrap_err(), NoCounter::Past);
        }
    }

    #[test]
    fn a_subject_beyond_those_that_may_leave_something_stays_live() {
        let counters = counters();
        let drop_all = || {
            counters.drop_done(Timestamp::UNIX_EPOCH, |_| true);
            counters.all().len()
        };
        for subject in 0..=LEFT_OF_SUBJECTS_MAX {
            make(&counters, &subject.to_string(), usize::MAX).unwrap();
        }
        assert_eq!(drop_all(), 1);
        make(&counters, "one-more", usize::MAX).unwrap();
        assert_eq!(drop_all(), 2);
        let live = counters.all().pop().unwrap().key.clone();
        let gone = (0..).map(|subject| cell(&subject.to_string()).0).find(|key| *key != live);
        counters.forget_left(&gone.unwrap(), Timestamp::MAX);
        assert_eq!(drop_all(), 1);
        // Of windows that are over nothing is left.
        counters.drop_done(Timestamp::MAX, |_| true);
        assert!(counters.all().is_empty());
    }

    #[test]
    fn a_counter_in_hand_is_not_dropped_and_no_more_are_made_than_allowed() {
        let counters = counters();
        let held = make(&counters, "a", 1).unwrap();
        counters.drop_done(Timestamp::UNIX_EPOCH, |_| true);
        assert_eq!(make(&counters, "b", 1).unwrap_err(), NoCounter::TooMany);
        drop(held);
        counters.drop_done(Timestamp::UNIX_EPOCH, |_| true);
        assert!(make(&counters, "b", 1).is_ok());
    }
}
