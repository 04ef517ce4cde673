//! What the embedded ledger had when this run began.

use std::sync::Arc;

use ahash::AHashMap;

use crate::domain::cell_key::CellKey;

/// Usage of earlier runs by counter, frozen at the start: this run's own usage is told to the
/// counters by their holders and must not be in the floor as well.
#[derive(Clone, Debug, Default)]
pub struct EmbeddedTotals(Arc<AHashMap<Arc<CellKey>, i64>>);

impl EmbeddedTotals {
    /// Freezes the totals. Their keys are shared with the store that has them.
    pub fn new(totals: impl IntoIterator<Item = (Arc<CellKey>, i64)>) -> Self {
        Self(Arc::new(totals.into_iter().collect()))
    }

    /// Units used in earlier runs.
    pub fn used(&self, key: &CellKey) -> i64 {
        self.0.get(key).copied().unwrap_or(0)
    }
}
