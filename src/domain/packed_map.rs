//! A map from the keys of counters to small values, for very many of them.
//!
//! Each entry is one piece of bytes, the key's and behind them the value's (as `postcard` writes them,
//! small numbers in one byte), and is read and written as a whole. That takes a part of what keys and
//! values take as they are worked with. Entries lie side by side ([`rooms`]), and the table that finds
//! them has four bytes for each.
//!
//! The bytes of a key tell where they end, so an entry that begins with them is the key's.

mod rooms;

use std::marker::PhantomData;

use ahash::RandomState;
use hashbrown::{HashTable, hash_table::Entry};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use self::rooms::{Place, Rooms};
use super::{cell_key::KeyParts, ids::GrantId, period::Period, window::WindowLabel};

/// An entry holds what was written here.
const WRITTEN_HERE: &str = "an entry is read as it was written";
/// Keys and values are plain data, and a vector grows.
const WRITABLE: &str = "plain data can be written to memory";

/// Room for most keys.
const KEY_BYTES: usize = 96;

/// Values by the keys of counters.
#[derive(Debug)]
pub struct PackedMap<V> {
    places: HashTable<Place>,
    entries: Rooms,
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
            hasher: RandomState::new(),
            scratch: vec![],
            values: PhantomData,
        }
    }
}

impl<V: Serialize + DeserializeOwned> PackedMap<V> {
    /// The value of `key`.
    pub fn get(&self, key: KeyParts<'_>) -> Option<V> {
        let Self { places, entries, hasher, .. } = self;
        let key = written(&Written::of(key), Vec::with_capacity(KEY_BYTES));
        let place = places.find(hasher.hash_one(&key[..]), begins_with(entries, &key))?;
        Some(read(&entries.get(*place)[key.len()..]))
    }

    /// Has `change` change the value of `key`. What it leaves is kept.
    pub fn change<R>(&mut self, key: KeyParts<'_>, change: impl FnOnce(&mut Option<V>) -> R) -> R {
        let Self { places, entries, hasher, scratch, .. } = self;
        scratch.clear();
        let mut new = written(&Written::of(key), std::mem::take(scratch));
        let (hash, key_bytes) = (hasher.hash_one(&new[..]), new.len());
        let place = places.entry(hash, begins_with(entries, &new), hash_of_entry(entries, hasher));
        let mut value = match &place {
            Entry::Occupied(known) => Some(read(&entries.get(*known.get())[key_bytes..])),
            Entry::Vacant(_) => None,
        };
        let result = change(&mut value);
        if let Some(value) = &value {
            new = written(value, new);
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
            let (key, value) = split(self.entries.get(*place));
            (key.parts(), read(value))
        })
    }

    /// Takes out what is not to be kept, and gives memory back, once most of it is free.
    pub fn retain(&mut self, mut keep: impl FnMut(KeyParts<'_>, V) -> bool) {
        let Self { places, entries, .. } = self;
        places.retain(|place| {
            let (key, value) = split(entries.get(*place));
            let is_kept = keep(key.parts(), read(value));
            if !is_kept {
                entries.leave(*place);
            }
            is_kept
        });
        self.shrink();
    }

    /// Gives memory back, once most of it is free.
    pub fn shrink(&mut self) {
        let Self { places, entries, hasher, .. } = self;
        if entries.are_mostly_free() {
            let mut together = Rooms::default();
            places.iter_mut().for_each(|place| *place = together.put(entries.get(*place)));
            *entries = together;
        }
        if 4 * places.len() <= places.capacity() {
            places.shrink_to(2 * places.len(), hash_of_entry(entries, hasher));
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
        let (_, value) = split(entry);
        hasher.hash_one(&entry[..entry.len() - value.len()])
    }
}

/// `bytes`, and behind them `value`.
fn written(value: &impl Serialize, bytes: Vec<u8>) -> Vec<u8> {
    postcard::to_extend(value, bytes).expect(WRITABLE)
}

/// The key and what is behind it: the value, and what fills its place up.
fn split(entry: &[u8]) -> (Written<'_>, &[u8]) {
    postcard::take_from_bytes(entry).expect(WRITTEN_HERE)
}

fn read<V: DeserializeOwned>(value: &[u8]) -> V {
    postcard::from_bytes(value).expect(WRITTEN_HERE)
}

/// A key as it is written.
#[derive(Serialize, Deserialize)]
struct Written<'k> {
    tenant: &'k str,
    meter: &'k str,
    subject: Option<&'k str>,
    period: WrittenPeriod,
    start: i64,
    anchor_version: u32,
}

