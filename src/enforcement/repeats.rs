//! What this sidecar has already answered, by idempotency key.
//!
//! A repeat that is known here gets its first answer and touches no counter. One that is not known
//! (another sidecar answered it, it was long ago, this is a new run) is taken as new and found by
//! the ledger, which gives it back to the counters; so this index saves work and over-counting in
//! between, and exactness never depends on it. Therefore it may forget: it holds two generations,
//! and when the young one is full the old one is dropped.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ahash::RandomState;
use arc_swap::ArcSwap;
use dashmap::{DashMap, Entry as MapEntry};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::error::EngineError;
use crate::domain::{
    catalog::names::OperationName,
    ids::{IdempotencyKey, MeterName, Subject, TenantId},
    operation::OperationAnswer,
    quota::QuotaAnswer,
};

/// Longest wait for another request to decide a key. Refills, recalls and syncs end long before; a
/// first request that hangs on something else must not make its repeats hang with it.
pub const FIRST_ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// What one key stands for. A repeat with another content is a conflict, never a repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Units {
        meter: MeterName,
        subject: Option<Subject>,
        amount: i64,
    },
    /// An operation as a whole, with what it takes of each meter.
    Operation {
        operation: OperationName,
        subject: Option<Subject>,
        amounts: Vec<(MeterName, i64)>,
    },
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = match self {
            Self::Units { meter, subject, amount } => {
                write!(f, "{amount} of {meter}")?;
                subject
            }
            Self::Operation { operation, subject, amounts } => {
                write!(f, "the operation {operation}")?;
                for (meter, amount) in amounts {
                    write!(f, ", {amount} of {meter}")?;
                }
                subject
            }
        };
        subject.as_ref().map_or(Ok(()), |subject| write!(f, ", subject {subject}"))
    }
}

/// An answer that can be given again.
#[derive(Clone, Debug)]
pub enum Remembered {
    /// To a CONSUME or RESERVE.
    Quota(QuotaAnswer),
    /// To a CONSUME or RESERVE of an operation.
    Operation(Arc<OperationAnswer>),
}

/// What was answered first.
#[derive(Clone, Debug)]
pub struct FirstAnswer<P> {
    /// `None` when the usage was recorded.
    pub answer: Option<Remembered>,
    /// Where the journal holds it: a repeat is acknowledged no earlier than the first was. `None`
    /// when nothing was journalled.
    pub place: Option<P>,
}

/// How a request with a key has to go on.
#[derive(Debug)]
pub enum Begun<P: Clone> {
    /// Nobody else has this key in hand; whoever holds the claim must answer it or let it go.
    Fresh(Claim<P>),
    /// It was answered before.
    Repeat(FirstAnswer<P>),
    /// The key is taken by this other content.
    Conflict(Content),
}

/// Another request has had the key in hand for too long: [`FIRST_ANSWER_WAIT_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub struct StillInHand;

impl From<StillInHand> for EngineError {
    fn from(StillInHand: StillInHand) -> Self {
        let waited = FIRST_ANSWER_WAIT_MAX.as_secs();
        Self::Unavailable(format!(
            "an earlier request with the same idempotency key has not been decided for {waited} s; \
             send it again with that key"
        ))
    }
}

/// How long one request waits, for all of its keys together.
#[derive(Debug)]
pub struct Patience {
    wait_max: Duration,
    /// Set when it first has to wait.
    until: Option<Instant>,
}

impl Default for Patience {
    fn default() -> Self {
        Self { wait_max: FIRST_ANSWER_WAIT_MAX, until: None }
    }
}

impl Patience {
    async fn wait(&mut self, settled: impl Future<Output = ()>) -> Result<(), StillInHand> {
        let until = *self.until.get_or_insert_with(|| Instant::now() + self.wait_max);
        timeout_at(until, settled).await.map_err(|_| StillInHand)
    }
}

/// What a key was sent with. Usage that settles a reservation is often sent with the key that the
/// reservation was asked for with: holding units and using them are two things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// CONSUME, and recorded usage: one of them is the repeat of the other.
    Use,
    Reserve,
}

