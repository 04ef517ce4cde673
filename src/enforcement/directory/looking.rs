//! The way to a counter of one who only looks at it: by what the thread has in view, or from the
//! tenants in memory.

use jiff::Timestamp;

use super::{
    Directory,
    views::{self, Candidate, Sought},
};
use crate::{domain::catalog::compiled_plan::PlanMeter, enforcement::counter::Counter};

impl Directory {
    /// What `ask` says of the meter called `meter`, and of the counter that counts it at `now` for
    /// the whole tenant, where both are in memory and the plan's limit is all that is to be asked
    /// ([`super::tenant_state::Terms::plain_meter`]). It must not come back to the directory: part
    /// of it may be locked meanwhile, as nobody else counts as the tenant's holder.
    #[inline]
    pub fn look<A>(
        &self,
        tenant: &str,
        meter: &str,
        now: Timestamp,
        ask: impl Fn(&PlanMeter, &Counter) -> Option<A>,
    ) -> Option<A> {
        let Some(directory) = self.number else {
            return self.look_up(tenant, meter, now, ask, |_| ());
        };
        let hash = self.tenants.hasher().hash_one((tenant, meter));
        let sought = Sought { directory, tenant, meter, hash };
        match views::look(sought, now, &ask) {
            Some(answer) => answer,
            None => self.look_up(tenant, meter, now, ask, |found| views::keep(sought, &found)),
        }
    }

