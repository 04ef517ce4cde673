//! What the embedded ledger had when this run began.

use std::sync::Arc;

use crate::domain::{
    cell_key::{CellKey, KeyParts},
    packed_map::PackedMap,
};

/// Usage of earlier runs by counter, frozen at the start: this run's own usage is told to the
/// counters by their holders and must not be in the floor as well.
#[derive(Clone, Debug, Default)]
pub struct EmbeddedTotals(Arc<PackedMap<i64>>);

impl EmbeddedTotals {
    /// Freezes the totals.
    pub fn new<'k>(totals: impl IntoIterator<Item = (KeyParts<'k>, i64)>) -> Self {
        let mut frozen = PackedMap::default();
        for (key, used) in totals {
            frozen.change(key, |kept| *kept = Some(used));
        }
        Self(Arc::new(frozen))
    }

    /// Units used in earlier runs.
    pub fn used(&self, key: &CellKey) -> i64 {
        self.0.get(key.parts()).unwrap_or(0)
    }
}