type Key = (TenantId, Verb, IdempotencyKey);
type Map<P> = DashMap<Key, Entry<P>, RandomState>;

/// What is known of one key. There are millions of them: it takes no more than it must.
#[derive(Debug)]
struct Entry<P> {
    content: Content,
    state: State<P>,
}

#[derive(Debug)]
enum State<P> {
    /// In hand with a request.
    Pending {
        /// Made by the first that waits for it.
        settled: Option<Arc<Notify>>,
    },
    /// The usage was recorded, and nothing else was answered.
    Recorded {
        place: Option<P>,
    },
    Answered {
        first: Box<FirstAnswer<P>>,
    },
}

#[derive(Debug)]
struct Generation<P> {
    entries: Map<P>,
    inserted: AtomicUsize,
}

impl<P> Generation<P> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            entries: DashMap::with_hasher(RandomState::new()),
            inserted: AtomicUsize::new(0),
        })
    }
}

#[derive(Debug)]
struct Generations<P> {
    young: Arc<Generation<P>>,
    old: Arc<Generation<P>>,
}

/// The index. `P` is a place in the journal.
#[derive(Debug)]
pub struct Repeats<P> {
    generations: ArcSwap<Generations<P>>,
    generation_entries_max: usize,
    /// Guards the exchange of generations, so that two full-ups at once drop only one.
    rotation: Mutex<()>,
}

impl<P: Clone> Repeats<P> {
    /// Remembers at least the latest `entries_max / 2` keys and never more than `entries_max`.
    pub fn new(entries_max: usize) -> Self {
        let generations = Generations { young: Generation::new(), old: Generation::new() };
        Self {
            generations: ArcSwap::from_pointee(generations),
            generation_entries_max: (entries_max / 2).max(1),
            rotation: Mutex::new(()),
        }
    }

    /// Claims `key`, or says what became of it; waits while another request has it in hand, as long
    /// as `patience` lasts.
    pub async fn begin(
        &self,
        tenant: &TenantId,
        verb: Verb,
        key: &IdempotencyKey,
        content: &Content,
        patience: &mut Patience,
    ) -> Result<Begun<P>, StillInHand> {
        loop {
            let settled = match self.try_begin(tenant, verb, key, content) {
                Ok(begun) => return Ok(begun),
                Err(settled) => settled,
            };
            let asked = (tenant, verb, key, content);
            // Rare, and large beside what every request carries along.
            if let Some(begun) = Box::pin(self.wait(settled, asked, patience)).await? {
                return Ok(begun);
            }
        }
    }

    /// Waits until a claim is settled; answers what became of it meanwhile.
    async fn wait(
        &self,
        settled: Arc<Notify>,
        (tenant, verb, key, content): (&TenantId, Verb, &IdempotencyKey, &Content),
        patience: &mut Patience,
    ) -> Result<Option<Begun<P>>, StillInHand> {
        // The claim may have been settled between the look-up and here; `notify_waiters` wakes
        // only those who wait already, so look once more after registering.
        let wake = settled.notified();
        tokio::pin!(wake);
        wake.as_mut().enable();
        match self.try_begin(tenant, verb, key, content) {
            Ok(begun) => return Ok(Some(begun)),
            Err(still) if Arc::ptr_eq(&still, &settled) => patience.wait(wake).await?,
            Err(_) => {}
        }
        Ok(None)
    }

    /// As [`Repeats::begin`]; `Err` hands out what to wait for while the key is in hand elsewhere.
    pub fn try_begin(
        &self,
        tenant: &TenantId,
        verb: Verb,
        key: &IdempotencyKey,
        content: &Content,
    ) -> Result<Begun<P>, Arc<Notify>> {
        let generations = self.generations.load_full();
        let key = (tenant.clone(), verb, key.clone());
        if let Some(mut entry) = generations.old.entries.get_mut(&key) {
            return entry.known(content);
        }
        let young = &generations.young;
        match young.entries.entry(key.clone()) {
            MapEntry::Occupied(mut entry) => return entry.get_mut().known(content),
            MapEntry::Vacant(vacant) => {
                let state = State::Pending { settled: None };
                vacant.insert(Entry { content: content.clone(), state });
            }
        }
        if young.inserted.fetch_add(1, Ordering::Relaxed) + 1 >= self.generation_entries_max {
            self.rotate(&generations);
        }
        Ok(Begun::Fresh(Claim { generation: young.clone(), key, done: false }))
    }

