//! Keys that are remembered, and forgotten, together.
//!
//! There are millions of keys. Each takes a place in a row, with its text behind the one before,
//! and a table of the places' numbers finds it: a new key is written where the one before it was,
//! and to forget them all is to begin the row anew.

use ahash::RandomState;
use hashbrown::HashTable;

use super::content::{Asked, Content, FirstAnswer, Name, Verb};

/// A part of the keys that were claimed after one another.
#[derive(Debug)]
pub struct Generation<P> {
    /// Tells it from those before and after it, which have its places.
    pub number: u64,
    /// Where the keys are that have been neither let go nor forgotten, by their hashes.
    places: HashTable<u32>,
    entries: Vec<Entry<P>>,
    /// Tenant and key of each entry.
    texts: Vec<u8>,
}

/// What is known of one key.
#[derive(Debug)]
pub struct Entry<P> {
    hash: u64,
    /// Where in the texts tenant and key begin and end.
    tenant_at: usize,
    key_at: usize,
    end: usize,
    verb: Verb,
    pub content: Content,
    pub state: State<P>,
}

#[derive(Debug)]
pub enum State<P> {
    /// In hand with a request.
    Pending,
    /// The usage was recorded, and nothing else was answered.
    Recorded {
        place: Option<P>,
    },
    Answered {
        first: Box<FirstAnswer<P>>,
    },
}

/// The hash of a key; seeds differ from index to index.
pub fn hash(seed: &RandomState, name: &Name<'_>) -> u64 {
    seed.hash_one((name.tenant.as_str(), name.verb, name.key.as_str()))
}

impl<P> Default for Generation<P> {
    fn default() -> Self {
        Self { number: 0, places: HashTable::new(), entries: vec![], texts: vec![] }
    }
}

impl<P: Clone> Generation<P> {
    /// Where the key is, if it is here.
    pub fn find(&self, hash: u64, name: &Name<'_>) -> Option<u32> {
        let (tenant, key) = (name.tenant.as_str().as_bytes(), name.key.as_str().as_bytes());
        let is_same = |place: &u32| {
            let entry = &self.entries[*place as usize];
            entry.hash == hash
                && entry.verb == name.verb
                && self.texts[entry.tenant_at..entry.key_at] == *tenant
                && self.texts[entry.key_at..entry.end] == *key
        };
        self.places.find(hash, is_same).copied()
    }

    /// Puts a key in hand that is not there yet. There is room for 2^32 in all.
    pub fn insert(&mut self, hash: u64, asked: &Asked<'_>) -> u32 {
        let Asked { name, content } = asked;
        let place = self.entries.len() as u32;
        let tenant_at = self.texts.len();
        self.texts.extend_from_slice(name.tenant.as_str().as_bytes());
        let key_at = self.texts.len();
        self.texts.extend_from_slice(name.key.as_str().as_bytes());
        self.entries.push(Entry {
            hash,
            tenant_at,
            key_at,
            end: self.texts.len(),
            verb: name.verb,
            content: content.kept(),
            state: State::Pending,
        });
        let entries = &self.entries;
        self.places.insert_unique(hash, place, |place| entries[*place as usize].hash);
        place
    }

    /// The key at a place that [`Generation::find`] or [`Generation::insert`] has told.
    pub fn entry(&mut self, place: u32) -> &mut Entry<P> {
        &mut self.entries[place as usize]
    }

    /// Lets a key go. Its place is not given again before all are.
    pub fn remove(&mut self, place: u32) {
        let hash = self.entries[place as usize].hash;
        if let Ok(found) = self.places.find_entry(hash, |found| *found == place) {
            found.remove();
        }
    }

    /// Places that were given.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Forgets all, and begins anew as the generation after `number`. Room that was made stays: as
    /// many will come.
    pub fn begin_after(&mut self, number: u64) {
        self.number = number + 1;
        self.places.clear();
        self.entries.clear();
        self.texts.clear();
    }
}

impl<P: Clone> Entry<P> {
    /// Remembers what was answered.
    pub fn answer(&mut self, first: FirstAnswer<P>) {
        self.state = match first {
            FirstAnswer { answer: None, place } => State::Recorded { place },
            first => State::Answered { first: Box::new(first) },
        };
    }

    /// Whether the first answer told of something that `is_lost`.
    pub fn is_lost(&self, is_lost: impl Fn(&P) -> bool) -> bool {
        match &self.state {
            State::Recorded { place } => place.as_ref().is_some_and(is_lost),
            State::Answered { first } => first.place.as_ref().is_some_and(is_lost),
            State::Pending => false,
        }
    }
}
