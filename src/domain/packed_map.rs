//! A map from the keys of counters to small values, for very many of them.
//!
//! Each entry is one piece of bytes, the key's ([`written_key`]) and behind them the value's (as
//! `postcard` writes them, small numbers in one byte), and is read and written as a whole. That takes a
//! part of what keys and values take as they are worked with. Entries lie side by side ([`rooms`]), and
//! the table that finds them has four bytes for each.
//!
//! The bytes of a key tell where they end, so an entry that begins with them is the key's. Of those of a
//! value zeros at the end are left out, and are there again when it is read.

mod names;
mod rooms;
mod written_key;

use std::marker::PhantomData;

use ahash::RandomState;
use hashbrown::{HashTable, hash_table::Entry};
use serde::{Serialize, de::DeserializeOwned};

use self::{
    names::Names,
    rooms::{Place, Rooms},
    written_key::{WRITABLE, WRITTEN_HERE},
};
use super::cell_key::KeyParts;

/// Room for most keys.
const KEY_BYTES: usize = 96;
/// A value of more bytes is written with all its zeros.
const SHORT_BYTES: usize = 256;

/// Values by the keys of counters.
#[derive(Debug)]
pub struct PackedMap<V> {
    places: HashTable<Place>,
    entries: Rooms,
    /// The names of meters that are written as numbers.
    meters: Names,
    hasher: RandomState,
    /// Where entries are written before it is known how long they are.
    scratch: Vec<u8>,
    values: PhantomData<fn() -> V>,
}

impl<V> Default for PackedMap<V> {
    fn default() -> Self {
        Self {
            places: HashTable::new(),
            entries: Rooms::default(),
            meters: Names::default(),
            hasher: RandomState::new(),
            scratch: vec![],
            values: PhantomData,
        }
    }
}

impl<V: Serialize + DeserializeOwned> PackedMap<V> {
    /// The value of `key`.
    pub fn get(&self, key: KeyParts<'_>) -> Option<V> {
        let Self { places, entries, meters, hasher, .. } = self;
        // No entry is of a meter whose name could have a number, and has none.
        let meter = meters.known(key.meter)?;
        let mut bytes = Vec::with_capacity(KEY_BYTES);
        written_key::write(key, meter, &mut bytes);
        let key = bytes;
        let place = places.find(hasher.hash_one(&key[..]), begins_with(entries, &key))?;
        Some(read(&entries.get(*place)[key.len()..]))
    }

    /// Has `change` change the value of `key`. What it leaves is kept.
    pub fn change<R>(&mut self, key: KeyParts<'_>, change: impl FnOnce(&mut Option<V>) -> R) -> R {
        let Self { places, entries, meters, hasher, scratch, .. } = self;
        let mut new = std::mem::take(scratch);
        new.clear();
        written_key::write(key, meters.number(key.meter), &mut new);
        let (hash, key_bytes) = (hasher.hash_one(&new[..]), new.len());
        let place = places.entry(hash, begins_with(entries, &new), hash_of_entry(entries, hasher));
        let mut value = match &place {
            Entry::Occupied(known) => Some(read(&entries.get(*known.get())[key_bytes..])),
            Entry::Vacant(_) => None,
        };
        let result = change(&mut value);
        if let Some(value) = &value {
            new = written(value, new);
            if new.len() - key_bytes <= SHORT_BYTES {
                let zeros = new[key_bytes..].iter().rev().take_while(|byte| **byte == 0).count();
                new.truncate(new.len() - zeros);
            }
        }
        match (place, value) {
            (Entry::Occupied(mut known), Some(_)) => {
                *known.get_mut() = entries.put_again(*known.get(), &new);
            }
            (Entry::Occupied(known), None) => entries.leave(known.remove().0),
            (Entry::Vacant(vacant), Some(_)) => drop(vacant.insert(entries.put(&new))),
            (Entry::Vacant(_), None) => {}
        }
        *scratch = new;
        result
    }