    /// Frees a key again whose first answer told of something that `is_lost`.
    pub fn forget(
        &self,
        tenant: &TenantId,
        verb: Verb,
        key: &IdempotencyKey,
        is_lost: impl Fn(&P) -> bool,
    ) {
        let generations = self.generations.load_full();
        let key = (tenant.clone(), verb, key.clone());
        let goes = |entry: &Entry<P>| match &entry.state {
            State::Recorded { place } => place.as_ref().is_some_and(&is_lost),
            State::Answered { first } => first.place.as_ref().is_some_and(&is_lost),
            State::Pending { .. } => false,
        };
        for generation in [&generations.old, &generations.young] {
            generation.entries.remove_if(&key, |_, entry| goes(entry));
        }
    }

    fn rotate(&self, full: &Arc<Generations<P>>) {
        let _guard = self.rotation.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if Arc::ptr_eq(&self.generations.load(), full) {
            let next = Generations { young: Generation::new(), old: full.young.clone() };
            self.generations.store(Arc::new(next));
        }
    }
}

impl<P: Clone> Entry<P> {
    /// What is to be said to another request with the key; `Err`: what to wait for.
    fn known(&mut self, content: &Content) -> Result<Begun<P>, Arc<Notify>> {
        if self.content != *content {
            return Ok(Begun::Conflict(self.content.clone()));
        }
        match &mut self.state {
            State::Pending { settled } => Err(settled.get_or_insert_default().clone()),
            State::Recorded { place } => {
                Ok(Begun::Repeat(FirstAnswer { answer: None, place: place.clone() }))
            }
            State::Answered { first } => Ok(Begun::Repeat((**first).clone())),
        }
    }

    /// Whom to tell that nobody has the key in hand any more.
    fn waited_for(self) -> Option<Arc<Notify>> {
        match self.state {
            State::Pending { settled } => settled,
            State::Recorded { .. } | State::Answered { .. } => None,
        }
    }
}

/// The right to answer one key. Dropped without an answer (a denial, a refusal, a caller that went
/// away before anything was recorded), the key is free again.
#[derive(Debug)]
pub struct Claim<P: Clone> {
    generation: Arc<Generation<P>>,
    /// Its entry is there, and pending, until the claim is done.
    key: Key,
    done: bool,
}

impl<P: Clone> Claim<P> {
    /// Remembers the answer and lets those who wait for it go on.
    pub fn answer(mut self, first: FirstAnswer<P>) {
        self.done = true;
        let state = match first {
            FirstAnswer { answer: None, place } => State::Recorded { place },
            first => State::Answered { first: Box::new(first) },
        };
        let pending = match self.generation.entries.get_mut(&self.key) {
            Some(mut entry) => std::mem::replace(&mut entry.state, state),
            None => return,
        };
        if let State::Pending { settled: Some(settled) } = pending {
            settled.notify_waiters();
        }
    }
}

