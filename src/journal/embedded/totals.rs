//! The totals of all counters.

use ahash::AHashMap;
use jiff::Timestamp;

use super::{
    packed_total::PackedTotal,
    total::{Addend, Total},
};
use crate::domain::{
    cell_key::{CellKey, KeyParts},
    packed_map::PackedMap,
};

/// Totals by their keys.
#[derive(Debug, Default)]
pub struct Totals {
    /// Those of plain numbers: nearly all.
    numbers: PackedMap<PackedTotal>,
    /// Those that know distinct values.
    of_values: AHashMap<CellKey, Total>,
}

impl Totals {
    /// Adds events of the counter `key`.
    pub fn add<'e>(
        &mut self,
        key: &CellKey,
        events: impl IntoIterator<Item = Addend<'e>>,
        now: Timestamp,
    ) {
        let mut events = events.into_iter();
        if let Some(total) = self.of_values.get_mut(key) {
            events.for_each(|event| total.add(event, now));
            return;
        }
        let of_values = self.numbers.change(key.parts(), |kept| {
            let first = events.next()?;
            let mut total = match kept.take() {
                Some(packed) => {
                    let mut total = packed.total(key.label);
                    total.add(first, now);
                    total
                }
                None => Total::of(first, now),
            };
            events.for_each(|event| total.add(event, now));
            if total.distinct.is_some() {
                return Some(total);
            }
            *kept = Some(PackedTotal::of(&total, key.label));
            None
        });
        if let Some(total) = of_values {
            self.of_values.insert(key.clone(), total);
        }
    }

    /// Puts a total in, which has been taken down.
    pub fn insert(&mut self, key: CellKey, total: Total) {
        match total.distinct {
            Some(_) => drop(self.of_values.insert(key, total)),
            None => self.numbers.change(key.parts(), |kept| {
                *kept = Some(PackedTotal::of(&total, key.label));
            }),
        }
    }

    /// What a counter's events amount to.
    pub fn get(&self, key: &CellKey) -> Option<Total> {
        let packed = || self.numbers.get(key.parts()).map(|packed| packed.total(key.label));
        self.of_values.get(key).cloned().or_else(packed)
    }

    /// Whether the counter is known.
    pub fn contains(&self, key: &CellKey) -> bool {
        self.of_values.contains_key(key) || self.numbers.get(key.parts()).is_some()
    }

    /// All totals, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (KeyParts<'_>, Total)> {
        let of_values = self.of_values.iter().map(|(key, total)| (key.parts(), total.clone()));
        let numbers = self.numbers.iter().map(|(key, packed)| (key, packed.total(key.label)));
        numbers.chain(of_values)
    }

    /// Takes out what is not to be kept.
    pub fn retain(&mut self, keep: impl Fn(KeyParts<'_>, &Total) -> bool) {
        self.numbers.retain(|key, packed| keep(key, &packed.total(key.label)));
        self.of_values.retain(|key, total| keep(key.parts(), total));
    }

    /// Counters that are known.
    pub fn len(&self) -> usize {
        self.numbers.len() + self.of_values.len()
    }
}
