//! What covers a request that its own counter has no room for: grants, tried in burn order.
//!
//! A request may be split over several counters, all or nothing. Each is asked for all that is
//! missing; one that says for certain that it has less *offers* what it has, counting what others may
//! yet return. When the offers and the last counter's units suffice, the offers are taken up. One that
//! cannot be kept (others hold what they do not return, or somebody was faster) is a lesson: all is
//! given back, and from then on that counter is asked for no more than it had at hand. So each round
//! asks for less of a counter or ends; one deadline bounds them all.

use std::sync::Arc;

use super::{
    asked::Asked,
    counter::Counter,
    directory::tenant_state::{TenantState, Terms},
    engine::Engine,
    pool_draw::PoolDraw,
    taken::{Acquired, Taken},
};
use crate::domain::{
    catalog::compiled_plan::PlanMeter,
    ids::Subject,
    usage::{Part, UsageEvent},
};

/// What came of asking several counters.
#[derive(Debug)]
pub(super) enum Split {
    /// The units, in the order of the counters.
    Taken(Vec<Taken>),
    /// No more than `remaining` can be had of all.
    Denied { remaining: u64 },
    /// The shared counters of one at least are out of reach, and the others do not suffice.
    Unavailable {
        /// The first of the counters is among those.
        is_first: bool,
    },
}

/// What a round of asking came to.
enum Round {
    /// This is the answer.
    Decided(Split),
    /// Counter `index` had no more than `had` of what it offered.
    Broken { index: usize, had: u64 },
}

/// A split on its way from round to round.
struct Rounds<'a> {
    counters: &'a [Arc<Counter>],
    units: u64,
    /// By counter: what it is asked for at most.
    caps: Vec<u64>,
    /// By counter: it could not be asked.
    is_blind: Vec<bool>,
    /// The first counter has answered for certain.
    is_first_known: bool,
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
        let mut rounds = Rounds {
            counters,
            units,
            caps: vec![units; counters.len()],
            is_blind: vec![false; counters.len()],
            is_first_known: false,
        };
        // One counter alone is asked once, and what it waits for has bounds of its own.
        if counters.len() == 1 {
            return self.rounds(&mut rounds).await;
        }
        let in_time = tokio::time::timeout(self.config.split_wait(), self.rounds(&mut rounds));
        match in_time.await {
            Ok(split) => split,
            // Nobody has said that there is not enough.
            Err(_) => Split::Unavailable { is_first: !rounds.is_first_known },
        }
    }

    async fn rounds(&self, rounds: &mut Rounds<'_>) -> Split {
        let mut has_doubts = false;
        let mut is_second_try = false;
        loop {
            match self.round(rounds).await {
                Round::Broken { index, had } => {
                    rounds.caps[index] = had;
                    has_doubts = true;
                }
                // What was not at hand before may have come back: nobody is denied by old news.
                Round::Decided(Split::Denied { .. }) if has_doubts && !is_second_try => {
                    is_second_try = true;
                    rounds.caps.fill(rounds.units);
                }
                Round::Decided(split) => return split,
            }
        }
    }

    async fn round(&self, rounds: &mut Rounds<'_>) -> Round {
        let mut offers = Vec::new();
        let mut missing = rounds.units;
        let mut last = None;
        for (index, counter) in rounds.counters.iter().enumerate() {
            let cap = rounds.caps[index];
            if cap < missing {
                if cap > 0 {
                    offers.push((index, cap));
                    missing -= cap;
                }
                continue;
            }
            counter.touch(self.leasing.now());
            let acquired = self.leasing.take_or_acquire(counter, missing).await;
            rounds.is_first_known |= index == 0 && !matches!(acquired, Acquired::Unavailable);
            match acquired {
                Acquired::Taken(taken) => {
                    last = Some(taken);
                    break;
                }
                Acquired::Denied { remaining, .. } => {
                    let offer = remaining.min(missing.saturating_sub(1));
                    if offer > 0 {
                        offers.push((index, offer));
                        missing -= offer;
                    }
                }
                Acquired::Unavailable => rounds.is_blind[index] = true,
            }
        }
        let Some(last) = last else {
            let is_first = rounds.is_blind.first().is_some_and(|is_blind| *is_blind);
            return Round::Decided(match rounds.is_blind.contains(&true) {
                true => Split::Unavailable { is_first },
                false => Split::Denied { remaining: rounds.units - missing },
            });
        };
        let mut taken = Vec::with_capacity(offers.len() + 1);
        for (index, offer) in offers {
            match self.leasing.take_or_acquire(&rounds.counters[index], offer).await {
                Acquired::Taken(units) => taken.push(units),
                Acquired::Denied { at_hand, .. } => {
                    return Round::Broken { index, had: at_hand.min(offer - 1) };
                }
                Acquired::Unavailable => {
                    rounds.is_blind[index] = true;
                    return Round::Broken { index, had: 0 };
                }
            }
        }
        taken.push(last);
        Round::Decided(Split::Taken(taken))
    }

    /// Where a level that goes down may come free, in order: what burns last first, so that what
    /// grants cover that have ended goes before the plan's own. A member of a pool first lowers what
    /// it had before it became one (`own`), and then the pool. The ledger decides, which alone knows
    /// how much each covers; the last takes what the others do not. Empty: all in the own counter.
    pub(super) fn may_free(
        &self,
        lowered: &Lowered<'_>,
        pool: Option<&PoolDraw>,
        own: impl FnOnce() -> Option<Arc<Counter>>,
    ) -> Vec<Arc<Counter>> {
        let Lowered { state, terms, meter, subject } = *lowered;
        let grants = terms.grants(meter, subject).rev().filter(|grant| grant.covers_level);
        let mut counters: Vec<_> = grants
            .filter_map(|grant| state.grant_counter(terms, grant, grant.starts_at).ok())
            .collect();
        if counters.is_empty() && pool.is_none() {
            return counters;
        }
        counters.extend(own());
        if let Some((common, reserves)) = pool.and_then(|pool| pool.counters.split_first()) {
            counters.extend(reserves.iter().rev().cloned());
            counters.push(common.clone());
        }
        counters
    }
}

/// What an event that lowers a level says of where it may come free.
pub(super) fn may_free_parts(counters: &[Arc<Counter>]) -> Vec<Part> {
    let part = |counter: &Arc<Counter>| Part { key: counter.key.clone(), units: 0, recorded: 0 };
    counters.iter().map(part).collect()
}

/// A level that goes down.
#[derive(Clone, Copy)]
pub(super) struct Lowered<'a> {
    pub state: &'a TenantState,
    pub terms: &'a Terms,
    pub meter: &'a PlanMeter,
    pub subject: Option<&'a Subject>,
}

/// What the own counter of `event` counts of `units`: what nothing else covers.
pub(super) fn own_units(event: &UsageEvent, units: u64) -> u64 {
    units.saturating_sub(event.covered())
}
