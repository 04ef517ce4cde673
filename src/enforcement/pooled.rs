//! Drawing on a pool instead of on a plan's limit.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    answer::Figures, counter::Counter, directory::tenant_state::Terms, engine::Engine,
    error::EngineError,
};
use crate::domain::{catalog::compiled_plan::PlanMeter, ids::PoolId};

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

impl Engine {
    /// What a tenant draws on at `at`, if it is a member of a pool of the meter.
    pub(super) async fn pool_draw(
        &self,
        terms: &Terms,
        meter: &PlanMeter,
        at: Timestamp,
    ) -> Result<Option<PoolDraw>, EngineError> {
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
            let counter = match terms.plan.meter(meter.meter.name.as_str()) {
                Some(meter) => state.current_counter(&terms, meter, None, at, usize::MAX).ok(),
                None => None,
            };
            let counter = counter.ok_or_else(|| {
                EngineError::Unavailable(format!("{} has no counter for this time", draw.id))
            })?;
            draw.counters.push(counter);
            draw.units += cell.units;
        }
        Ok(Some(draw))
    }
}
