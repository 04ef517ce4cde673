//! A tenant's live counters, found by their keys.

use std::{
    borrow::Borrow,
    collections::HashSet,
    hash::{Hash, Hasher},
    iter,
    sync::Arc,
};

use crate::{
    domain::{cell_key::CellKey, one_seed::OneSeed},
    enforcement::counter::Counter,
};

/// The live counters. The many tenants that use one meter have no table for it.
#[derive(Debug)]
pub(super) enum Live {
    One(Arc<Counter>),
    /// None, or more than one.
    Many(HashSet<ByKey, OneSeed>),
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
        Self::Many(HashSet::default())
    }
}

impl Live {
    /// The counter of `key`.
    pub fn get(&self, key: &CellKey) -> Option<&Arc<Counter>> {
        match self {
            Self::One(counter) => Some(counter).filter(|counter| counter.key == *key),
            Self::Many(counters) => counters.get(key).map(|ByKey(counter)| counter),
        }
    }

    /// Adds a counter; there is none of its key.
    pub fn insert(&mut self, counter: Arc<Counter>) {
        match self {
            Self::Many(counters) if counters.is_empty() => *self = Self::One(counter),
            Self::Many(counters) => {
                counters.insert(ByKey(counter));
            }
            Self::One(first) => {
                *self = Self::Many([first.clone(), counter].map(ByKey).into_iter().collect());
            }
        }
    }

    /// All counters, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Counter>> {
        let (one, many) = match self {
            Self::One(counter) => (Some(counter), None),
            Self::Many(counters) => (None, Some(counters)),
        };
        let many = many.into_iter().flatten().map(|ByKey(counter)| counter);
        iter::chain(one, many)
    }

    /// Drops the counters that are not to be kept, and gives memory back, once most of it is free.
    pub fn retain(&mut self, mut keep: impl FnMut(&Arc<Counter>) -> bool) {
        match self {
            Self::One(counter) if !keep(counter) => *self = Self::default(),
            Self::One(_) => {}
            Self::Many(counters) => {
                counters.retain(|ByKey(counter)| keep(counter));
                let last = (counters.len() == 1).then(|| counters.drain().next()).flatten();
                if 4 * counters.len() <= counters.capacity() {
                    counters.shrink_to(2 * counters.len());
                }
                if let Some(ByKey(last)) = last {
                    *self = Self::One(last);
                }
            }
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}
