//! What dropped counters of all tenants left, for later counters of their keys to go on from
//! ([`crate::leases::dropped`]).
//!
//! They may be many more than those that are live, so each takes few bytes. They are in parts, each
//! with a lock of its own. Who takes it may hold that of a tenant's counters, and takes no other
//! meanwhile.

use std::{
    hash::BuildHasher,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    domain::{
        cell_key::CellKey, ids::TenantId, one_seed::OneSeed, packed_map::PackedMap,
        window::WindowLabel,
    },
    enforcement::counter::Left,
    leases::dropped::PastTo,
};

/// Parts, so that few who come at a time wait for each other.
const PARTS: usize = 64;

/// What counters left, by key.
#[derive(Debug)]
pub(super) struct LeftBehind {
    /// Each guards what counters of some tenants left; held for a look-up, or for a search of it.
    parts: Box<[Mutex<Part>]>,
    /// The part that is searched next, as they are counted round and round.
    next: AtomicUsize,
}

#[derive(Debug)]
struct Part {
    kept: PackedMap<Kept>,
    /// None of their windows ends before.
    first_end: Timestamp,
    /// For tenants that live by the real clock: how far the windows reach of which nothing is kept, as
    /// those knew who were dropped. It is for all tenants of the part: one more name for each would be
    /// most of what a tenant takes.
    past_to: PastTo,
}

/// What is known of a key of which there is no live counter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// What its last counter left.
    pub left: Option<Left>,
    /// How far the windows reach of which nothing is kept of tenants that were dropped, for one that
    /// lives by the real clock.
    pub past_to: PastTo,
}

impl Default for Part {
    fn default() -> Self {
        let past_to = PastTo::default();
        Self { kept: PackedMap::default(), first_end: Timestamp::MAX, past_to }
    }
}

/// What a counter left, as it is kept.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Kept {
    end: KeptEnd,
    left: Left,
}

/// When the window of a key ends.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum KeptEnd {
    Never,
    /// So many seconds after the second that its label names.
    After(u64),
    /// In parts: there is no such number.
    At(i64, i32),
}

impl KeptEnd {
    fn of(end: Option<Timestamp>, label: WindowLabel) -> Self {
        let Some(end) = end else { return Self::Never };
        let (second, nanosecond) = (end.as_second(), end.subsec_nanosecond());
        let after = second.checked_sub(label.start).and_then(|after| u64::try_from(after).ok());
        match after {
            Some(after) if nanosecond == 0 => Self::After(after),
            _ => Self::At(second, nanosecond),
        }
    }

    fn time(self, label: WindowLabel) -> Option<Timestamp> {
        match self {
            Self::Never => None,
            Self::After(after) => {
                Timestamp::from_second(label.start.checked_add_unsigned(after)?).ok()
            }
            Self::At(second, nanosecond) => Timestamp::new(second, nanosecond).ok(),
        }
    }
}

impl Default for LeftBehind {
    fn default() -> Self {
        let parts = (0..PARTS).map(|_| Mutex::default()).collect();
        Self { parts, next: AtomicUsize::new(0) }
    }
}

impl LeftBehind {
    /// What is known of `key`.
    pub fn look(&self, key: &CellKey) -> Found {
        let part = self.part_of(&key.tenant);
        let left = part.kept.get(key.parts()).map(|kept| kept.left);
        Found { left, past_to: part.past_to }
    }

    /// There is a counter of `key` again.
    pub fn resume(&self, key: &CellKey) {
        self.part_of(&key.tenant).kept.change(key.parts(), |kept| *kept = None);
    }

    /// The counter of `key` is dropped. `end` is that of its window, if it has one.
    pub fn leave(&self, key: &CellKey, end: Option<Timestamp>, left: Left) {
        let mut part = self.part_of(&key.tenant);
        part.first_end = part.first_end.min(end.unwrap_or(Timestamp::MAX));
        let new = Kept { end: KeptEnd::of(end, key.label), left };
        part.kept.change(key.parts(), |kept| *kept = Some(new));
    }

    /// Forgets what a counter of `key` left, if its window is over at `now`, the tenant's. Answers
    /// when it has ended.
    pub fn forget(&self, key: &CellKey, now: Timestamp) -> Option<Timestamp> {
        self.part_of(&key.tenant).forget(key, now)
    }

    /// As [`LeftBehind::forget`], of a tenant that was dropped, or not yet: no further counter of `key`
    /// is made by one that finds nothing.
    pub fn forget_of_dropped(&self, key: &CellKey, now: Timestamp) -> Option<Timestamp> {
        let mut part = self.part_of(&key.tenant);
        let end = part.forget(key, now);
        part.past_to.pass(end, now);
        end
    }

