//! CONSUMEs that are decided at once: from what is in memory and in hand.
//!
//! Like [`super::glance`], and for the same checks. What the journal has to keep is waited for
//! afterwards; anything else is for [`Engine::check_quota`], which answers the same where both can.

use std::time::Duration;

use futures::FutureExt;

use super::{asked::Asked, engine::Engine, error::EngineError, owed::Decided};
use crate::domain::{
    ids::IdempotencyKey,
    properties::Properties,
    quota::{QuotaAnswer, QuotaMode, QuotaRequest},
    usage::Durability,
};

/// A CONSUME for the whole tenant, by names that need not be any.
#[derive(Clone, Copy, Debug)]
pub struct PlainConsume<'m> {
    pub tenant: &'m str,
    pub meter: &'m str,
    /// Base units.
    pub amount: i64,
    /// Empty where there is none.
    pub idempotency_key: &'m str,
    /// Absent: the sidecar's configured default.
    pub durability: Option<Durability>,
}

/// A CONSUME that is decided.
pub struct Consumed<'e> {
    engine: &'e Engine,
    began: Duration,
    decided: Result<Decided<'e, QuotaAnswer>, EngineError>,
}

impl Consumed<'_> {
    /// The answer, once what it tells of is as durable as was asked.
    pub async fn answer(self) -> Result<QuotaAnswer, EngineError> {
        let Self { engine, began, decided } = self;
        engine.answered(decided?, began).await
    }
}

impl Engine {
    /// Decides a CONSUME, if nobody has to be waited for to allow it, or it repeats another. `None`:
    /// nothing was taken, and nothing is said about it.
    pub fn consume_at_once(&self, plain: PlainConsume<'_>) -> Option<Consumed<'_>> {
        let began = self.leasing.now();
        let decided = self.decide_plain(plain, began)?;
        Some(Consumed { engine: self, began, decided })
    }

    fn decide_plain(
        &self,
        plain: PlainConsume<'_>,
        began: Duration,
    ) -> Option<Result<Decided<'_, QuotaAnswer>, EngineError>> {
        self.check_open().ok()?;
        let state = self.directory.known(plain.tenant)?;
        let terms = state.terms();
        let (meter, units) = terms.plain_units(plain.meter, plain.amount)?;
        let idempotency_key = match plain.idempotency_key {
            "" => None,
            key => Some(IdempotencyKey::new(key).ok()?),
        };
        let now = self.clock.now();
        let counter = terms.current(meter).as_ref().filter(|it| it.window.contains(now))?.clone();
        if meter.limit.ceiling().is_some() && counter.cell.available() < units {
            // Before its key is claimed: it would be claimed twice.
            return None;
        }
        // The counter's own copies of the names: all tenants of a plan share the plan's.
        let request = QuotaRequest {
            tenant: counter.key.tenant.clone(),
            meter: counter.key.meter.clone(),
            subject: None,
            amount: plain.amount,
            mode: QuotaMode::Consume,
            idempotency_key,
            durability: plain.durability,
            properties: Properties::default(),
        };
        let (subject, pool) = (None, None);
        let (request, state, terms) = (&request, &state, &terms);
        let asked = Asked { request, state, terms, meter, subject, now, began, units, pool };
        let durability = self.durability(&asked).ok()?;
        let settling = match self.begin(&asked, durability).now_or_never()? {
            Ok(Ok(settling)) => settling,
            Ok(Err(first_answer)) => return Some(Ok(first_answer.into())),
            Err(error) => return Some(Err(error)),
        };
        let admitted = self.admit_from_hand(&asked, &counter)?;
        Some(self.record(&asked, admitted, settling, durability))
    }
}
