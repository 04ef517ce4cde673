//! One rate of one tenant, and of one subject where it holds for each.

use std::sync::Arc;

use super::{
    decided::{Decided, Outcome, Want},
    shared_key::{SharedHold, SharedKey},
};
use crate::{
    clock::Clock,
    domain::{
        quota::DecidedBy,
        rate::{RateStandings, RateWindow},
    },
    leases::rate::{cell::Short, message::RateTerms, stack::RateStack},
};

/// Where a rate stands in this sidecar. Cheap to clone.
#[derive(Clone, Debug)]
pub enum RateKey {
    /// Of this sidecar alone: the rate's scope says so, or there is no Redis to share it in.
    Own { stack: Arc<RateStack>, clock: Clock },
    /// Of all sidecars together.
    Shared(Arc<SharedKey>),
}

/// Permits that a request holds: let go when this is dropped, unless they are kept.
#[derive(Debug)]
pub enum Held {
    Own(OwnHold),
    Shared(SharedHold),
}

impl Held {
    /// Takes them for good.
    pub fn keep(self) {
        match self {
            Self::Own(hold) => {
                let now_ns = hold.clock.steady_ns();
                hold.keep(now_ns);
            }
            Self::Shared(hold) => hold.keep(),
        }
    }

    /// The same, where nobody was waited for since they were held: they count from then, and no clock
    /// is asked.
    pub fn keep_at_once(self) {
        match self {
            Self::Own(hold) => {
                let held_at_ns = hold.held_at_ns;
                hold.keep(held_at_ns);
            }
            Self::Shared(hold) => hold.keep(),
        }
    }
}

/// Permits held on a rate of this sidecar alone.
#[derive(Debug)]
pub struct OwnHold {
    stack: Arc<RateStack>,
    clock: Clock,
    held_at_ns: u64,
    /// 0 once they are kept.
    permits: u32,
}

impl OwnHold {
    fn keep(mut self, now_ns: u64) {
        self.stack.keep(self.permits, now_ns);
        self.permits = 0;
    }
}

impl Drop for OwnHold {
    fn drop(&mut self) {
        if self.permits > 0 {
            self.stack.let_go(self.permits);
        }
    }
}

impl RateKey {
    /// The key that goes on from this one under newer terms, where `fresh` is one that nothing was
    /// used of.
    pub fn changed_to(&self, terms: RateTerms, fresh: Self) -> Self {
        match (self, fresh) {
            (Self::Own { stack: old, clock }, Self::Own { .. }) => {
                if *old.windows() == terms.windows {
                    return self.clone();
                }
                let stack = old.with_windows(terms.windows, clock.steady_ns());
                Self::Own { stack: Arc::new(stack), clock: clock.clone() }
            }
            (Self::Shared(old), Self::Shared(_)) => {
                old.change(terms);
                self.clone()
            }
            (_, fresh) => fresh,
        }
    }

    /// Decides by what this sidecar alone knows and counts, where the shared state is out of reach;
    /// and where the windows stand by that.
    pub fn decide_alone(&self, permits: u32, want: Want) -> (Decided<Held>, RateStandings) {
        let (stack, clock) = match self {
            Self::Own { stack, clock } => (stack.clone(), clock),
            Self::Shared(key) => (key.alone(), key.clock()),
        };
        let result = take_own(&stack, clock, permits, want);
        let outcome = result.map_or_else(Outcome::Short, Outcome::Met);
        let decided = Decided { outcome, decided_by: DecidedBy::Fallback };
        (decided, stack.standings(clock.steady_ns()))
    }

    /// Whether so many permits will ever be there at once, by what the plan allows as this key knows
    /// it.
    pub fn ever_fits(&self, permits: u32) -> bool {
        let fit = |windows: &[RateWindow]| windows.iter().all(|window| permits <= window.burst);
        match self {
            Self::Own { stack, .. } => fit(stack.windows()),
            Self::Shared(key) => fit(&key.windows()),
        }
    }

    /// Whether nobody else uses it and a new key would be as good.
    pub fn is_unused(&self, now_ns: u64) -> bool {
        match self {
            Self::Own { stack, .. } => Arc::strong_count(stack) == 1 && stack.is_unused(now_ns),
            Self::Shared(key) => Arc::strong_count(key) == 1 && key.is_unused(now_ns),
        }
    }

    /// Where the windows stand.
    pub fn standings(&self) -> RateStandings {
        match self {
            Self::Own { stack, clock } => stack.standings(clock.steady_ns()),
            Self::Shared(key) => key.standings(),
        }
    }

    /// Holds permits that are in hand; and where the windows stand with them. `None`: they are not,
    /// and nobody has asked for them.
    pub fn hold_in_hand(self, permits: u32) -> Option<(Held, RateStandings)> {
        match self {
            Self::Own { stack, clock } => {
                let held_at_ns = clock.steady_ns();
                stack.hold(permits, held_at_ns).ok()?;
                let windows = stack.standings(held_at_ns);
                Some((Held::Own(OwnHold { stack, clock, held_at_ns, permits }), windows))
            }
            Self::Shared(key) => {
                let held = key.hold_in_hand(permits)?;
                Some((Held::Shared(held), key.standings()))
            }
        }
    }

    /// Decides without waiting, if that is possible.
    pub fn offhand(&self, permits: u32, want: Want) -> Option<Decided<Held>> {
        match self {
            Self::Own { stack, clock } => {
                let result = take_own(stack, clock, permits, want);
                let outcome = result.map_or_else(Outcome::Short, Outcome::Met);
                Some(Decided { outcome, decided_by: DecidedBy::Memory })
            }
            Self::Shared(key) => Some(key.offhand(permits, want)?.map(Held::Shared)),
        }
    }

    /// Decides by a call, where [`Self::offhand`] could not; an own rate always can.
    pub async fn wait(&self, permits: u32, want: Want) -> Decided<Held> {
        match self {
            Self::Own { .. } => Decided { outcome: Outcome::Away, decided_by: DecidedBy::Fallback },
            Self::Shared(key) => key.wait(permits, want).await.map(Held::Shared),
        }
    }
}

fn take_own(
    stack: &Arc<RateStack>,
    clock: &Clock,
    permits: u32,
    want: Want,
) -> Result<Option<Held>, Short> {
    let now_ns = clock.steady_ns();
    match want {
        Want::Look => stack.look(permits, now_ns).map(|()| None),
        Want::Take => stack.take(permits, now_ns).map(|()| None),
        Want::Hold => {
            stack.hold(permits, now_ns)?;
            let (stack, clock) = (stack.clone(), clock.clone());
            Ok(Some(Held::Own(OwnHold { stack, clock, held_at_ns: now_ns, permits })))
        }
    }
}