    /// A tenant that lives by the real clock, and of whose windows nothing is kept to there, is dropped.
    pub fn pass(&self, tenant: &TenantId, past_to: PastTo) {
        let mut part = self.part_of(tenant);
        part.past_to = part.past_to.max(past_to);
    }

    /// Keys in one of the parts whose windows are over at `now`, if it is their tenants' present too: at
    /// most as many as the part has. Asked again and again, it comes to all parts.
    pub fn search(&self, now: Timestamp) -> Vec<CellKey> {
        let place = self.next.fetch_add(1, Relaxed) % PARTS;
        lock(&self.parts[place]).search(now)
    }

    fn part_of(&self, tenant: &TenantId) -> MutexGuard<'_, Part> {
        lock(&self.parts[OneSeed.hash_one(tenant) as usize % PARTS])
    }
}

impl Part {
    fn forget(&mut self, key: &CellKey, now: Timestamp) -> Option<Timestamp> {
        self.kept.change(key.parts(), |kept| {
            let end = kept.as_ref()?.end.time(key.label).filter(|end| *end <= now)?;
            *kept = None;
            Some(end)
        })
    }

    fn search(&mut self, now: Timestamp) -> Vec<CellKey> {
        self.kept.shrink();
        let mut over = vec![];
        if self.first_end > now {
            return over;
        }
        self.first_end = Timestamp::MAX;
        for (key, kept) in self.kept.iter() {
            if let Some(end) = kept.end.time(key.label) {
                self.first_end = self.first_end.min(end);
                // Whatever is a key here was one when it came.
                over.extend((end <= now).then(|| key.to_key().ok()).flatten());
            }
        }
        over
    }
}

/// Nothing that holds the lock panics half way through a change.
fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use proptest::{option, prelude::*};

    use super::*;

    fn key(tenant: &str, start: i64) -> CellKey {
        CellKey {
            tenant: tenant.parse().unwrap(),
            meter: "calls".parse().unwrap(),
            subject: None,
            label: format!("minute:{start}:1").parse().unwrap(),
        }
    }

    proptest! {
        #[test]
        fn the_end_of_a_window_is_kept_as_it_is(
            end in option::of((-100_000_000_000_i64..100_000_000_000, 0..1_000_000_000, any::<bool>())),
            start in prop_oneof![any::<i64>(), -100_000_000_000_i64..100_000_000_000],
        ) {
            let end = end.map(|(second, nanosecond, is_whole)| {
                Timestamp::new(second, if is_whole { 0 } else { nanosecond }).unwrap()
            });
            let label = key("acme", start).label;
            prop_assert_eq!(KeptEnd::of(end, label).time(label), end);
        }
    }

    #[test]
    fn what_a_counter_of_a_month_left_takes_few_bytes() {
        let label = "month:1793491200:1".parse().unwrap();
        let end = Some("2026-12-01T00:00:00Z".parse().unwrap());
        let kept = Kept { end: KeptEnd::of(end, label), left: Left::default() };
        assert_eq!(postcard::to_allocvec(&kept).unwrap().len(), 5 + 7);
    }

    #[test]
    fn all_that_may_be_over_is_found_by_and_by_and_forgotten_by_its_tenants_clock() {
        let left = LeftBehind::default();
        let end = Timestamp::UNIX_EPOCH + 1.minute();
        let early: Vec<_> = (0..1_000).map(|tenant| key(&format!("tenant-{tenant}"), 0)).collect();
        for key in &early {
            left.leave(key, Some(end), Left::default());
        }
        let late = key("tenant-7", 60);
        left.leave(&late, Some(end + 1.minute()), Left::default());
        left.leave(&key("tenant-7", 120), None, Left::default());
        let search = |now| {
            (0..PARTS).flat_map(|_| left.search(now)).collect::<std::collections::BTreeSet<_>>()
        };
        assert!(search(end - 1.nanosecond()).is_empty());
        for _ in 0..2 {
            assert_eq!(search(end), early.iter().cloned().collect());
        }
        assert_eq!(left.forget(&early[0], end - 1.nanosecond()), None);
        assert_eq!(left.look(&early[0]).left, Some(Left::default()));
        for key in &early {
            assert_eq!(left.forget(key, end), Some(end));
            assert_eq!((left.look(key).left, left.forget(key, end)), (None, None));
        }
        assert!(search(end).is_empty());
        assert_eq!(search(Timestamp::MAX), [late].into());
    }
}
