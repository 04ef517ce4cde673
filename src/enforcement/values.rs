//! Values of the meters that are not sums: what `max`, `last` and distinct counts come to.

use std::collections::hash_map::Entry;
use std::sync::Mutex;

use ahash::AHashMap;
use jiff::Timestamp;

use crate::domain::{
    cell_key::CellKey, distinct::DistinctCount, meter::Aggregation, usage::UsageEvent,
};

/// What this sidecar has seen of one counter since it started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub max: u64,
    pub last: u64,
    pub last_at: Timestamp,
    /// Distinct values known to be counted.
    pub distinct: u64,
}

#[derive(Debug)]
struct Seen {
    value: Value,
    known: DistinctCount,
    /// What the shared set has to be told yet: values that were counted without asking it.
    untold: Option<DistinctCount>,
}

/// The values by counter. Bounded by the counters of current windows: [`Values::forget`].
#[derive(Debug, Default)]
pub struct Values {
    /// Guards the map; held for a look-up.
    seen: Mutex<AHashMap<CellKey, Seen>>,
}

impl Values {
    /// Takes an event in. `is_shared`: the shared set knows its distinct value, or needs not know.
    pub fn observe(&self, event: &UsageEvent, is_shared: bool) {
        let amount = u64::try_from(event.amount).unwrap_or(0);
        let mut seen = self.lock();
        let seen = match seen.entry(event.key.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Seen {
                value: Value { max: 0, last: 0, last_at: Timestamp::MIN, distinct: 0 },
                known: DistinctCount::new(),
                untold: None,
            }),
        };
        match event.aggregation {
            Aggregation::Max => seen.value.max = seen.value.max.max(amount),
            Aggregation::Last if event.time >= seen.value.last_at => {
                (seen.value.last, seen.value.last_at) = (amount, event.time);
            }
            Aggregation::DistinctCount => {
                if let Some(value) = &event.distinct_value {
                    if !is_shared && !seen.known.contains(value) {
                        seen.untold.get_or_insert_with(DistinctCount::new).insert(value);
                    }
                    seen.known.insert(value);
                    seen.value.distinct = seen.known.count();
                }
            }
            Aggregation::Last | Aggregation::Sum | Aggregation::Count => {}
        }
    }

    /// Whether `value` is known to be counted. Beyond the exact size nothing is known for sure.
    pub fn knows(&self, key: &CellKey, value: &str) -> bool {
        let knows = |seen: &Seen| seen.known.hashes().is_some() && seen.known.contains(value);
        self.lock().get(key).is_some_and(knows)
    }

    /// The distinct values that were seen, by counter.
    pub fn all_distinct(&self) -> Vec<(CellKey, DistinctCount)> {
        let seen = self.lock();
        let distinct = seen.iter().filter(|(_, seen)| seen.known.count() > 0);
        distinct.map(|(key, seen)| (key.clone(), seen.known.clone())).collect()
    }

    /// Hands out what the shared sets have to be told, by counter.
    pub fn take_untold(&self) -> Vec<(CellKey, DistinctCount)> {
        let mut seen = self.lock();
        let untold = seen.iter_mut().filter_map(|(key, seen)| Some((key, seen.untold.take()?)));
        untold.map(|(key, untold)| (key.clone(), untold)).collect()
    }

    /// Takes back what could not be told.
    pub fn put_back_untold(&self, key: &CellKey, untold: &DistinctCount) {
        if let Some(seen) = self.lock().get_mut(key) {
            seen.untold.get_or_insert_with(DistinctCount::new).merge(untold);
        }
    }

    /// What has been seen of a counter.
    pub fn get(&self, key: &CellKey) -> Option<Value> {
        self.lock().get(key).map(|seen| seen.value.clone())
    }

    /// Drops the counters whose windows are over: those for which `is_over` says so. It is asked
    /// without the lock, which requests wait for.
    pub fn forget(&self, is_over: impl Fn(&CellKey) -> bool) {
        let mut over: Vec<CellKey> = self.lock().keys().cloned().collect();
        over.retain(is_over);
        let mut seen = self.lock();
        over.iter().for_each(|key| {
            seen.remove(key);
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, AHashMap<CellKey, Seen>> {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
