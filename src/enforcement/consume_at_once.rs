//! CONSUMEs that are decided at once: from what is in memory and in hand.
//!
//! Like [`super::glance`], and for the same checks. What the journal has to keep is waited for
//! afterwards; anything else is for [`Engine::check_quota`], which answers the same where both can.

use std::{sync::Arc, time::Duration};

use super::{
    answer::{Decision, Figures, answer, reason_allowed},
    counter::Counter,
    engine::{Engine, effective_durability},
    error::EngineError,
    owed::Owed,
    repeats::{Asked, Begun, Claim, ContentRef, Name, Remembered, Verb},
    settling::{Counted, Settling},
    taken::TakenHere,
};
use crate::{
    domain::{
        catalog::compiled_plan::PlanMeter,
        ids::IdempotencyKey,
        quota::{DecidedBy, QuotaAnswer},
        usage::Durability,
    },
    journal::{
        Pending,
        position::RecordPlace,
        record::{PlainEvent, RecordRef},
    },
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
pub enum Consumed {
    /// The answer may leave.
    Answered(QuotaAnswer),
    /// It has to wait for the record that it tells of.
    Owed(OwedAnswer),
}

/// An answer that tells of a record which is not as durable yet as was asked.
pub struct OwedAnswer {
    began: Duration,
    answer: QuotaAnswer,
    owed: Owed<Arc<Engine>>,
}

impl OwedAnswer {
    /// The answer, once it may leave.
    pub async fn acknowledged(self) -> Result<QuotaAnswer, EngineError> {
        let Self { began, answer, mut owed } = self;
        owed.acknowledged().await?;
        owed.engine.count_consumed(&answer, began);
        Ok(answer)
    }
}

/// What is to be taken, and of what.
#[derive(Clone, Copy)]
struct Taking<'t> {
    plain: PlainConsume<'t>,
    meter: &'t PlanMeter,
    counter: &'t Arc<Counter>,
    /// What the amount counts for.
    units: u64,
}

/// What was taken, given back and free again unless it is counted.
struct Both<'t> {
    /// Of the units, where the meter has a ceiling.
    taken: Option<TakenHere<'t>>,
    /// Of the key, if there is one.
    claim: Option<Claim<RecordPlace>>,
}

impl Engine {
    /// Decides a CONSUME, if nobody has to be waited for to allow it. `None`: nothing was taken, and
    /// nothing is said about it.
    pub fn consume_at_once(
        self: &Arc<Self>,
        plain: PlainConsume<'_>,
    ) -> Option<Result<Consumed, EngineError>> {
        let began = self.leasing.now();
        self.check_open().ok()?;
        let state = self.directory.known(plain.tenant)?;
        let terms = state.look_at_terms();
        let (meter, units) = terms.plain_units(plain.meter, plain.amount)?;
        let now = self.clock.now();
        let current = terms.current(meter);
        let counter = current.as_ref().filter(|it| it.window.contains(now))?;
        let has_ceiling = meter.limit.ceiling().is_some();
        let durability =
            effective_durability(plain.durability, self.config.durability, has_ceiling).ok()?;
        let taking = Taking { plain, meter, counter, units };
        let both = self.take_at_once(taking)?;
        let event = PlainEvent {
            key: &counter.key,
            meter: &meter.meter,
            amount: plain.amount,
            from_lease: if has_ceiling { units } else { 0 },
            time: now,
            idempotency_key: plain.idempotency_key,
            operation: None,
        };
        let handed_over = self.hand_over(RecordRef::Plain(&[event]), durability);
        Some(handed_over.map(|pending| self.count_at_once(taking, both, pending, began)))
    }

    /// Claims the key, if there is one, and takes what has to be in hand. `None`: neither.
    fn take_at_once<'t>(&'t self, taking: Taking<'t>) -> Option<Both<'t>> {
        let Taking { plain, meter, counter, units } = taking;
        let has_ceiling = meter.limit.ceiling().is_some();
        if has_ceiling && units > counter.cell.available() {
            // Before its key is claimed: it would be claimed twice.
            return None;
        }
        let claim = match plain.idempotency_key.is_empty() {
            true => None,
            false => Some(self.claim_at_once(taking)?),
        };
        let taken = match has_ceiling {
            true => Some(self.leasing.take_here(counter, units)?),
            false => None,
        };
        Some(Both { taken, claim })
    }

    /// Claims the key, if nobody has used it.
    fn claim_at_once(&self, taking: Taking<'_>) -> Option<Claim<RecordPlace>> {
        // The counter's own copies of the names: all tenants of a plan share the plan's.
        let names = &taking.counter.key;
        let key = IdempotencyKey::new(taking.plain.idempotency_key).ok()?;
        let name = Name { tenant: &names.tenant, verb: Verb::Use, key: &key };
        let amount = taking.plain.amount;
        let content = ContentRef::Units { meter: &names.meter, subject: None, amount };
        match self.repeats.try_begin(&Asked { name, content }) {
            Ok(Begun::Fresh(claim)) => Some(claim),
            Ok(Begun::Repeat(_) | Begun::Conflict(_)) | Err(_) => None,
        }
    }

    /// Counts what the journal now has.
    fn count_at_once(
        self: &Arc<Self>,
        taking: Taking<'_>,
        both: Both<'_>,
        pending: Pending,
        began: Duration,
    ) -> Consumed {
        let Taking { meter, counter, units, .. } = taking;
        let Both { taken, claim } = both;
        match taken {
            Some(taken) => taken.spend(),
            None => {
                counter.cell.record(units);
                self.leasing.spent(counter);
            }
        }
        counter.journalled(pending.position().into(), began);
        let figures = Figures::of(counter);
        let reason = reason_allowed(meter, figures.used);
        let decision = Decision { reason, decided_by: DecidedBy::Memory };
        let answer = answer(meter, Some(&counter.window), figures, decision);
        let mut settling = Settling::new(claim);
        let remembered = || Some(Remembered::Quota(answer.clone()));
        settling.answered(remembered, Some(pending.place()));
        if pending.is_resolved() {
            settling.kept(pending.place());
            self.count_consumed(&answer, began);
            return Consumed::Answered(answer);
        }
        settling.counted([Counted { counter: counter.clone(), units }]);
        let owed = Owed::new(self.clone(), pending, settling, 1);
        Consumed::Owed(OwedAnswer { began, answer, owed })
    }

    fn count_consumed(&self, answer: &QuotaAnswer, began: Duration) {
        self.metrics.events_recorded.increment(1);
        self.metrics.answered(answer, self.leasing.now().saturating_sub(began));
    }
}
