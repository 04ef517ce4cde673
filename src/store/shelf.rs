//! States by key, in this process, and not more of them than there is room for.

use dashmap::DashMap;

use super::error::StoreError;
use crate::domain::cell_key::CellKey;

/// States by key.
#[derive(Debug)]
pub(super) struct Shelf<S> {
    /// A slot holds a state, unless it is about to be taken out. It is a slot because the state
    /// machines take one.
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
        let mut slot = match self.slots.get_mut(key) {
            Some(slot) => slot,
            None if self.slots.len() >= self.keys_max => {
                return Err(StoreError::Full { keys_max: self.keys_max });
            }
            None => self.slots.entry(key.clone()).or_default(),
        };
        let (result, keep) = change(&mut slot);
        if keep == Keep::No {
            *slot = None;
        }
        let is_empty = slot.is_none();
        drop(slot);
        if is_empty {
            // Unless somebody has put a state there meanwhile.
            self.slots.remove_if(key, |_, slot| slot.is_none());
        }
        Ok(result)
    }

    /// Gives memory back, once most of it is free. Looks at all that is there if so.
    pub(super) fn shrink(&self) {
        if 4 * self.slots.len() <= self.slots.capacity() {
            self.slots.shrink_to_fit();
        }
    }
}

/// Whether a state is needed any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    Yes,
    No,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn key(tenant: &str) -> CellKey {
        CellKey {
            tenant: tenant.parse().unwrap(),
            meter: "calls".parse().unwrap(),
            subject: None,
            label: "day:0:1".parse().unwrap(),
        }
    }

    /// A change of a state that counts its changes.
    pub fn count(slot: &mut Option<u64>, keep: Keep) -> (u64, Keep) {
        let value = slot.unwrap_or(0) + 1;
        *slot = Some(value);
        (value, keep)
    }

    /// What a shelf with room for one state has to do, whatever it is made of. `put` counts a change of
    /// the state of a tenant's key.
    pub fn is_bounded(put: impl Fn(&str, Keep) -> Result<u64, StoreError>) {
        // What is not needed takes no room.
        assert_eq!(put("first", Keep::No).unwrap(), 1);
        assert_eq!(put("second", Keep::Yes).unwrap(), 1);
        // One that is full refuses new keys only.
        let refused = put("first", Keep::Yes);
        assert!(matches!(refused, Err(StoreError::Full { keys_max: 1 })));
        assert_eq!(put("second", Keep::Yes).unwrap(), 2);
        assert_eq!(put("second", Keep::No).unwrap(), 3);
        assert_eq!(put("first", Keep::Yes).unwrap(), 1);
    }

    #[test]
    fn a_full_shelf_refuses_new_keys_only() {
        let shelf = Shelf::new(1);
        is_bounded(|tenant, keep| shelf.apply(&key(tenant), |slot| count(slot, keep)));
    }
}
