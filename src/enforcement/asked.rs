//! A quota request on its way through the engine.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    answer::{Decision, Figures, answer},
    directory::tenant_state::{TenantState, Terms},
    labelling,
    pool_draw::PoolDraw,
};
use crate::domain::{
    bounds::Bounds,
    catalog::compiled_plan::PlanMeter,
    cell_key::CellKey,
    ids::{IdempotencyKey, Subject},
    invalid::Invalid,
    properties::Properties,
    quota::{DecidedBy, QuotaAnswer, QuotaMode, QuotaReason, QuotaRequest},
    standing::Standing,
    usage::{Durability, UsageEvent},
    window::Window,
};

/// What a caller says of a meter besides its name.
#[derive(Clone, Copy)]
pub(super) struct Said<'r> {
    /// Base units; negative only to lower a level by CONSUME.
    pub amount: i64,
    pub mode: QuotaMode,
    pub idempotency_key: Option<&'r IdempotencyKey>,
    /// Absent: the sidecar's configured default.
    pub durability: Option<Durability>,
    pub properties: &'r Properties,
}

impl<'r> From<&'r QuotaRequest> for Said<'r> {
    fn from(request: &'r QuotaRequest) -> Self {
        Self {
            amount: request.amount,
            mode: request.mode,
            idempotency_key: request.idempotency_key.as_ref(),
            durability: request.durability,
            properties: &request.properties,
        }
    }
}

/// A request, with what it names looked up and checked.
pub(super) struct Asked<'r> {
    pub said: Said<'r>,
    pub state: &'r Arc<TenantState>,
    pub terms: &'r Arc<Terms>,
    pub meter: &'r PlanMeter,
    pub subject: Option<Subject>,
    /// The tenant's now: what everything of this request is stamped with.
    pub now: Timestamp,
    /// When the request began, since the start of the run: what the counters that it uses are stamped
    /// with.
    pub began: Duration,
    /// Units that the request adds to a summed counter; 0 when it lowers a level.
    pub units: u64,
    /// What it draws on instead of on the plan's limit ([`Engine::pool_draw`]).
    ///
    /// [`Engine::pool_draw`]: super::engine::Engine::pool_draw
    pub pool: Option<Arc<PoolDraw>>,
}

impl Asked<'_> {
    pub(super) fn window(&self) -> Window {
        self.terms.tenant.subscription.schedule.window(self.meter.limit.period, self.now)
    }

    pub(super) fn key(&self, window: &Window) -> CellKey {
        CellKey {
            tenant: self.terms.tenant.id.clone(),
            meter: self.meter.meter.name.clone(),
            subject: self.subject.clone(),
            label: window.label,
        }
    }

    pub(super) fn event(&self, key: CellKey) -> Result<UsageEvent, Invalid> {
        let particulars = labelling::Particulars {
            amount: self.said.amount,
            time: self.now,
            idempotency_key: self.said.idempotency_key.cloned(),
            properties: self.said.properties.clone(),
        };
        labelling::event(&self.meter.meter, key, particulars)
    }

    /// What a denied tenant could do, by where it stands.
    pub(super) fn with_standing<A>(&self, ask: impl FnOnce(Standing<'_>) -> A) -> A {
        let catalog = self.terms.catalog();
        let plan = &self.terms.plan;
        ask(Standing { catalog: &catalog, plan, now: self.now, operation: None })
    }

    pub(super) fn denial(&self, reason: QuotaReason) -> QuotaAnswer {
        let decision = Decision { reason, decided_by: DecidedBy::Memory };
        answer(self.meter, Some(&self.window().bounds()), Figures::default(), decision)
    }

    /// Units that the grants in force have left, as far as this sidecar knows.
    pub(super) fn left_in_grants(&self) -> u64 {
        let subject = self.subject.as_ref();
        self.state.left_in_grants(self.terms, self.meter, subject, self.now)
    }

    /// An answer without a reservation; what remains counts the grants in force.
    pub(super) fn answer(
        &self,
        window: &Bounds,
        figures: Figures,
        decision: Decision,
    ) -> QuotaAnswer {
        let answer = answer(self.meter, Some(window), figures, decision);
        if let Some(pool) = &self.pool {
            let used = pool.figures().used;
            let limit = pool.share.units;
            return QuotaAnswer {
                limit: Some(limit),
                used,
                remaining: Some(pool.left().saturating_add(self.left_in_grants())),
                overage: used.saturating_sub(limit),
                resets_at: pool.window_end(),
                ..answer
            };
        }
        let left = self.left_in_grants();
        QuotaAnswer { remaining: answer.remaining.map(|own| own.saturating_add(left)), ..answer }
    }
}
