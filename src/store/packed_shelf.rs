//! As [`Shelf`](super::shelf::Shelf), for very many small states: each is packed while nobody works
//! with it.

use std::{
    hash::BuildHasher,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use serde::{Serialize, de::DeserializeOwned};

use super::{error::StoreError, shelf::Keep};
use crate::domain::{cell_key::CellKey, one_seed::OneSeed, packed_map::PackedMap};

/// Parts, so that few who come at a time wait for each other.
const PARTS: usize = 64;

/// Small states by key.
#[derive(Debug)]
pub(super) struct PackedShelf<S> {
    /// Each guards the states of some keys, and is held while one of them is worked with.
    parts: Box<[Mutex<PackedMap<S>>]>,
    keys: AtomicUsize,
    keys_max: usize,
}

impl<S: Serialize + DeserializeOwned> PackedShelf<S> {
    /// Room for `keys_max` states; calls that race may pass it by their number.
    pub fn new(keys_max: usize) -> Self {
        let parts = (0..PARTS).map(|_| Mutex::default()).collect();
        Self { parts, keys: AtomicUsize::new(0), keys_max }
    }

    /// Applies `change` to the state of `key`. It says whether the state may be forgotten.
    pub fn apply<R>(
        &self,
        key: &CellKey,
        change: impl FnOnce(&mut Option<S>) -> (R, Keep),
    ) -> Result<R, StoreError> {
        self.part(key).change(key.parts(), |slot| {
            let was_empty = slot.is_none();
            if was_empty && self.keys.load(Relaxed) >= self.keys_max {
                return Err(StoreError::Full { keys_max: self.keys_max });
            }
            let (result, keep) = change(slot);
            if keep == Keep::No {
                *slot = None;
            }
            match (was_empty, slot.is_none()) {
                (true, false) => drop(self.keys.fetch_add(1, Relaxed)),
                (false, true) => drop(self.keys.fetch_sub(1, Relaxed)),
                _ => {}
            }
            Ok(result)
        })
    }

    /// The state of `key`.
    pub fn get(&self, key: &CellKey) -> Option<S> {
        self.part(key).get(key.parts())
    }

    /// Gives memory back, once much of it is free.
    pub fn shrink(&self) {
        self.parts.iter().for_each(|part| lock(part).shrink());
    }

    /// All keys, in no order.
    pub fn keys(&self) -> Vec<CellKey> {
        let mut keys = vec![];
        for part in &self.parts {
            // Whatever is a key here was one when it came.
            keys.extend(lock(part).iter().filter_map(|(key, _)| key.to_key().ok()));
        }
        keys
    }

    fn part(&self, key: &CellKey) -> MutexGuard<'_, PackedMap<S>> {
        lock(&self.parts[OneSeed.hash_one(key) as usize % PARTS])
    }
}

/// Nothing that holds the lock panics half way through a change.
fn lock<S>(part: &Mutex<PackedMap<S>>) -> MutexGuard<'_, PackedMap<S>> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::shelf::tests::{count, is_bounded, key};

    #[test]
    fn a_full_shelf_refuses_new_keys_only() {
        let shelf = PackedShelf::<u64>::new(1);
        is_bounded(|tenant, keep| shelf.apply(&key(tenant), |slot| count(slot, keep)));
        assert_eq!(shelf.keys(), [key("first")]);
        assert_eq!((shelf.get(&key("first")), shelf.get(&key("second"))), (Some(1), None));
    }
}