impl<P: Clone> Drop for Claim<P> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let freed = self.generation.entries.remove(&self.key);
        if let Some(settled) = freed.and_then(|(_, entry)| entry.waited_for()) {
            settled.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> TenantId {
        TenantId::new("acme").unwrap()
    }

    fn key(text: &str) -> IdempotencyKey {
        IdempotencyKey::new(text).unwrap()
    }

    fn content(amount: i64) -> Content {
        Content::Units { meter: MeterName::new("calls").unwrap(), subject: None, amount }
    }

    fn first(position: u64) -> FirstAnswer<u64> {
        FirstAnswer { answer: None, place: Some(position) }
    }

    async fn begin(repeats: &Repeats<u64>, verb: Verb, name: &str, amount: i64) -> Begun<u64> {
        let (tenant, key, content) = (tenant(), key(name), content(amount));
        let mut patience = Patience::default();
        repeats.begin(&tenant, verb, &key, &content, &mut patience).await.unwrap()
    }

    async fn claim(repeats: &Repeats<u64>, name: &str) -> Claim<u64> {
        match begin(repeats, Verb::Use, name, 1).await {
            Begun::Fresh(claim) => claim,
            other => panic!("{name} should be fresh: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_repeat_gets_the_first_answer() {
        let repeats = Repeats::new(100);
        claim(&repeats, "a").await.answer(first(7));
        let begun = begin(&repeats, Verb::Use, "a", 1).await;
        assert!(matches!(begun, Begun::Repeat(FirstAnswer { place: Some(7), .. })));
    }

    #[tokio::test]
    async fn a_key_with_another_amount_is_a_conflict_even_while_it_is_in_hand() {
        let repeats = Repeats::new(100);
        let held = claim(&repeats, "a").await;
        let begun = begin(&repeats, Verb::Use, "a", 2).await;
        assert!(matches!(begun, Begun::Conflict(Content::Units { amount: 1, .. })));
        drop(held);
    }

    #[tokio::test]
    async fn a_claim_that_is_let_go_frees_its_key_for_the_one_who_waits() {
        let repeats = Arc::new(Repeats::<u64>::new(100));
        let held = claim(&repeats, "a").await;
        let waiting = tokio::spawn({
            let repeats = repeats.clone();
            async move { matches!(begin(&repeats, Verb::Use, "a", 1).await, Begun::Fresh(_)) }
        });
        tokio::task::yield_now().await;
        drop(held);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn who_waits_for_a_key_waits_so_long_and_no_longer_for_all_its_keys_together() {
        let repeats = Repeats::new(100);
        let (_first, _second) = (claim(&repeats, "a").await, claim(&repeats, "b").await);
        let wait_max = Duration::from_secs(1);
        let mut patience = Patience { wait_max, until: None };
        let (began, mut until) = (Instant::now(), None);
        for name in ["a", "b"] {
            let begun =
                repeats.begin(&tenant(), Verb::Use, &key(name), &content(1), &mut patience).await;
            assert_eq!(begun.unwrap_err(), StillInHand);
            until = until.or(patience.until);
        }
        assert!(began.elapsed() >= wait_max);
        assert_eq!(patience.until, Some(until.unwrap()), "it is the same wait");
    }

    #[tokio::test]
    async fn it_forgets_the_oldest_and_stays_within_its_bound() {
        let repeats = Repeats::new(10);
        for n in 0..100 {
            claim(&repeats, &format!("k{n}")).await.answer(first(n));
        }
        let generations = repeats.generations.load();
        assert!(generations.young.entries.len() + generations.old.entries.len() <= 10);
        let latest = begin(&repeats, Verb::Use, "k99", 1).await;
        assert!(matches!(latest, Begun::Repeat(_)));
        let forgotten = begin(&repeats, Verb::Use, "k0", 1).await;
        assert!(matches!(forgotten, Begun::Fresh(_)));
    }

    #[tokio::test]
    async fn what_is_lost_is_forgotten_and_nothing_else() {
        let repeats = Repeats::new(6);
        claim(&repeats, "lost").await.answer(first(7));
        claim(&repeats, "kept").await.answer(first(6));
        let held = claim(&repeats, "held").await;
        for name in ["lost", "kept", "held"] {
            repeats.forget(&tenant(), Verb::Use, &key(name), |place| *place > 6);
        }
        assert!(matches!(begin(&repeats, Verb::Use, "lost", 1).await, Begun::Fresh(_)));
        assert!(matches!(begin(&repeats, Verb::Use, "kept", 1).await, Begun::Repeat(_)));
        assert!(repeats.try_begin(&tenant(), Verb::Use, &key("held"), &content(1)).is_err());
        drop(held);
    }

    #[tokio::test]
    async fn a_reservation_and_the_usage_that_settles_it_may_have_one_key() {
        let repeats = Repeats::new(100);
        claim(&repeats, "a").await.answer(first(7));
        let begun = begin(&repeats, Verb::Reserve, "a", 1).await;
        assert!(matches!(begun, Begun::Fresh(_)));
    }
}
