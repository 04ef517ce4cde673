//! The index: keys by their hashes in shards, and the claims on them.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use ahash::RandomState;
use tokio::sync::Notify;

use super::{
    content::{Asked, Content, FirstAnswer, Name, Verb},
    generation::{Generation, State, hash},
    patience::{Patience, StillInHand},
};
use crate::domain::ids::{IdempotencyKey, TenantId};

/// Parts of the index with a lock each: enough for many cores, and few enough that a batch of a
/// thousand keys takes each lock for many of them. A power of 2.
const SHARDS: usize = 1 << SHARD_BITS;
const SHARD_BITS: u32 = 5;
/// The bits of a hash that say the shard: within it, tables go by the lowest and the highest.
const SHARD_BITS_FROM: u32 = 32;

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

/// Where a key stands in the order in which who wants several claims them. Keys of one shard are
/// neighbours in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyHash(u64);

impl KeyHash {
    fn of(hash: u64) -> Self {
        Self(hash.rotate_right(SHARD_BITS_FROM + SHARD_BITS))
    }

    fn hash(self) -> u64 {
        self.0.rotate_left(SHARD_BITS_FROM + SHARD_BITS)
    }

    fn shard(self) -> usize {
        (self.0 >> (u64::BITS - SHARD_BITS)) as usize
    }
}

/// The index. `P` is a place in the journal.
#[derive(Debug)]
pub struct Repeats<P> {
    index: Arc<Index<P>>,
}

#[derive(Debug)]
struct Index<P> {
    /// By [`KeyHash::shard`]. Held for look-ups and never while another is taken.
    shards: Box<[Mutex<Shard<P>>]>,
    seed: RandomState,
    /// Places that the young generations of all shards have given, or are about to.
    inserted: AtomicUsize,
    generation_entries_max: usize,
    /// Guards the exchange of generations, so that two full-ups at once drop only one.
    rotation: Mutex<()>,
}

/// The keys with some hashes.
#[derive(Debug)]
struct Shard<P> {
    number: u32,
    young: Generation<P>,
    old: Generation<P>,
    /// Of the keys in hand that somebody waits for, also where their generation was dropped: a
    /// request takes its own out when it is done.
    waited_for: Vec<(Place, Arc<Notify>)>,
}

/// Where a key is that is in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    generation: u64,
    shard: u32,
    number: u32,
}

impl<P: Clone> Repeats<P> {
    /// Remembers at least the latest `entries_max / 2` keys and never more than `entries_max`.
    pub fn new(entries_max: usize) -> Self {
        let index = Index {
            shards: (0..SHARDS as u32).map(|number| Mutex::new(Shard::new(number))).collect(),
            seed: RandomState::new(),
            inserted: AtomicUsize::new(0),
            generation_entries_max: (entries_max / 2).clamp(1, u32::MAX as usize),
            rotation: Mutex::new(()),
        };
        Self { index: Arc::new(index) }
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
        let asked = Asked { name: Name { tenant, verb, key }, content: content.lent() };
        loop {
            let settled = match self.try_begin(&asked) {
                Ok(begun) => return Ok(begun),
                Err(settled) => settled,
            };
            // Rare, and large beside what every request carries along.
            if let Some(begun) = Box::pin(self.wait(settled, &asked, patience)).await? {
                return Ok(begun);
            }
        }
    }

    /// Waits until a claim is settled; answers what became of it meanwhile.
    async fn wait(
        &self,
        settled: Arc<Notify>,
        asked: &Asked<'_>,
        patience: &mut Patience,
    ) -> Result<Option<Begun<P>>, StillInHand> {
        // The claim may have been settled between the look-up and here; `notify_waiters` wakes
        // only those who wait already, so look once more after registering.
        let wake = settled.notified();
        tokio::pin!(wake);
        wake.as_mut().enable();
        match self.try_begin(asked) {
            Ok(begun) => return Ok(Some(begun)),
            Err(still) if Arc::ptr_eq(&still, &settled) => patience.wait(wake).await?,
            Err(_) => {}
        }
        Ok(None)
    }

    /// As [`Repeats::begin`]; `Err` hands out what to wait for while the key is in hand elsewhere.
    pub fn try_begin(&self, asked: &Asked<'_>) -> Result<Begun<P>, Arc<Notify>> {
        let hash = self.hash(&asked.name);
        loop {
            let mut shard = self.index.shard(hash.shard());
            if let Some(known) = shard.known(hash, asked) {
                return known;
            }
            if self.index.take_room(1) == 1 {
                let (index, first) = (self.index.clone(), Some(shard.insert(hash, asked)));
                return Ok(Begun::Fresh(Claim { index, first, more: vec![] }));
            }
            drop(shard);
            self.index.rotate();
        }
    }

