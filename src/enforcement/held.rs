//! What a reservation holds: units of a counter and of what covers the rest.

use super::taken::Taken;
use crate::domain::{cell_key::CellKey, usage::UsageEvent, window::Window};

/// Held units; they go back when this is dropped.
#[derive(Debug)]
pub struct Held {
    /// What is counted when it is settled.
    pub key: CellKey,
    pub window: Window,
    /// Of the key's own counter; may be 0.
    pub own: Taken,
    /// Of grants, in burn order.
    pub covers: Vec<Taken>,
}

impl Held {
    /// Units held in all.
    pub fn amount(&self) -> u64 {
        self.all().map(Taken::amount).sum()
    }

    /// Marks the units as reserved, for display.
    pub fn reserve(&self) {
        self.all().for_each(Taken::reserve);
    }

    /// Takes the mark of [`Held::reserve`] back.
    pub fn unreserve(&self) {
        self.all().for_each(Taken::unreserve);
    }

    /// Says in `event`, which settles it with `units`, what they are taken from: the own counter
    /// first, then the grants as they burn.
    pub fn share_out(&self, event: &mut UsageEvent, units: u64) {
        event.from_lease = self.own.amount().min(units);
        let mut left = units - event.from_lease;
        for cover in &self.covers {
            let mut part = cover.part();
            part.units = part.units.min(left);
            left -= part.units;
            if part.units > 0 {
                event.parts.push(part);
            }
        }
    }

    /// Counts as consumed what [`Held::share_out`] has told of `units`; the rest goes back.
    pub fn spend(self, units: u64) {
        let mut left = units;
        for taken in std::iter::once(self.own).chain(self.covers) {
            let spent = taken.amount().min(left);
            left -= spent;
            taken.spend(spent);
        }
    }

    fn all(&self) -> impl Iterator<Item = &Taken> {
        std::iter::once(&self.own).chain(&self.covers)
    }
}
