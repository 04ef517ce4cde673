//! Tenants that nobody uses are dropped, where they can be had again from memory.
//!
//! That is where they are from a file. What is known of the ledger's stays: the snapshot is made of
//! it, so that a sidecar serves whom it has served while Postgres is away.
//!
//! There must never be two states of a tenant that counters are made in, each with a counter of the
//! same key. Whoever has a share of a state may make one, after however long a wait. So a state is
//! dropped only when the directory alone has it, and while nobody can get a share of it: who looks a
//! tenant up is locked out of its part of the map, and who walks over all of them, of the roster. These
//! two locks are taken in this order, then those of the tenant's counters and rates; nobody who holds
//! one of the latter takes one of the former.
//!
//! What has to outlive a state is elsewhere: what its counters left is with that of all tenants, and
//! how far its windows reach of which nothing is kept is put there.

use std::sync::{
    Arc,
    atomic::{Ordering::Acquire, fence},
};

use jiff::Timestamp;

use super::{Directory, FileSource, Source, tenant_state::TenantState};
use crate::domain::{cell_key::CellKey, ids::TenantId, tenant::Tenant};

/// Who has a share of a tenant's state that nobody uses: the map and the roster.
const OWNERS: usize = 2;

impl Directory {
    /// Drops the tenant at `place` in the roster, of whose state this is the caller's share, if nobody
    /// else has one and a state that is made anew is as good; whether it was. The last one in the
    /// roster takes its place.
    pub(super) fn drop_unused(&self, place: usize, state: Arc<TenantState>) -> bool {
        let Source::File(file) = &self.source else { return false };
        if !state.is_unused() {
            return false;
        }
        let id = state.look_at_terms().tenant.id.clone();
        drop(state);
        let may_go = |known: &Arc<TenantState>| {
            is_alone(known) && can_have_again(file, known) && known.hand_over()
        };
        let dropped = self
            .tenants
            .remove_if(&id, |_, known| self.roster.remove_if(place, known, || may_go(known)));
        dropped.is_some()
    }

    /// A tenant that is in memory, or was before it was dropped.
    pub fn tenant_at_hand(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        let known = self.known(id).map(|state| state.look_at_terms().tenant.clone());
        known.or_else(|| match &self.source {
            Source::File(file) => file.tenants.get(id).cloned(),
            Source::Ledger(_) => None,
        })
    }

    /// Gives the memory back in which tenants were found that are dropped, once most of it is free.
    ///
    /// It holds up those who look for a tenant no longer than one does who comes to the map when it is
    /// full: either moves the tenants of one of its parts, and here most places are empty.
    pub fn shrink(&self) {
        if 4 * self.tenants.len() < self.tenants.capacity() {
            self.tenants.shrink_to_fit();
        }
        self.roster.shrink();
    }

    /// As [`TenantState::forget_left`], of a tenant that is not in memory.
    pub(super) fn forget_left_of_dropped(&self, key: &CellKey, real_now: Timestamp) -> bool {
        // One that lives by another clock is not dropped.
        let tenant = self.tenant_at_hand(&key.tenant);
        tenant.is_some_and(|tenant| tenant.test_clock.is_none())
            && self.seed.forget_left(key, real_now)
    }
}

/// Whether what a state is made of is all in memory.
fn can_have_again(file: &FileSource, state: &TenantState) -> bool {
    let terms = state.look_at_terms();
    // The very same: nothing has changed it.
    let of_file = file.tenants.get(&terms.tenant.id);
    of_file.is_some_and(|tenant| Arc::ptr_eq(tenant, &terms.tenant))
}

