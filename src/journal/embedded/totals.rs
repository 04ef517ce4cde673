//! The totals of all counters.

use ahash::AHashMap;
use jiff::Timestamp;

use super::total::{Addend, Total};
use crate::domain::{
    cell_key::{CellKey, KeyParts},
    packed_map::PackedMap,
};

/// Totals by their keys.
#[derive(Debug, Default)]
pub struct Totals {
    /// Those of plain numbers: nearly all.
    numbers: PackedMap<Total>,
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
            match kept {
                Some(total) => total.add(first, now),
                None => *kept = Some(Total::of(first, now)),
            }
            let total = kept.as_mut()?;
            events.for_each(|event| total.add(event, now));
            kept.take_if(|total| total.distinct.is_some())
        });
        if let Some(total) = of_values {
            self.of_values.insert(key.clone(), total);
        }
    }

    /// Puts a total in, which has been taken down.
    pub fn insert(&mut self, key: CellKey, total: Total) {
        match total.distinct {
            Some(_) => drop(self.of_values.insert(key, total)),
            None => self.numbers.change(key.parts(), |kept| *kept = Some(total)),
        }
    }

    /// What a counter's events amount to.
    pub fn get(&self, key: &CellKey) -> Option<Total> {
        self.of_values.get(key).cloned().or_else(|| self.numbers.get(key.parts()))
    }

    /// Whether the counter is known.
    pub fn contains(&self, key: &CellKey) -> bool {
        self.of_values.contains_key(key) || self.numbers.get(key.parts()).is_some()
    }

    /// All totals, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (KeyParts<'_>, Total)> {
        let of_values = self.of_values.iter().map(|(key, total)| (key.parts(), total.clone()));
        self.numbers.iter().chain(of_values)
    }

    /// Takes out what is not to be kept.
    pub fn retain(&mut self, keep: impl Fn(KeyParts<'_>, &Total) -> bool) {
        self.numbers.retain(|key, total| keep(key, &total));
        self.of_values.retain(|key, total| keep(key.parts(), total));
    }

    /// Counters that are known.
    pub fn len(&self) -> usize {
        self.numbers.len() + self.of_values.len()
    }
}