    #[inline(never)] // Most looks are at what is in view.
    fn look_up<A>(
        &self,
        tenant: &str,
        meter: &str,
        now: Timestamp,
        ask: impl Fn(&PlanMeter, &Counter) -> Option<A>,
        keep: impl FnOnce(Candidate<'_>),
    ) -> Option<A> {
        let state = self.tenants.get(tenant)?;
        let terms = state.look_at_terms();
        let meter = terms.plain_meter(meter)?;
        let current = terms.current(meter);
        let counter = current.as_ref().filter(|it| it.window.contains(now))?;
        let answer = ask(meter, counter)?;
        keep(Candidate { state: &state, terms: &terms, meter: meter.index, counter });
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::ToSpan;

    use super::*;
    use crate::{
        domain::{
            catalog::compiled_plan::CompiledPlan,
            tenant::{SubscriptionStatus, Tenant},
        },
        enforcement::directory::{
            tenant_state::{TenantState, Terms},
            test_tenants::{NOW, begin, count, directory},
        },
    };

    /// Limit and usage, as one who looks sees them.
    fn look(directory: &Directory, tenant: &str, meter: &str) -> Option<(Option<u64>, i64)> {
        look_at(directory, tenant, meter, NOW)
    }

    fn look_at(
        directory: &Directory,
        tenant: &str,
        meter: &str,
        now: Timestamp,
    ) -> Option<(Option<u64>, i64)> {
        let see = |meter: &PlanMeter, counter: &Counter| {
            assert_eq!(counter.key.tenant.as_str(), tenant);
            assert_eq!(counter.key.meter, meter.meter.name);
            Some((meter.limit.amount, counter.cell.used()))
        };
        directory.look(tenant, meter, now, see)
    }

    /// The same terms with what `change` does to the tenant, and with so much of each meter.
    fn changed(state: &TenantState, limit: u64, change: impl FnOnce(&mut Tenant)) -> Terms {
        let terms = state.terms();
        let mut tenant = Tenant::clone(&terms.tenant);
        tenant.version += 1;
        change(&mut tenant);
        let mut plan = CompiledPlan::clone(&terms.plan);
        plan.meters.iter_mut().for_each(|meter| meter.limit.amount = Some(limit));
        Terms::new(Arc::new(tenant), Arc::new(plan), terms.catalog.clone())
    }

    #[test]
    fn what_was_looked_at_is_found_again_without_the_table_of_all_tenants() {
        let directory = directory(&["acme"]);
        let acme = begin(&directory, "acme", "calls", 3);
        assert_eq!(look(&directory, "acme", "calls"), Some((Some(10), 3)));
        assert_eq!(look(&directory, "acme", "mails"), None, "nobody has asked for it yet");
        // Behind the back of those who look.
        directory.tenants.clear();
        count(&acme, "calls", 1);
        assert_eq!(look(&directory, "acme", "calls"), Some((Some(10), 4)));
        let elsewhere = || look(&directory, "acme", "calls");
        let elsewhere = std::thread::scope(|scope| scope.spawn(elsewhere).join().unwrap());
        assert_eq!(elsewhere, None, "each thread has its own");
        assert_eq!(look_at(&directory, "acme", "calls", NOW + 24.hours()), None);
    }

    #[test]
    fn who_looks_sees_new_terms_at_once() {
        let directory = directory(&["acme"]);
        let acme = begin(&directory, "acme", "calls", 3);
        assert_eq!(look(&directory, "acme", "calls"), Some((Some(10), 3)));
        acme.replace_terms(changed(&acme, 20, |_| {}));
        assert_eq!(look(&directory, "acme", "calls"), None, "its counter is looked up at length");
        count(&acme, "calls", 1);
        assert_eq!(look(&directory, "acme", "calls"), Some((Some(20), 4)));
        let suspend = |tenant: &mut Tenant| {
            tenant.subscription.status = SubscriptionStatus::Suspended;
        };
        acme.replace_terms(changed(&acme, 20, suspend));
        count(&acme, "calls", 1);
        assert_eq!(look(&directory, "acme", "calls"), None);
    }

    #[test]
    fn a_counter_that_is_looked_at_is_dropped_and_what_comes_in_its_place_is_seen() {
        let directory = directory(&["acme"]);
        let acme = begin(&directory, "acme", "calls", 3);
        assert_eq!(look(&directory, "acme", "calls"), Some((Some(10), 3)));
        let held = acme.all_counters().pop();
        acme.drop_done_counters(NOW, |_| true);
        assert_eq!(acme.all_counters().len(), 1, "somebody may be about to count on it");
        assert_eq!(look(&directory, "acme", "calls"), Some((Some(10), 3)));
        drop(held);
        acme.drop_done_counters(NOW, |_| true);
        assert!(acme.all_counters().is_empty(), "one who only looks keeps no counter");
        assert_eq!(look(&directory, "acme", "calls"), None);
        count(&acme, "calls", 4);
        assert_eq!(look(&directory, "acme", "calls"), Some((Some(10), 7)));
        assert_eq!(acme.all_counters().first().map(|it| it.onlookers.count()), Some(1));
    }

    #[test]
    fn nobody_sees_a_tenant_that_was_replaced_or_that_is_another_directorys() {
        let (one, other) = (directory(&["acme"]), directory(&["acme"]));
        let acme = begin(&one, "acme", "calls", 3);
        begin(&other, "acme", "calls", 5);
        for _ in 0..2 {
            assert_eq!(look(&one, "acme", "calls"), Some((Some(10), 3)));
            assert_eq!(look(&other, "acme", "calls"), Some((Some(10), 5)));
        }
        one.put(changed(&acme, 20, |_| {}));
        assert_eq!(look(&one, "acme", "calls"), None);
        begin(&one, "acme", "calls", 1);
        assert_eq!(look(&one, "acme", "calls"), Some((Some(20), 1)));
    }

    #[test]
    fn more_tenants_than_there_are_places_are_told_apart_however_long_their_names_are() {
        let long = "a-name-that-is-longer-than-what-lies-beside-a-view";
        let names: Vec<_> =
            (0..300).map(|number| format!("{}{number}", &long[..number % long.len()])).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let directory = directory(&names);
        for (used, name) in (0..).zip(&names) {
            begin(&directory, name, "calls", used);
            begin(&directory, name, "mails", used + 1);
        }
        for _ in 0..4 {
            for (used, name) in (0..).zip(&names) {
                assert_eq!(look(&directory, name, "calls"), Some((Some(10), used)));
                assert_eq!(look(&directory, name, "mails"), Some((Some(7), used + 1)));
            }
        }
    }
}
