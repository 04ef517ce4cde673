//! The names of meters that counters go by.
//!
//! A plan's name is everybody's: who counts its holders, by cloning it, has all cores write to one
//! place. A name for each counter takes more memory than all else that tells a counter from its
//! tenant's others. So there are some copies, and the tenants are spread over them.

use std::{
    collections::HashSet,
    hash::BuildHasher,
    sync::{Mutex, PoisonError},
};

use crate::domain::{cell_key::CellKey, ids::MeterName, one_seed::OneSeed};

/// Copies of each name: two tenants that are busy at the same time rarely share one.
const COPIES: usize = 64;
/// Names that are kept of each copy. Those of further meters are not shared.
const NAMES_MAX: usize = 10_000;

/// Copies of the names of meters.
#[derive(Debug)]
pub struct MeterNames {
    /// Each guards the names that some of the tenants share, and is held for a look-up.
    copies: Box<[Mutex<HashSet<MeterName, OneSeed>>]>,
}

impl Default for MeterNames {
    fn default() -> Self {
        Self { copies: (0..COPIES).map(|_| Mutex::default()).collect() }
    }
}

impl MeterNames {
    /// `key` with the name of its meter that counters of its tenant share.
    pub fn shared(&self, key: &CellKey) -> CellKey {
        let copy = OneSeed.hash_one(&key.tenant) as usize % COPIES;
        // Nothing that holds the lock panics half way through a change.
        let mut names = self.copies[copy].lock().unwrap_or_else(PoisonError::into_inner);
        let meter = match names.get(&key.meter) {
            Some(known) => known.clone(),
            None => {
                let name = key.meter.apart();
                if names.len() < NAMES_MAX {
                    names.insert(name.clone());
                }
                name
            }
        };
        CellKey { meter, ..key.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenants_of_a_meter_share_some_names_and_none_with_the_plan() {
        let names = MeterNames::default();
        let key = |tenant: usize| CellKey {
            tenant: format!("tenant-{tenant}").parse().unwrap(),
            meter: "calls".parse().unwrap(),
            subject: None,
            label: "day:0:1".parse().unwrap(),
        };
        let plans = key(0);
        let shared: Vec<_> = (0..1_000).map(|tenant| names.shared(&key(tenant))).collect();
        let places: HashSet<_> = shared.iter().map(|key| key.meter.as_str().as_ptr()).collect();
        assert!((2..=COPIES).contains(&places.len()), "{} names", places.len());
        assert!(!places.contains(&plans.meter.as_str().as_ptr()));
        assert_eq!((&shared[7].tenant, &shared[7].meter), (&key(7).tenant, &plans.meter));
    }
}