    /// Keys and values, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (KeyParts<'_>, V)> {
        self.places.iter().map(|place| {
            let (key, value) = written_key::read(self.entries.get(*place), &self.meters);
            (key, read(value))
        })
    }

    /// Takes out what is not to be kept, and gives memory back, once much of it is free.
    pub fn retain(&mut self, mut keep: impl FnMut(KeyParts<'_>, V) -> bool) {
        let Self { places, entries, meters, .. } = self;
        places.retain(|place| {
            let (key, value) = written_key::read(entries.get(*place), meters);
            let is_kept = keep(key, read(value));
            if !is_kept {
                entries.leave(*place);
            }
            is_kept
        });
        self.shrink();
    }

    /// Gives memory back, once much of it is free.
    pub fn shrink(&mut self) {
        let Self { places, entries, meters, hasher, .. } = self;
        if entries.are_much_free() {
            let mut together = Rooms::default();
            places.iter_mut().for_each(|place| *place = together.put(entries.get(*place)));
            *entries = together;
        }
        if 4 * places.len() <= places.capacity() {
            places.shrink_to(2 * places.len(), hash_of_entry(entries, hasher));
        }
        if places.is_empty() {
            // Others may be in use by now than those that were numbered first.
            *meters = Names::default();
        }
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

fn begins_with(entries: &Rooms, key: &[u8]) -> impl Fn(&Place) -> bool {
    |place| entries.get(*place).starts_with(key)
}

fn hash_of_entry(entries: &Rooms, hasher: &RandomState) -> impl Fn(&Place) -> u64 {
    |place| {
        let entry = entries.get(*place);
        hasher.hash_one(&entry[..written_key::bytes(entry)])
    }
}

/// `bytes`, and behind them `value`.
fn written(value: &impl Serialize, bytes: Vec<u8>) -> Vec<u8> {
    postcard::to_extend(value, bytes).expect(WRITABLE)
}

/// The value of which these are the bytes, but for zeros at the end.
fn read<V: DeserializeOwned>(value: &[u8]) -> V {
    let mut room = [0; SHORT_BYTES];
    let whole = match room.get_mut(..value.len()) {
        Some(start) => {
            start.copy_from_slice(value);
            &room[..]
        }
        None => value,
    };
    postcard::from_bytes(whole).expect(WRITTEN_HERE)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{option, prelude::*, sample::select};

    use super::*;
    use crate::domain::{cell_key::CellKey, ids::GrantId, period::Period, window::WindowLabel};

    fn periods() -> impl Strategy<Value = Period> {
        prop_oneof![
            select(vec![Period::Minute, Period::Hour, Period::Day, Period::Month]),
            select(vec![Period::BillingCycle, Period::Lifetime]),
            (1u32..).prop_map(|seconds| Period::Interval { seconds }),
            any::<u64>().prop_map(|id| Period::Grant { id: GrantId(id) }),
        ]
    }

    fn labels() -> impl Strategy<Value = WindowLabel> {
        let starts = prop_oneof![any::<i64>(), (-9_i64..9).prop_map(|start| 450 * start)];
        (periods(), starts, any::<u32>()).prop_map(|(period, start, anchor_version)| WindowLabel {
            period,
            start,
            anchor_version,
        })
    }

    /// Few names, of which some begin others, so that keys come again and are nearly alike.
    fn keys() -> impl Strategy<Value = CellKey> {
        let name = || select(vec!["a", "ab", "abc"]);
        let label = prop_oneof![Just("lifetime:0:0".parse().unwrap()), labels()];
        (name(), name(), option::of(name()), label).prop_map(|(tenant, meter, subject, label)| {
            CellKey {
                tenant: tenant.parse().unwrap(),
                meter: meter.parse().unwrap(),
                subject: subject.map(|subject| subject.parse().unwrap()),
                label,
            }
        })
    }

    proptest! {
        #[test]
        fn what_is_left_of_a_key_is_found_again_and_of_no_other(
            changes in prop::collection::vec((keys(), option::of(any::<u64>())), 0..60),
            least in any::<u64>(),
            numbered in 0_usize..4,
        ) {
            let mut map = PackedMap { meters: Names::of_at_most(numbered), ..PackedMap::default() };
            let mut model = BTreeMap::new();
            for (key, value) in changes {
                let before = map.change(key.parts(), |kept| std::mem::replace(kept, value));
                let known = match value {
                    Some(value) => model.insert(key.clone(), value),
                    None => model.remove(&key),
                };
                prop_assert_eq!(before, known);
                prop_assert_eq!(map.get(key.parts()), value);
            }
            map.retain(|_, value| value >= least);
            model.retain(|_, value| *value >= least);
            prop_assert_eq!(map.len(), model.len());
            let all = map.iter().map(|(key, value)| (key.to_key().unwrap(), value));
            let all: BTreeMap<_, _> = all.collect();
            prop_assert_eq!(all, model);
        }
    }

    fn key() -> CellKey {
        CellKey {
            tenant: "acme".parse().unwrap(),
            meter: "calls".parse().unwrap(),
            subject: None,
            label: "month:1795000500:1".parse().unwrap(),
        }
    }

    proptest! {
        #[test]
        fn values_of_any_length_are_kept_with_the_zeros_at_their_ends(
            values in prop::collection::vec((0_usize..300, 0_usize..300), 1..9),
        ) {
            let key: CellKey = key();
            let mut map = PackedMap::default();
            for (ones, zeros) in values {
                let value = [vec![1_u8; ones], vec![0; zeros]].concat();
                map.change(key.parts(), |kept| *kept = Some(value.clone()));
                prop_assert_eq!(map.get(key.parts()), Some(value));
            }
        }
    }

    #[test]
    fn an_entry_takes_a_byte_for_each_letter_of_a_tenant_and_each_small_number() {
        let key = key();
        let mut map = PackedMap::default();
        map.change(key.parts(), |value| *value = Some((7_u64, 9_u64)));
        let bytes: Vec<_> = map.places.iter().map(|place| map.entries.get(*place).len()).collect();
        assert_eq!(bytes, [(1 + 1 + 4 + 1 + 4 + 1 + 2_usize).next_multiple_of(4)]);
    }
}
