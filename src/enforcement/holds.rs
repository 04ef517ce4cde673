//! The reservations that this run keeps: what is held, and until when.
//!
//! A hold lives in memory only. When its sidecar dies, what it held is given back with the rest of
//! the run's escrow, and usage that is reported for it afterwards is recorded as late: it is never
//! lost, but no longer covered by the hold.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use ahash::RandomState;
use dashmap::DashMap;
use jiff::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

/// Bits of a hold's number that count; the rest tell whose it is. At a million holds a second they
/// last for half a year.
const COUNT_BITS: u32 = 44;

/// One hold: units taken from a counter's escrow and not yet spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold<T> {
    /// The units; they go back when this is dropped.
    pub taken: T,
    pub expires_at: Timestamp,
}

/// The table of holds. Whoever removes a hold owns its units: nothing is released twice.
#[derive(Debug)]
pub struct Holds<T> {
    next_number: AtomicU64,
    by_number: DashMap<u64, Hold<T>, RandomState>,
    /// Guards the order of expiry; taken alone, never with a map guard.
    by_expiry: Mutex<BTreeSet<(Timestamp, u64)>>,
    holds_max: usize,
}

impl<T> Holds<T> {
    /// Keeps at most `holds_max` holds at a time.
    pub fn new(holds_max: usize) -> Self {
        Self {
            next_number: AtomicU64::new(1),
            by_number: DashMap::with_hasher(RandomState::new()),
            by_expiry: Mutex::default(),
            holds_max,
        }
    }

    /// Keeps a hold of `owner` and numbers it; gives it back when the table is full.
    pub fn place(&self, hold: Hold<T>, owner: &str) -> Result<u64, Hold<T>> {
        let mut by_expiry = self.lock_expiry();
        if by_expiry.len() >= self.holds_max {
            return Err(hold);
        }
        let number = self.next_number.fetch_add(1, Ordering::Relaxed) | mark(owner);
        by_expiry.insert((hold.expires_at, number));
        drop(by_expiry);
        self.by_number.insert(number, hold);
        Ok(number)
    }

    /// Puts a hold back that [`Holds::remove`] took out, because what was to settle it was refused.
    pub fn restore(&self, number: u64, hold: Hold<T>) {
        self.lock_expiry().insert((hold.expires_at, number));
        self.by_number.insert(number, hold);
    }

    /// Looks at a hold in its place; `None` when it never was, has ended or has expired.
    pub fn peek<R>(&self, number: u64, look: impl FnOnce(&Hold<T>) -> R) -> Option<R> {
        self.by_number.get(&number).map(|hold| look(&hold))
    }

    /// Takes a hold out of the table; `None` when it never was, has ended or has expired.
    pub fn remove(&self, number: u64) -> Option<Hold<T>> {
        let (_, hold) = self.by_number.remove(&number)?;
        self.lock_expiry().remove(&(hold.expires_at, number));
        Some(hold)
    }

    /// Takes out every hold that has expired by `now`, at most `holds_max_per_call` of them.
    pub fn remove_expired(&self, now: Timestamp, holds_max_per_call: usize) -> Vec<Hold<T>> {
        let due: Vec<u64> = self
            .lock_expiry()
            .iter()
            .take_while(|(expires_at, _)| *expires_at <= now)
            .take(holds_max_per_call)
            .map(|(_, number)| *number)
            .collect();
        due.into_iter().filter_map(|number| self.remove(number)).collect()
    }

    /// Whether a hold that has ended was one of `owner`. Holds leave nothing behind but their
    /// number, which carries 20 bits of its owner: of a million others, one is taken for it.
    pub fn was_of(&self, number: u64, owner: &str) -> bool {
        let count = number & ((1 << COUNT_BITS) - 1);
        let was_given = (1..self.next_number.load(Ordering::Relaxed)).contains(&count);
        was_given && number == count | mark(owner)
    }

    /// Number of holds in the table.
    pub fn len(&self) -> usize {
        self.lock_expiry().len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock_expiry(&self) -> std::sync::MutexGuard<'_, BTreeSet<(Timestamp, u64)>> {
        self.by_expiry.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// What the numbers of an owner's holds begin with.
fn mark(owner: &str) -> u64 {
    xxh3_64(owner.as_bytes()) >> COUNT_BITS << COUNT_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(seconds: i64) -> Hold<&'static str> {
        Hold { taken: "5 tokens", expires_at: Timestamp::from_second(seconds).unwrap() }
    }

    #[test]
    fn a_hold_is_removed_once() {
        let holds = Holds::new(10);
        let number = holds.place(hold(100), "acme").unwrap();
        assert_eq!(holds.remove(number), Some(hold(100)));
        assert_eq!(holds.remove(number), None);
        assert!(holds.is_empty());
    }

    #[test]
    fn only_what_is_due_expires() {
        let holds = Holds::new(10);
        holds.place(hold(100), "acme").unwrap();
        let later = holds.place(hold(200), "acme").unwrap();
        let expired = holds.remove_expired(Timestamp::from_second(100).unwrap(), 10);
        assert_eq!(expired, vec![hold(100)]);
        assert!(holds.remove(later).is_some());
    }

    #[test]
    fn a_full_table_gives_the_hold_back() {
        let holds = Holds::new(1);
        holds.place(hold(1), "acme").unwrap();
        assert_eq!(holds.place(hold(2), "acme"), Err(hold(2)));
    }

    #[test]
    fn what_has_ended_is_known_to_its_owner_alone() {
        let holds = Holds::new(10);
        let number = holds.place(hold(100), "acme").unwrap();
        holds.remove(number);
        assert!(holds.was_of(number, "acme"));
        assert!(!holds.was_of(number, "globex"));
        assert!(!holds.was_of(number + 1, "acme"), "it has not been given yet");
        assert!(!holds.was_of(0, "acme"));
    }
}
