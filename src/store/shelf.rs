//! States by key, in this process, and not more of them than there is room for.

use dashmap::{DashMap, mapref::entry::Entry};

use super::error::StoreError;
use crate::domain::cell_key::CellKey;

/// States by key.
#[derive(Debug)]
pub(super) struct Shelf<S> {
    /// Present slots hold a state; they are slots because the state machines take them.
    slots: DashMap<CellKey, Option<S>, ahash::RandomState>,
    keys_max: usize,
}

impl<S> Shelf<S> {
    /// Room for `keys_max` states; calls that race may pass it by their number.
    pub(super) fn new(keys_max: usize) -> Self {
        Self { slots: DashMap::default(), keys_max }
    }

    /// Applies `change` to the state of `key`. It says whether the state may be forgotten.
    pub(super) fn apply<R>(
        &self,
        key: &CellKey,
        change: impl FnOnce(&mut Option<S>) -> (R, Keep),
    ) -> Result<R, StoreError> {
        // Asked before the entry is locked: the length looks at every shard.
        let is_full = !self.slots.contains_key(key) && self.slots.len() >= self.keys_max;
        match self.slots.entry(key.clone()) {
            Entry::Occupied(mut entry) => {
                let (result, keep) = change(entry.get_mut());
                if keep == Keep::No {
                    entry.remove();
                }
                Ok(result)
            }
            Entry::Vacant(_) if is_full => Err(StoreError::Full { keys_max: self.keys_max }),
            Entry::Vacant(entry) => {
                let mut slot = None;
                let (result, keep) = change(&mut slot);
                if keep == Keep::Yes && slot.is_some() {
                    entry.insert(slot);
                }
                Ok(result)
            }
        }
    }

    /// What `look` sees in the state of `key`.
    pub(super) fn look<R>(&self, key: &CellKey, look: impl FnOnce(&S) -> R) -> Option<R> {
        self.slots.get(key).and_then(|slot| slot.as_ref().map(look))
    }

    /// All keys, in no order.
    pub(super) fn keys(&self) -> Vec<CellKey> {
        self.slots.iter().map(|slot| slot.key().clone()).collect()
    }
}

/// Whether a state is needed any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(shelf: &Shelf<u64>, tenant: &str, keep: Keep) -> Result<u64, StoreError> {
        let key = CellKey {
            tenant: tenant.parse().unwrap(),
            meter: "calls".parse().unwrap(),
            subject: None,
            label: "day:0:1".parse().unwrap(),
        };
        shelf.apply(&key, |slot| {
            let value = slot.unwrap_or(0) + 1;
            *slot = Some(value);
            (value, keep)
        })
    }

    #[test]
    fn a_full_shelf_refuses_new_keys_only() {
        let shelf = Shelf::new(1);
        assert_eq!(put(&shelf, "first", Keep::Yes).unwrap(), 1);
        let refused = put(&shelf, "second", Keep::Yes);
        assert!(matches!(refused, Err(StoreError::Full { keys_max: 1 })));
        assert_eq!(put(&shelf, "first", Keep::No).unwrap(), 2);
        assert_eq!(put(&shelf, "second", Keep::Yes).unwrap(), 1);
    }

    #[test]
    fn a_state_that_is_not_needed_takes_no_room() {
        let shelf = Shelf::new(1);
        assert_eq!(put(&shelf, "first", Keep::No).unwrap(), 1);
        assert_eq!(put(&shelf, "second", Keep::Yes).unwrap(), 1);
        assert_eq!(put(&shelf, "second", Keep::Yes).unwrap(), 2);
    }
}