/// A period in numbers: files have them in words.
#[derive(Serialize, Deserialize)]
enum WrittenPeriod {
    Minute,
    Hour,
    Day,
    Month,
    BillingCycle,
    Interval(u32),
    Lifetime,
    Grant(u64),
}

impl<'k> Written<'k> {
    fn of(KeyParts { tenant, meter, subject, label }: KeyParts<'k>) -> Self {
        let WindowLabel { period, start, anchor_version } = label;
        let period = match period {
            Period::Minute => WrittenPeriod::Minute,
            Period::Hour => WrittenPeriod::Hour,
            Period::Day => WrittenPeriod::Day,
            Period::Month => WrittenPeriod::Month,
            Period::BillingCycle => WrittenPeriod::BillingCycle,
            Period::Interval { seconds } => WrittenPeriod::Interval(seconds),
            Period::Lifetime => WrittenPeriod::Lifetime,
            Period::Grant { id } => WrittenPeriod::Grant(id.into()),
        };
        Self { tenant, meter, subject, period, start, anchor_version }
    }

    fn parts(&self) -> KeyParts<'k> {
        let period = match self.period {
            WrittenPeriod::Minute => Period::Minute,
            WrittenPeriod::Hour => Period::Hour,
            WrittenPeriod::Day => Period::Day,
            WrittenPeriod::Month => Period::Month,
            WrittenPeriod::BillingCycle => Period::BillingCycle,
            WrittenPeriod::Interval(seconds) => Period::Interval { seconds },
            WrittenPeriod::Lifetime => Period::Lifetime,
            WrittenPeriod::Grant(id) => Period::Grant { id: GrantId(id) },
        };
        let label = WindowLabel { period, start: self.start, anchor_version: self.anchor_version };
        KeyParts { tenant: self.tenant, meter: self.meter, subject: self.subject, label }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{option, prelude::*, sample::select};

    use super::*;
    use crate::domain::cell_key::CellKey;

    fn periods() -> impl Strategy<Value = Period> {
        prop_oneof![
            select(vec![Period::Minute, Period::Hour, Period::Day, Period::Month]),
            select(vec![Period::BillingCycle, Period::Lifetime]),
            (1u32..).prop_map(|seconds| Period::Interval { seconds }),
            any::<u64>().prop_map(|id| Period::Grant { id: GrantId(id) }),
        ]
    }

    fn labels() -> impl Strategy<Value = WindowLabel> {
        (periods(), any::<i64>(), any::<u32>()).prop_map(|(period, start, anchor_version)| {
            WindowLabel { period, start, anchor_version }
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
        ) {
            let mut map = PackedMap::default();
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

    #[test]
    fn an_entry_takes_a_byte_for_each_letter_and_each_small_number() {
        let key = CellKey {
            tenant: "acme".parse().unwrap(),
            meter: "calls".parse().unwrap(),
            subject: None,
            label: "month:1795000000:1".parse().unwrap(),
        };
        let mut map = PackedMap::default();
        map.change(key.parts(), |value| *value = Some((7_u64, 9_u64)));
        let bytes: Vec<_> = map.places.iter().map(|place| map.entries.get(*place).len()).collect();
        assert_eq!(bytes, [(1 + 4 + 1 + 5 + 1 + 1 + 5 + 1 + 2_usize).next_multiple_of(4)]);
    }
}