    /// Where a key stands among those that are claimed together.
    pub fn hash(&self, name: &Name<'_>) -> KeyHash {
        KeyHash::of(hash(&self.index.seed, name))
    }

    /// A claim on nothing yet.
    pub fn no_claim(&self) -> Claim<P> {
        Claim { index: self.index.clone(), first: None, more: vec![] }
    }

    /// Adds keys to `claim`, up to the first that is in hand with somebody or was answered. Answers
    /// how many. They are different keys in the order of their hashes, as `asked` tells them.
    ///
    /// Who wants further ones has to have that one first. All claim in one order, so nobody waits
    /// for somebody who waits for him.
    pub fn claim_fresh<'k, K>(
        &self,
        claim: &mut Claim<P>,
        keys: &'k [K],
        asked: impl Fn(&'k K) -> (KeyHash, Asked<'k>),
    ) -> usize {
        claim.more.reserve(keys.len());
        let mut claimed = 0;
        while let Some(next) = keys.get(claimed) {
            let number = asked(next).0.shard();
            let is_of_shard = |key: &&'k K| asked(key).0.shard() == number;
            let rest = &keys[claimed..];
            let mut shard = self.index.shard(number);
            let is_fresh = |key: &&'k K| {
                let (hash, asked) = asked(key);
                shard.find(hash, &asked.name).is_none()
            };
            // Not all of the shard are counted first: each that is not fresh would count them again.
            let fresh = rest.iter().take_while(is_of_shard).take_while(is_fresh).count();
            let is_stopped = rest.get(fresh).is_some_and(|key| is_of_shard(&key));
            let room = self.index.take_room(fresh);
            for key in &rest[..room] {
                let (hash, asked) = asked(key);
                claim.more.push(shard.insert(hash, &asked));
            }
            drop(shard);
            claimed += room;
            if room < fresh {
                self.index.rotate();
            } else if is_stopped {
                break;
            }
        }
        claimed
    }

    /// Frees a key again whose first answer told of something that `is_lost`.
    pub fn forget(
        &self,
        tenant: &TenantId,
        verb: Verb,
        key: &IdempotencyKey,
        is_lost: impl Fn(&P) -> bool,
    ) {
        let name = Name { tenant, verb, key };
        let hash = self.hash(&name);
        let mut shard = self.index.shard(hash.shard());
        if let Some(place) = shard.find(hash, &name)
            && let Some(generation) = shard.generation(place)
            && generation.entry(place.number).is_lost(is_lost)
        {
            generation.remove(place.number);
        }
    }

    /// Keys that are remembered or in hand.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        // All at one time: those of a shard may be forgotten while another gets as many.
        let shards: Vec<_> = (0..SHARDS).map(|number| self.index.shard(number)).collect();
        shards.iter().map(|shard| shard.young.len() + shard.old.len()).sum()
    }
}

impl<P: Clone> Index<P> {
    fn shard(&self, number: usize) -> MutexGuard<'_, Shard<P>> {
        self.shards[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room in the young generation for `wanted` keys or fewer; all of it is then inserted before
    /// the shard's lock is given back.
    fn take_room(&self, wanted: usize) -> usize {
        let room = |inserted| wanted.min(self.generation_entries_max.saturating_sub(inserted));
        let more = |inserted| Some(inserted + room(inserted));
        match self.inserted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(inserted) | Err(inserted) => room(inserted),
        }
    }

    /// Makes the young generation the old one, if it is full.
    fn rotate(&self) {
        let _guard = self.rotation.lock().unwrap_or_else(PoisonError::into_inner);
        if self.inserted.load(Ordering::Relaxed) < self.generation_entries_max {
            return;
        }
        // There is no room before all have rotated: what came meanwhile would be old in some shards,
        // and more than the old generation may have.
        let aged = (0..self.shards.len()).map(|number| self.shard(number).rotate()).sum();
        self.inserted.fetch_sub(aged, Ordering::Relaxed);
    }