/// Whether the directory alone has a share of `state`. To be asked while nobody can get another.
fn is_alone(state: &Arc<TenantState>) -> bool {
    let owners = Arc::strong_count(state);
    // What those did whose shares are gone is seen from here on.
    fence(Acquire);
    owners == OWNERS
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering::Relaxed},
        thread,
    };

    use jiff::ToSpan;

    use super::*;
    use crate::enforcement::directory::{
        NoCounter,
        test_tenants::{NOW, begin, changed_directory, counter, directory, find},
        walking::Walk,
    };

    /// Drops all counters that nobody holds, at `now`, and all tenants that are then unused.
    fn sweep(directory: &Directory, now: Timestamp) {
        let mut walk = Walk::default();
        while walk.go_on(directory, |state| drop(state.drop_done_counters(now, |_| true))) {}
    }

    fn recorded(state: &TenantState) -> u64 {
        counter(state, "calls", NOW).unwrap().cell.counts().recorded
    }

    #[test]
    fn the_counters_of_a_tenant_that_was_dropped_go_on_with_their_totals() {
        let directory = directory(&["acme"]);
        for used in 1..4 {
            let acme = begin(&directory, "acme", "calls", used);
            assert_eq!(recorded(&acme), (1..=used).sum::<u64>());
            drop(acme);
            sweep(&directory, NOW);
            assert!(directory.is_empty());
        }
    }

    #[test]
    fn a_tenant_stays_while_somebody_has_it_or_a_counter_of_it() {
        let directory = directory(&["acme"]);
        let acme = begin(&directory, "acme", "calls", 1);
        let held = acme.all_counters().pop();
        drop(acme);
        sweep(&directory, NOW);
        assert_eq!(directory.len(), 1, "its counter is live");
        drop(held);
        let acme = find(&directory, "acme");
        sweep(&directory, NOW);
        assert!(acme.all_counters().is_empty());
        assert_eq!(directory.len(), 1, "somebody may be about to count");
        assert!(Arc::ptr_eq(&acme, &find(&directory, "acme")));
        drop(acme);
        sweep(&directory, NOW);
        assert!(directory.is_empty());
    }

    #[test]
    fn a_window_that_is_over_gets_no_counter_of_a_tenant_that_was_dropped() {
        let directory = directory(&["acme", "globex"]);
        let later = NOW + 24.hours();
        // Dropped when the window was over, and before.
        for (tenant, dropped_at) in [("acme", later), ("globex", NOW)] {
            drop(begin(&directory, tenant, "calls", 1));
            sweep(&directory, dropped_at);
            assert!(directory.is_empty());
            let forgotten: Vec<_> = (0..1_000).flat_map(|_| directory.forget_left(later)).collect();
            // Of the one that was dropped in mid-window, and once.
            let tenants: Vec<_> = forgotten.iter().map(|key| key.tenant.as_str()).collect();
            let expected = if dropped_at == NOW { vec![tenant] } else { vec![] };
            assert_eq!(tenants, expected);
            let state = find(&directory, tenant);
            assert_eq!(counter(&state, "calls", NOW).unwrap_err(), NoCounter::Past, "{tenant}");
            assert_eq!(counter(&state, "mails", NOW).unwrap_err(), NoCounter::Past, "{tenant}");
            assert!(counter(&state, "calls", later).is_ok());
            drop(state);
            sweep(&directory, later);
        }
    }

    #[test]
    fn what_is_past_for_tenants_that_were_dropped_is_not_for_those_on_test_clocks_who_stay() {
        let names: Vec<_> = (0..500).map(|tenant| format!("tenant-{tenant}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let directory = changed_directory(&names, |tenant| {
            let is_on_test_clock = tenant.id.as_str().ends_with('7');
            tenant.test_clock = is_on_test_clock.then_some(NOW);
        });
        names.iter().for_each(|name| drop(begin(&directory, name, "calls", 1)));
        sweep(&directory, NOW);
        assert_eq!(directory.len(), 50);
        let later = NOW + 24.hours();
        (0..1_000).for_each(|_| drop(directory.forget_left(later)));
        for name in names {
            let found = counter(&find(&directory, name), "calls", NOW);
            match name.ends_with('7') {
                true => assert_eq!(found.unwrap().cell.counts().recorded, 1),
                false => assert_eq!(found.unwrap_err(), NoCounter::Past),
            }
        }
    }

    #[test]
    fn tenants_whose_subjects_left_anything_stay_and_keep_the_count_of_it() {
        let directory = directory(&["acme"]);
        for subjects in [0, 1] {
            let acme = find(&directory, "acme");
            let terms = acme.terms();
            let meter = terms.plan.meter("calls").unwrap();
            for subject in 0..subjects {
                let subject = format!("{subjects}-{subject}").parse().unwrap();
                acme.current_counter(&terms, meter, Some(&subject), NOW, 100).unwrap();
            }
            drop(acme);
            sweep(&directory, NOW);
            assert_eq!(directory.is_empty(), subjects == 0);
        }
    }

    #[test]
    fn a_tenant_whose_terms_were_replaced_or_that_no_file_has_stays() {
        let directory = directory(&["acme"]);
        let acme = find(&directory, "acme");
        let terms = acme.terms();
        let mut changed = Tenant::clone(&terms.tenant);
        changed.version += 1;
        acme.replace_terms(terms.of(changed));
        let stranger = Tenant { id: "stranger".parse().unwrap(), ..Tenant::clone(&terms.tenant) };
        directory.put(terms.of(stranger));
        drop(acme);
        sweep(&directory, NOW);
        assert_eq!(directory.len(), 2);
    }

    #[test]
    fn what_is_current_is_so_whether_its_tenant_was_dropped_or_not() {
        let directory = directory(&["acme"]);
        let acme = find(&directory, "acme");
        let key = counter(&acme, "calls", NOW).unwrap().key.clone();
        drop(acme);
        let unknown = CellKey { tenant: "stranger".parse().unwrap(), ..key.clone() };
        for is_empty in [false, true] {
            assert_eq!(directory.is_empty(), is_empty);
            assert!(directory.is_current(&key, NOW));
            assert!(!directory.is_current(&key, NOW + 24.hours()));
            assert!(!directory.is_current(&unknown, NOW));
            sweep(&directory, NOW);
        }
    }

    #[test]
    fn memory_is_given_back_once_most_tenants_are_dropped_and_the_others_are_still_found() {
        let names: Vec<_> = (0..2_000).map(|tenant| format!("tenant-{tenant}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let directory = directory(&names);
        let mut held: Vec<_> =
            names.iter().map(|name| begin(&directory, name, "calls", 1)).collect();
        directory.shrink();
        assert!(directory.tenants.capacity() >= 2_000);
        held.truncate(100);
        sweep(&directory, NOW);
        directory.shrink();
        assert!(directory.tenants.capacity() < 400);
        for (name, state) in names.iter().zip(&held) {
            assert!(Arc::ptr_eq(state, &find(&directory, name)));
        }
        drop(held);
        sweep(&directory, NOW);
        directory.shrink();
        assert_eq!(directory.tenants.capacity(), 0);
        assert!(directory.roster.places() < 100);
    }

    #[test]
    fn nothing_is_lost_and_nothing_begins_anew_while_tenants_are_used_and_dropped_at_once() {
        const TIMES: u64 = 1_000;
        let (directory, is_over) = (&directory(&["acme", "globex"]), &AtomicBool::new(false));
        thread::scope(|scope| {
            let sweeper = scope.spawn(|| {
                let mut dropped = 0;
                while !is_over.load(Relaxed) {
                    sweep(directory, NOW);
                    dropped += u64::from(directory.is_empty());
                }
                dropped
            });
            let users: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        for time in 0..TIMES {
                            let tenant = ["acme", "globex"][usize::from(time % 3 == 0)];
                            let state = find(directory, tenant);
                            // One who waits has the state, and no counter yet.
                            thread::yield_now();
                            counter(&state, "calls", NOW).unwrap().cell.record(1);
                        }
                    })
                })
                .collect();
            users.into_iter().for_each(|user| user.join().unwrap());
            is_over.store(true, Relaxed);
            assert!(sweeper.join().unwrap() > 0, "nobody was dropped");
        });
        let all: u64 = ["acme", "globex"].map(|it| recorded(&find(directory, it))).iter().sum();
        assert_eq!(all, 4 * TIMES);
    }
}
