//! What covers a request that its own counter has no room for: grants, tried in burn order.
//!
//! A request may be split over several counters, all or nothing. Each is asked for all that is
//! missing; one that says for certain that it has less *offers* what it has. When the offers and the
//! last counter's units suffice, the offers are taken up. Somebody may have been faster: then all is
//! given back and it is tried again. Each such loss is somebody else's success, so trying ends.

use std::sync::Arc;

use super::{
    asked::Asked,
    counter::Counter,
    directory::tenant_state::{TenantState, Terms},
    engine::Engine,
    pooled::PoolDraw,
    taken::{Acquired, Taken},
};
use crate::domain::{
    catalog::compiled_plan::PlanMeter,
    ids::Subject,
    usage::{Part, UsageEvent},
};

/// How often a split is tried that loses against others.
const SPLITS_MAX: usize = 8;

/// What came of asking several counters.
#[derive(Debug)]
pub(super) enum Split {
    /// The units, in the order of the counters.
    Taken(Vec<Taken>),
    /// No more than `remaining` can be had of all.
    Denied { remaining: u64 },
    /// The shared counters of one at least are out of reach, and the others do not suffice.
    Unavailable,
}

/// Units of a level that come free in another counter than its own. Dropped before it is kept, it
/// leaves no trace.
#[derive(Debug)]
pub(super) struct Freed {
    pub counter: Arc<Counter>,
    pub units: u64,
}

impl Drop for Freed {
    fn drop(&mut self) {
        self.counter.unlower(self.units);
    }
}

impl Freed {
    /// The journal has it.
    pub fn keep(mut self) {
        self.units = 0;
    }

    /// As the event says it.
    pub fn part(&self) -> Part {
        Part { key: self.counter.key.clone(), units: self.units, recorded: 0 }
    }
}

impl Engine {
    /// The counters of the grants that are in force for what is asked, in burn order.
    pub(super) fn grant_counters(&self, asked: &Asked<'_>) -> Vec<Arc<Counter>> {
        let Asked { state, terms, meter, subject, now, .. } = asked;
        let in_force =
            terms.grants(meter, subject.as_ref()).filter(|grant| grant.is_in_force(*now));
        // A window that is past already has nothing to give.
        in_force.filter_map(|grant| state.grant_counter(terms, grant, *now).ok()).collect()
    }

    /// Takes `units` from `counters`, in their order: all or nothing.
    pub(super) async fn split(&self, counters: &[Arc<Counter>], units: u64) -> Split {
        let mut offered = 0;
        for _ in 0..SPLITS_MAX {
            let mut offers = Vec::new();
            let mut missing = units;
            let mut last = None;
            let mut is_blind = false;
            for counter in counters {
                counter.touch(self.leasing.now());
                match self.leasing.take_or_acquire(counter, missing).await {
                    Acquired::Taken(taken) => {
                        last = Some(taken);
                        break;
                    }
                    Acquired::Denied { remaining } => {
                        let offer = remaining.min(missing.saturating_sub(1));
                        if offer > 0 {
                            offers.push((counter, offer));
                            missing -= offer;
                        }
                    }
                    Acquired::Unavailable => is_blind = true,
                }
            }
            let Some(last) = last else {
                return match is_blind {
                    true => Split::Unavailable,
                    false => Split::Denied { remaining: units - missing },
                };
            };
            if let Some(mut taken) = self.take_up(&offers).await {
                taken.push(last);
                return Split::Taken(taken);
            }
            offered = units - missing;
        }
        Split::Denied { remaining: offered }
    }

    async fn take_up(&self, offers: &[(&Arc<Counter>, u64)]) -> Option<Vec<Taken>> {
        let mut taken = Vec::with_capacity(offers.len() + 1);
        for (counter, offer) in offers {
            match self.leasing.take_or_acquire(counter, *offer).await {
                Acquired::Taken(units) => taken.push(units),
                Acquired::Denied { .. } | Acquired::Unavailable => return None,
            }
        }
        Some(taken)
    }

    /// Where a level comes free that goes down, beside its own counter. What burns last comes free
    /// first, and what grants cover that have ended before the plan's own. A member of a pool first
    /// lowers what it had before it became one (`own`), and then the pool.
    pub(super) async fn freed(
        &self,
        lowered: &Lowered<'_>,
        pool: Option<&PoolDraw>,
        own: Option<&Arc<Counter>>,
    ) -> Vec<Freed> {
        let Lowered { state, terms, meter, subject, units } = *lowered;
        let mut freed = Vec::new();
        let mut left = units;
        for grant in terms.grants(meter, subject).rev().filter(|grant| grant.covers_level) {
            let Ok(counter) = state.grant_counter(terms, grant, grant.starts_at) else { continue };
            self.free(&counter, &mut left, &mut freed).await;
        }
        let Some(pool) = pool.filter(|_| left > 0) else { return freed };
        if let Some(own) = own {
            self.freshen(own).await;
            left -= left.min(u64::try_from(own.cell.used()).unwrap_or(0));
        }
        let Some((common, reserves)) = pool.counters.split_first() else { return freed };
        for reserve in reserves.iter().rev() {
            self.free(reserve, &mut left, &mut freed).await;
        }
        if left > 0 {
            common.lower_all(left);
            freed.push(Freed { counter: common.clone(), units: left });
        }
        freed
    }

    async fn free(&self, counter: &Arc<Counter>, left: &mut u64, freed: &mut Vec<Freed>) {
        if *left == 0 {
            return;
        }
        self.freshen(counter).await;
        let units = counter.lower(*left);
        if units > 0 {
            *left -= units;
            freed.push(Freed { counter: counter.clone(), units });
        }
    }
}

/// A level that goes down.
#[derive(Clone, Copy)]
pub(super) struct Lowered<'a> {
    pub state: &'a TenantState,
    pub terms: &'a Terms,
    pub meter: &'a PlanMeter,
    pub subject: Option<&'a Subject>,
    /// By how much.
    pub units: u64,
}

/// What the own counter of `event` counts of `units`: what nothing else covers.
pub(super) fn own_units(event: &UsageEvent, units: u64) -> u64 {
    units.saturating_sub(event.covered())
}