    /// Settles the keys at `places`, neighbours of one shard at once, and lets those go on who wait
    /// for them.
    fn settle(
        &self,
        places: impl Iterator<Item = Place>,
        settle: impl Fn(&mut Generation<P>, u32),
    ) {
        let mut places = places.peekable();
        while let Some(first) = places.peek().copied() {
            let mut shard = self.shard(first.shard as usize);
            while let Some(place) = places.next_if(|place| place.shard == first.shard) {
                if let Some(generation) = shard.generation(place) {
                    settle(generation, place.number);
                }
                let waited_for = shard.waited_for.iter().position(|(waited, _)| *waited == place);
                if let Some(index) = waited_for {
                    shard.waited_for.swap_remove(index).1.notify_waiters();
                }
            }
        }
    }
}

impl<P: Clone> Shard<P> {
    fn new(number: u32) -> Self {
        let (mut young, old) = (Generation::default(), Generation::default());
        young.begin_after(old.number);
        Self { number, young, old, waited_for: vec![] }
    }

    fn find(&self, hash: KeyHash, name: &Name<'_>) -> Option<Place> {
        [&self.young, &self.old].into_iter().find_map(|generation| {
            let number = generation.find(hash.hash(), name)?;
            Some(Place { generation: generation.number, shard: self.number, number })
        })
    }

    fn insert(&mut self, hash: KeyHash, asked: &Asked<'_>) -> Place {
        let number = self.young.insert(hash.hash(), asked);
        Place { generation: self.young.number, shard: self.number, number }
    }

    /// The generation that a place is in, unless it was dropped.
    fn generation(&mut self, place: Place) -> Option<&mut Generation<P>> {
        let mut generations = [&mut self.young, &mut self.old].into_iter();
        generations.find(|generation| generation.number == place.generation)
    }

    /// What is to be said to another request with the key, if it is here; `Err`: what to wait for.
    fn known(&mut self, hash: KeyHash, asked: &Asked<'_>) -> Option<Result<Begun<P>, Arc<Notify>>> {
        let place = self.find(hash, &asked.name)?;
        let entry = self.generation(place)?.entry(place.number);
        if entry.content.lent() != asked.content {
            return Some(Ok(Begun::Conflict(entry.content.clone())));
        }
        let first = match &entry.state {
            State::Pending => return Some(Err(self.settled(place))),
            State::Recorded { place } => FirstAnswer { answer: None, place: place.clone() },
            State::Answered { first } => FirstAnswer::clone(first),
        };
        Some(Ok(Begun::Repeat(first)))
    }

    /// Tells when the key is not in hand any more.
    fn settled(&mut self, place: Place) -> Arc<Notify> {
        let known = self.waited_for.iter().find(|(waited_for, _)| *waited_for == place);
        if let Some((_, settled)) = known {
            return settled.clone();
        }
        let settled = Arc::<Notify>::default();
        self.waited_for.push((place, settled.clone()));
        settled
    }

    /// Drops the old generation; the young one is the old one from now on. Answers how many keys it
    /// has got.
    fn rotate(&mut self) -> usize {
        std::mem::swap(&mut self.young, &mut self.old);
        self.young.begin_after(self.old.number);
        self.old.len()
    }
}

/// The right to answer keys. Dropped without an answer (a denial, a refusal, a caller that went
/// away before anything was recorded), they are free again.
#[derive(Debug)]
pub struct Claim<P: Clone> {
    index: Arc<Index<P>>,
    /// Where the keys are, in hand until the claim is done.
    first: Option<Place>,
    /// Further ones of a batch, those of a shard mostly one behind the other.
    more: Vec<Place>,
}

impl<P: Clone> Claim<P> {
    /// Remembers the answer and lets those who wait for it go on.
    pub fn answer(mut self, first: FirstAnswer<P>) {
        let places = self.places();
        self.index.settle(places, |generation, place| {
            generation.entry(place).answer(first.clone());
        });
    }

    /// Adds the keys of another claim.
    pub fn join(&mut self, mut other: Self) {
        self.more.extend(other.places());
    }

    /// Whether it is on no key at all.
    pub fn is_empty(&self) -> bool {
        self.first.is_none() && self.more.is_empty()
    }

    /// Takes the keys out.
    fn places(&mut self) -> impl Iterator<Item = Place> + use<P> {
        self.first.take().into_iter().chain(std::mem::take(&mut self.more))
    }
}

impl<P: Clone> Drop for Claim<P> {
    fn drop(&mut self) {
        let places = self.places();
        self.index.settle(places, Generation::remove);
    }
}
