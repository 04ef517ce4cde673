//! What the dropped cells of a sidecar left.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    domain::window::Window,
    leases::{
        dropped::{Past, PastTo},
        message::Totals,
    },
};

/// The totals that cells were dropped with, by their keys.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    left: BTreeMap<usize, Left>,
    past_to: PastTo,
}

#[derive(Debug)]
struct Left {
    /// The end of the cell's window, if it has one.
    end: Option<Timestamp>,
    totals: Totals,
}

impl Dropped {
    /// What a new cell of `key` has to go on from, if there was one before.
    pub(super) fn look(&self, key: usize, window: &Window) -> Result<Option<Totals>, Past> {
        self.past_to.look(self.left.get(&key).map(|left| left.totals), window)
    }

    /// There is a cell of `key` again.
    pub(super) fn resume(&mut self, key: usize) {
        self.left.remove(&key);
    }

    /// The cell of `key` is dropped at `now`. `end` is that of its window, if it has one.
    pub(super) fn leave(
        &mut self,
        key: usize,
        end: Option<Timestamp>,
        now: Timestamp,
        totals: Totals,
    ) {
        if !self.past_to.pass(end, now) {
            self.left.insert(key, Left { end, totals });
        }
    }

    /// Forgets what windows left that are over at `now`.
    pub(super) fn forget_past(&mut self, now: Timestamp) {
        let Self { left, past_to } = self;
        left.retain(|_, left| !past_to.pass(left.end, now));
    }
}
