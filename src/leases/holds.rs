//! The reservations that this run keeps: what is held, and until when.
//!
//! A hold lives in memory only. When its sidecar dies, what it held is given back with the rest of
//! the run's escrow, and usage that is reported for it afterwards is recorded as late: it is never
//! lost, but no longer covered by the hold.
//!
//! What a hold is settled with counts in the window that it was made in, however long that is over.
//! So a run says through when its usage is in the ledger only up to its oldest hold
//! ([`Holds::oldest`]), and billing waits for holds as it does for usage that is not flushed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
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

/// Instants in order, each with a number that makes it unique.
type Instants = Mutex<BTreeSet<(Timestamp, u64)>>;

/// One hold: units taken from a counter's escrow and not yet spent.
#[derive(Debug)]
pub struct Hold<T> {
    /// The units; they go back when this is dropped.
    pub taken: T,
    pub expires_at: Timestamp,
    /// Whoever settles the hold keeps it, and so this, until the journal has what it is settled with.
    _since: Arc<HeldSince>,
}

impl<T> Hold<T> {
    /// A hold that was begun before its units were taken.
    pub fn new(taken: T, expires_at: Timestamp, since: Arc<HeldSince>) -> Self {
        Self { taken, expires_at, _since: since }
    }
}

/// Says that something is, or is about to be, held since an instant, until it is dropped.
#[derive(Debug)]
pub struct HeldSince {
    entry: (Timestamp, u64),
    /// Guards the instants; taken alone.
    all: Arc<Instants>,
}

impl Drop for HeldSince {
    fn drop(&mut self) {
        lock(&self.all).remove(&self.entry);
    }
}

/// The table of holds. Whoever removes a hold owns its units: nothing is released twice.
#[derive(Debug)]
pub struct Holds<T> {
    next_number: AtomicU64,
    by_number: DashMap<u64, Hold<T>, RandomState>,
    /// Guards the order of expiry; taken alone, never with a map guard.
    by_expiry: Instants,
    since: Arc<Instants>,
    since_number: AtomicU64,
    holds_max: usize,
}

impl<T> Holds<T> {
    /// Keeps at most `holds_max` holds at a time.
    pub fn new(holds_max: usize) -> Self {
        Self {
            next_number: AtomicU64::new(1),
            by_number: DashMap::with_hasher(RandomState::new()),
            by_expiry: Instants::default(),
            since: Arc::default(),
            since_number: AtomicU64::new(0),
            holds_max,
        }
    }

    /// Begins a hold at `now`, real time: after the clock was read for its window, and before its
    /// units are taken, which may take a while.
    pub fn begin(&self, now: Timestamp) -> Arc<HeldSince> {
        let entry = (now, self.since_number.fetch_add(1, Ordering::Relaxed));
        lock(&self.since).insert(entry);
        Arc::new(HeldSince { entry, all: self.since.clone() })
    }

    /// Since when the oldest hold is kept, or begun, or being settled; real time.
    pub fn oldest(&self) -> Option<Timestamp> {
        lock(&self.since).first().map(|(since, _)| *since)
    }

    /// Keeps a hold of `owner` and numbers it; gives it back when the table is full.
    pub fn place(&self, hold: Hold<T>, owner: &str) -> Result<u64, Hold<T>> {
        let mut by_expiry = lock(&self.by_expiry);
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
    fn restore(&self, number: u64, hold: Hold<T>) {
        lock(&self.by_expiry).insert((hold.expires_at, number));
        self.by_number.insert(number, hold);
    }

    /// Looks at a hold in its place; `None` when it never was, has ended or has expired.
    pub fn peek<R>(&self, number: u64, look: impl FnOnce(&Hold<T>) -> R) -> Option<R> {
        self.by_number.get(&number).map(|hold| look(&hold))
    }

    /// Takes a hold out of the table; `None` when it never was, has ended or has expired.
    pub fn remove(&self, number: u64) -> Option<Hold<T>> {
        let (_, hold) = self.by_number.remove(&number)?;
        lock(&self.by_expiry).remove(&(hold.expires_at, number));
        Some(hold)
    }

    /// Takes out every hold that has expired by `now`, at most `holds_max_per_call` of them.
    pub fn remove_expired(&self, now: Timestamp, holds_max_per_call: usize) -> Vec<Hold<T>> {
        let due: Vec<u64> = lock(&self.by_expiry)
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
        lock(&self.by_expiry).len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Holds that a request settles, by the number of the event that settles each. Dropped before the
/// journal has what they are settled with (a refusal, a caller that hung up), it puts them back.
#[derive(Debug)]
pub struct Settled<'a, T> {
    of: &'a Holds<T>,
    by_event: BTreeMap<usize, (u64, Hold<T>)>,
}

impl<'a, T> Settled<'a, T> {
    /// None of `of` yet.
    pub fn none(of: &'a Holds<T>) -> Self {
        Self { of, by_event: BTreeMap::new() }
    }

    /// Takes the hold of this number for `event`; `None` when it has ended or expired.
    pub fn take(&mut self, event: usize, number: u64) -> Option<&Hold<T>> {
        let hold = self.of.remove(number)?;
        self.by_event.insert(event, (number, hold));
        self.get(event)
    }

    /// The hold that `event` settles.
    pub fn get(&self, event: usize) -> Option<&Hold<T>> {
        self.by_event.get(&event).map(|(_, hold)| hold)
    }

    /// Hands out the hold that `event` settles, for good: the journal has the event.
    pub fn end(&mut self, event: usize) -> Option<Hold<T>> {
        self.by_event.remove(&event).map(|(_, hold)| hold)
    }
}

impl<T> Drop for Settled<'_, T> {
    fn drop(&mut self) {
        for (number, hold) in std::mem::take(&mut self.by_event).into_values() {
            self.of.restore(number, hold);
        }
    }
}

fn lock(instants: &Instants) -> MutexGuard<'_, BTreeSet<(Timestamp, u64)>> {
    instants.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What the numbers of an owner's holds begin with.
fn mark(owner: &str) -> u64 {
    xxh3_64(owner.as_bytes()) >> COUNT_BITS << COUNT_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn table(holds_max: usize) -> Holds<&'static str> {
        Holds::new(holds_max)
    }

