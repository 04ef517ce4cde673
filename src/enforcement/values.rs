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
}

/// The values by counter. Bounded by the counters of current windows: [`Values::forget`].
#[derive(Debug, Default)]
pub struct Values {
    /// Guards the map; held for a look-up.
    seen: Mutex<AHashMap<CellKey, Seen>>,
}

impl Values {
    /// Takes an event in.
    pub fn observe(&self, event: &UsageEvent) {
        let amount = u64::try_from(event.amount).unwrap_or(0);
        let mut seen = self.lock();
        let seen = match seen.entry(event.key.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Seen {
                value: Value { max: 0, last: 0, last_at: Timestamp::MIN, distinct: 0 },
                known: DistinctCount::new(),
            }),
        };
        match event.aggregation {
            Aggregation::Max => seen.value.max = seen.value.max.max(amount),
            Aggregation::Last if event.time >= seen.value.last_at => {
                (seen.value.last, seen.value.last_at) = (amount, event.time);
            }
            Aggregation::DistinctCount => {
                if let Some(value) = &event.distinct_value {
                    seen.known.insert(value);
                    seen.value.distinct = seen.known.count();
                }
            }
            Aggregation::Last | Aggregation::Sum | Aggregation::Count => {}
        }
    }

    /// Whether `value` is known to be counted.
    pub fn knows(&self, key: &CellKey, value: &str) -> bool {
        self.lock().get(key).is_some_and(|seen| seen.known.contains(value))
    }

    /// The distinct values that were seen, by counter.
    pub fn all_distinct(&self) -> Vec<(CellKey, DistinctCount)> {
        let seen = self.lock();
        let distinct = seen.iter().filter(|(_, seen)| seen.known.count() > 0);
        distinct.map(|(key, seen)| (key.clone(), seen.known.clone())).collect()
    }

    /// What has been seen of a counter.
    pub fn get(&self, key: &CellKey) -> Option<Value> {
        self.lock().get(key).map(|seen| seen.value.clone())
    }

    /// Drops the counters whose windows are over: those for which `is_over` says so.
    pub fn forget(&self, is_over: impl Fn(&CellKey) -> bool) {
        self.lock().retain(|key, _| !is_over(key));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, AHashMap<CellKey, Seen>> {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
