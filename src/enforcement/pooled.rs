//! Drawing on a pool instead of on a plan's limit.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    answer::Figures, counter::Counter, directory::tenant_state::Terms, engine::Engine,
    error::EngineError,
};
use crate::domain::{catalog::compiled_plan::PlanMeter, cell_key::CellKey, ids::PoolId};

/// The counters of a pool that a member draws on, in burn order; the first is what all members have
/// in common.
#[derive(Debug)]
pub(super) struct PoolDraw {
    pub id: PoolId,
    pub class: Option<String>,
    pub counters: Vec<Arc<Counter>>,
    /// Base units of all these cells.
    units: u64,
}

impl PoolDraw {
    /// Base units that the member's class may use in all.
    pub fn units(&self) -> u64 {
        self.units
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
        let Figures { used, blocked } = self.figures();
        self.units.saturating_sub(used).saturating_sub(blocked)
    }

    /// When the pool's window ends.
    pub fn window_end(&self) -> Option<Timestamp> {
        self.counters.first().and_then(|counter| counter.window.end)
    }
}

/// Why a pool's counters cannot be had.
#[derive(Debug)]
pub(super) enum NoDraw {
    /// The window is over and only the ledger has it still: of the cell that all members have in
    /// common, this one.
    Past(CellKey),
    /// They are out of reach.
    Failed(EngineError),
}

impl From<EngineError> for NoDraw {
    fn from(error: EngineError) -> Self {
        Self::Failed(error)
    }
}

impl From<NoDraw> for EngineError {
    fn from(none: NoDraw) -> Self {
        match none {
            NoDraw::Past(key) => Self::Unavailable(format!("{key} is over")),
            NoDraw::Failed(error) => error,
        }
    }
}

impl Engine {
    /// What a tenant draws on at `at`, if it is a member of a pool of the meter.
    pub(super) async fn pool_draw(
        &self,
        terms: &Terms,
        meter: &PlanMeter,
        at: Timestamp,
    ) -> Result<Option<PoolDraw>, NoDraw> {
        let Some(membership) = terms.pool(meter) else { return Ok(None) };
        let mut draw = PoolDraw {
            id: membership.pool.id,
            class: membership.class.as_ref().map(ToString::to_string),
            counters: vec![],
            units: 0,
        };
        for cell in membership.pool.cells_of(membership.class.as_ref()) {
            let state = self.tenant(&cell.owner, "pool").await?;
            let terms = state.terms();
            let Some(meter) = terms.plan.meter(meter.meter.name.as_str()) else {
                return Err(
                    EngineError::Unavailable(format!("{} has no such meter", draw.id)).into()
                );
            };
            let counter = match state.current_counter(&terms, meter, None, at, usize::MAX) {
                Ok(counter) => counter,
                // The common cell is the first, and all have the same windows.
                Err(_) => return Err(NoDraw::Past(terms.cell_key(meter, at))),
            };
            draw.counters.push(counter);
            draw.units += cell.units;
        }
        Ok(Some(draw))
    }
}
