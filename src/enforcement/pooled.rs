//! Drawing on a pool instead of on a plan's limit.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    directory::tenant_state::Terms,
    engine::Engine,
    error::EngineError,
    pool_draw::{PoolDraw, PoolPlace},
};
use crate::domain::{catalog::compiled_plan::PlanMeter, cell_key::CellKey};

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
    #[inline]
    pub(super) async fn pool_draw(
        &self,
        terms: &Terms,
        meter: &PlanMeter,
        at: Timestamp,
    ) -> Result<Option<Arc<PoolDraw>>, NoDraw> {
        let Some(place) = terms.pool(meter) else { return Ok(None) };
        match place.current(at) {
            Some(draw) => Ok(Some(draw)),
            None => Box::pin(self.new_draw(place, meter, at)).await.map(Some),
        }
    }

    async fn new_draw(
        &self,
        place: &PoolPlace,
        meter: &PlanMeter,
        at: Timestamp,
    ) -> Result<Arc<PoolDraw>, NoDraw> {
        let PoolPlace { share, class, cells, .. } = place;
        let mut counters = Vec::with_capacity(cells.len());
        for cell in cells {
            let state = self.tenant(&cell.owner, "pool").await?;
            let terms = state.terms();
            let Some(meter) = terms.plan.meter(meter.meter.name.as_str()) else {
                let problem = format!("{} has no such meter", share.pool);
                return Err(EngineError::Unavailable(problem).into());
            };
            let counter = match state.current_counter(&terms, meter, None, at, usize::MAX) {
                Ok(counter) => counter,
                // The common cell is the first, and all have the same windows.
                Err(_) => return Err(NoDraw::Past(terms.cell_key(meter, at))),
            };
            counters.push(counter);
        }
        let ceilings = cells.iter().map(|cell| cell.ceiling).collect();
        let draw = Arc::new(PoolDraw { share: *share, class: class.clone(), counters, ceilings });
        place.remember(&draw);
        Ok(draw)
    }
}
