//! What a member of a pool draws on: the pool's counters in one window.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;

use super::{answer::Figures, counter::Counter};
use crate::domain::{
    bounds::Bounds,
    pool::{PoolCell, PoolMembership, PoolShare},
};

/// A tenant's place in a pool that it draws on instead of on its plan's limit.
#[derive(Debug)]
pub struct PoolPlace {
    pub share: PoolShare,
    pub class: Option<String>,
    /// In burn order; the first is what all members have in common.
    pub cells: Box<[PoolCell]>,
    /// What was drawn on last. A cache: it spares a check the look-up of every cell.
    current: ArcSwapOption<PoolDraw>,
}

impl PoolPlace {
    /// The place that `membership` gives.
    pub fn new(membership: &PoolMembership) -> Self {
        let PoolMembership { pool, class } = membership;
        Self {
            share: membership.share(),
            class: class.as_ref().map(ToString::to_string),
            cells: pool.cells_of(class.as_ref()).into(),
            current: ArcSwapOption::empty(),
        }
    }

    /// What it drew on last, if that is what it draws on at `at`.
    #[inline]
    pub fn current(&self, at: Timestamp) -> Option<Arc<PoolDraw>> {
        let current = self.current.load();
        let holds = |draw: &PoolDraw| draw.window().is_some_and(|window| window.contains(at));
        current.as_ref().filter(|draw| holds(draw)).cloned()
    }

    /// Remembers `draw`, unless that is of an earlier window than what is remembered.
    pub fn remember(&self, draw: &Arc<PoolDraw>) {
        let start = |draw: &PoolDraw| draw.window().map(|window| window.start());
        if self.current.load().as_ref().is_none_or(|known| start(known) <= start(draw)) {
            self.current.store(Some(draw.clone()));
        }
    }

    /// Lets go of counters that are all `done`: while they are remembered, nobody drops them.
    pub fn forget(&self, done: impl Fn(&Counter) -> bool) {
        let current = self.current.load();
        if current.as_ref().is_some_and(|draw| draw.counters.iter().all(|counter| done(counter))) {
            self.current.store(None);
        }
    }
}

/// The counters of a pool that a member draws on, in burn order; the first is what all members have
/// in common.
#[derive(Debug)]
pub struct PoolDraw {
    /// With the base units that the member's class may use in all.
    pub share: PoolShare,
    pub class: Option<String>,
    /// Also those of cells that admit nothing at the pool's size: what was drawn on them at
    /// another one comes free there.
    pub counters: Vec<Arc<Counter>>,
    /// By counter: what its cell admits up to.
    pub ceilings: Box<[u64]>,
}

impl PoolDraw {
    /// The counters that something can be drawn on.
    pub fn drawable(&self) -> impl Iterator<Item = &Arc<Counter>> {
        let cells = self.counters.iter().zip(&self.ceilings);
        cells.filter(|(_, ceiling)| **ceiling > 0).map(|(counter, _)| counter)
    }

    /// What all members have used of these cells, and what else lies against them.
    pub fn figures(&self) -> Figures {
        let add = |sum: Figures, counter: &Arc<Counter>| {
            let Figures { used, blocked } = Figures::of(counter);
            Figures { used: sum.used + used, blocked: sum.blocked + blocked }
        };
        self.counters.iter().fold(Figures::default(), add)
    }

    /// Base units that the member's class may still use.
    pub fn left(&self) -> u64 {
        let left = self.counters.iter().zip(&self.ceilings).map(|(counter, ceiling)| {
            let Figures { used, blocked } = Figures::of(counter);
            ceiling.saturating_sub(used).saturating_sub(blocked)
        });
        left.sum()
    }

    /// When the pool's window ends.
    pub fn window_end(&self) -> Option<Timestamp> {
        self.window().and_then(|window| window.end())
    }

    /// All cells have the same windows.
    fn window(&self) -> Option<&Bounds> {
        self.counters.first().map(|counter| &counter.window)
    }
}
