//! A tenant's live counters, found by their keys.

use std::{
    borrow::Borrow,
    collections::HashSet,
    hash::{BuildHasher, Hash, Hasher},
    iter, mem, slice,
    sync::Arc,
};

use crate::{
    domain::{cell_key::CellKey, one_seed::OneSeed},
    enforcement::counter::Counter,
};

/// More have a table, which takes up to twice as much for each. As a list of few grows by one, it is
/// copied.
const FEW_MAX: usize = 32;

/// The live counters. The many tenants that use one meter, or few, have no table for it.
#[derive(Debug)]
pub(super) enum Live {
    One(Arc<Counter>),
    /// None, or some.
    Few(Few),
    Many(HashSet<ByKey, OneSeed>),
}

/// Some counters, in lists that are as long as there are.
#[derive(Debug, Default)]
pub(super) struct Few {
    /// A part of the hash of each one's key: the keys themselves lie with the counters, far apart.
    tags: Box<[u8]>,
    counters: Box<[Arc<Counter>]>,
}

/// A counter that is found by its key.
#[derive(Debug)]
pub(super) struct ByKey(Arc<Counter>);

impl Borrow<CellKey> for ByKey {
    fn borrow(&self) -> &CellKey {
        &self.0.key
    }
}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

impl Default for Live {
    fn default() -> Self {
        Self::Few(Few::default())
    }
}

impl Live {
    /// The counter of `key`.
    pub fn get(&self, key: &CellKey) -> Option<&Arc<Counter>> {
        match self {
            Self::One(counter) => Some(counter).filter(|counter| counter.key == *key),
            Self::Few(counters) => counters.get(key),
            Self::Many(counters) => counters.get(key).map(|ByKey(counter)| counter),
        }
    }

    /// Adds a counter; there is none of its key.
    pub fn insert(&mut self, counter: Arc<Counter>) {
        match self {
            Self::One(first) => *self = Self::of(vec![first.clone(), counter]),
            Self::Few(few) if (1..FEW_MAX).contains(&few.counters.len()) => few.push(counter),
            Self::Few(few) => {
                let more = iter::chain(mem::take(&mut few.counters), [counter]);
                *self = Self::of(more.collect());
            }
            Self::Many(counters) => drop(counters.insert(ByKey(counter))),
        }
    }

    /// All counters, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Counter>> {
        let (few, many) = match self {
            Self::One(counter) => (slice::from_ref(counter), None),
            Self::Few(Few { counters, .. }) => (&counters[..], None),
            Self::Many(counters) => (&[][..], Some(counters)),
        };
        iter::chain(few, many.into_iter().flatten().map(|ByKey(counter)| counter))
    }

    /// Drops the counters that are not to be kept, and gives memory back, once most of it is free.
    pub fn retain(&mut self, mut keep: impl FnMut(&Arc<Counter>) -> bool) {
        match self {
            Self::One(counter) if !keep(counter) => *self = Self::default(),
            Self::One(_) => {}
            Self::Few(Few { counters, .. }) => {
                let kept: Vec<_> = counters.iter().map(keep).collect();
                if kept.contains(&false) {
                    let counters = iter::zip(mem::take(counters), kept);
                    let counters =
                        counters.filter_map(|(counter, is_kept)| is_kept.then_some(counter));
                    *self = Self::of(counters.collect());
                }
            }
            Self::Many(counters) => {
                counters.retain(|ByKey(counter)| keep(counter));
                if 2 * counters.len() <= FEW_MAX {
                    *self = Self::of(counters.drain().map(|ByKey(counter)| counter).collect());
                } else if 4 * counters.len() <= counters.capacity() {
                    counters.shrink_to(2 * counters.len());
                }
            }
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    fn of(counters: Vec<Arc<Counter>>) -> Self {
        match <[_; 1]>::try_from(counters) {
            Ok([counter]) => Self::One(counter),
            Err(counters) if counters.len() <= FEW_MAX => Self::Few(Few::of(counters)),
            Err(counters) => Self::Many(counters.into_iter().map(ByKey).collect()),
        }
    }
}

impl Few {
    fn of(counters: Vec<Arc<Counter>>) -> Self {
        let tags = counters.iter().map(|counter| tag(&counter.key)).collect();
        Self { tags, counters: counters.into() }
    }

    fn push(&mut self, counter: Arc<Counter>) {
        self.tags = iter::chain(mem::take(&mut self.tags), [tag(&counter.key)]).collect();
        self.counters = iter::chain(mem::take(&mut self.counters), [counter]).collect();
    }

    fn get(&self, key: &CellKey) -> Option<&Arc<Counter>> {
        let tag = tag(key);
        let mut tagged = iter::zip(&self.tags, &self.counters).filter(|(its, _)| **its == tag);
        tagged.find(|(_, counter)| counter.key == *key).map(|(_, counter)| counter)
    }
}

fn tag(key: &CellKey) -> u8 {
    OneSeed.hash_one(key).to_le_bytes()[0]
}
