//! All that is in memory, for those who look at it as a whole.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Directory, tenant_state::TenantState};
use crate::{domain::cell_key::CellKey, enforcement::counter::Counter};

/// A walk over all tenants in memory. There is one at a time.
///
/// It meets each that is there from its beginning to its end, and none twice: whoever comes meanwhile
/// stands behind all others, and where the walk drops one, which takes the last one's place, it goes
/// on at that place.
#[derive(Debug, Default)]
pub struct Walk {
    /// The place of the tenant that is next.
    next: usize,
    met: usize,
}

impl Walk {
    /// Tenants that it has met.
    pub fn met(&self) -> usize {
        self.met
    }

    /// Tenants that it has met, and those that it has yet to meet.
    pub fn of(&self, directory: &Directory) -> usize {
        self.met + directory.roster.len().saturating_sub(self.next)
    }

    /// Has `look` look at the next tenant, which is dropped if nobody uses it and it can be had again.
    /// `false`: there is none; the walk is over.
    pub fn go_on(&mut self, directory: &Directory, look: impl FnOnce(&TenantState)) -> bool {
        let Some(state) = directory.roster.at(self.next) else { return false };
        look(&state);
        self.met += 1;
        if !directory.drop_unused(self.next, state) {
            self.next += 1;
        }
        true
    }
}

impl Directory {
    /// Every live counter.
    pub fn all_counters(&self) -> Vec<Arc<Counter>> {
        self.tenants.iter().flat_map(|state| state.all_counters()).collect()
    }

    /// Forgets what some of the dropped counters left whose windows are over at `real_now` and by their
    /// tenants' clocks. Called again and again, it comes to all of them. Answers whose it has forgotten.
    pub fn forget_left(&self, real_now: Timestamp) -> Vec<CellKey> {
        let mut keys = self.seed.search_left(real_now);
        keys.retain(|key| match self.known(&key.tenant) {
            Some(state) => state.forget_left(key, real_now),
            None => self.forget_left_of_dropped(key, real_now),
        });
        keys
    }

    /// Tenants in memory.
    pub fn len(&self) -> usize {
        self.tenants.len()
    }

    /// Whether no tenant is in memory.
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// Whether the window of `key` is known and not over at `real_now`, by its tenant's clock.
    pub fn is_current(&self, key: &CellKey, real_now: Timestamp) -> bool {
        let Some(tenant) = self.tenant_at_hand(&key.tenant) else { return false };
        let window = tenant.subscription.schedule.window_of_label(key.label);
        let now = tenant.now(real_now);
        window.is_some_and(|window| window.end.is_none_or(|end| end > now))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::enforcement::directory::test_tenants::{NOW, begin, directory, find};

    #[test]
    fn a_walk_meets_all_once_while_others_come_and_many_are_dropped() {
        let names: Vec<_> = (0..150).map(|tenant| format!("tenant-{tenant}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let directory = directory(&names);
        let (first, coming) = names.split_at(100);
        let mut coming = coming.iter();
        first.iter().for_each(|name| drop(begin(&directory, name, "calls", 1)));
        let is_kept = |tenant: &str| tenant.ends_with('3') || tenant.ends_with('9');
        let walk = |coming: &mut dyn Iterator<Item = &&str>| {
            let (mut walk, mut met) = (Walk::default(), vec![]);
            let mut look = |state: &TenantState| {
                let name = state.terms().tenant.id.to_string();
                drop(state.drop_done_counters(NOW, |_| !is_kept(&name)));
                met.push(name);
            };
            while walk.go_on(&directory, &mut look) {
                coming.next().map(|name| begin(&directory, name, "calls", 1));
                assert_eq!(directory.tenants.len(), directory.roster.len());
                assert!(walk.of(&directory) >= walk.met());
            }
            assert_eq!((walk.met(), walk.of(&directory)), (met.len(), met.len()));
            let names: BTreeSet<_> = met.iter().cloned().collect();
            assert_eq!(names.len(), met.len(), "one was met twice");
            names
        };
        let all: BTreeSet<_> = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(walk(&mut coming), all);
        let kept: BTreeSet<_> = all.into_iter().filter(|name| is_kept(name)).collect();
        for _ in 0..2 {
            assert_eq!(walk(&mut [].iter()), kept);
        }
        drop(find(&directory, "tenant-0"));
        assert_eq!(walk(&mut [].iter()).len(), kept.len() + 1);
    }
}