    /// A hold from second 50 to `seconds`.
    fn hold(holds: &Holds<&'static str>, seconds: i64) -> Hold<&'static str> {
        Hold::new("5 tokens", at(seconds), holds.begin(at(50)))
    }

    #[test]
    fn a_hold_is_removed_once() {
        let holds = table(10);
        let number = holds.place(hold(&holds, 100), "acme").unwrap();
        assert_eq!(holds.remove(number).map(|hold| hold.expires_at), Some(at(100)));
        assert!(holds.remove(number).is_none());
        assert!(holds.is_empty());
    }

    #[test]
    fn only_what_is_due_expires() {
        let holds = table(10);
        holds.place(hold(&holds, 100), "acme").unwrap();
        let later = holds.place(hold(&holds, 200), "acme").unwrap();
        let expired = holds.remove_expired(at(100), 10);
        assert_eq!(expired.iter().map(|hold| hold.expires_at).collect::<Vec<_>>(), [at(100)]);
        assert!(holds.remove(later).is_some());
    }

    #[test]
    fn a_full_table_gives_the_hold_back() {
        let holds = table(1);
        holds.place(hold(&holds, 1), "acme").unwrap();
        let refused = holds.place(hold(&holds, 2), "acme").unwrap_err();
        assert_eq!(refused.expires_at, at(2));
    }

    #[test]
    fn what_has_ended_is_known_to_its_owner_alone() {
        let holds = table(10);
        let number = holds.place(hold(&holds, 100), "acme").unwrap();
        holds.remove(number);
        assert!(holds.was_of(number, "acme"));
        assert!(!holds.was_of(number, "globex"));
        assert!(!holds.was_of(number + 1, "acme"), "it has not been given yet");
        assert!(!holds.was_of(0, "acme"));
    }

    #[test]
    fn the_oldest_hold_is_known_from_its_beginning_until_whoever_settles_it_lets_go() {
        let holds = table(10);
        assert_eq!(holds.oldest(), None);
        let first = holds.begin(at(7));
        let second = Hold::new("", at(90), holds.begin(at(7)));
        let number = holds.place(second, "acme").unwrap();
        drop(first);
        assert_eq!(holds.oldest(), Some(at(7)), "two of one instant are two");
        let _later = holds.begin(at(8));
        let settling = holds.remove(number).unwrap();
        assert_eq!(holds.oldest(), Some(at(7)), "it is being settled");
        holds.restore(number, settling);
        drop(holds.remove_expired(at(90), 10));
        assert_eq!(holds.oldest(), Some(at(8)));
    }

    #[tokio::test]
    async fn a_call_that_is_cancelled_while_it_settles_leaves_the_holds_as_they_were() {
        let holds = table(10);
        let [first, second] = [100, 200].map(|end| holds.place(hold(&holds, end), "acme").unwrap());
        let mut call = Box::pin(async {
            let mut settled = Settled::none(&holds);
            assert!(settled.take(0, first).is_some());
            assert!(settled.take(1, second).is_some());
            assert!(settled.take(2, first).is_none(), "of two events one settles it");
            drop(settled.end(0));
            std::future::pending::<()>().await;
        });
        assert!(futures::poll!(&mut call).is_pending());
        assert!(holds.is_empty());
        drop(call);
        assert!(holds.peek(first, |_| ()).is_none(), "the journal had its event");
        assert_eq!(holds.peek(second, |hold| hold.expires_at), Some(at(200)));
        assert_eq!(holds.remove_expired(at(200), 10).len(), 1, "it still lapses in its time");
    }
}
