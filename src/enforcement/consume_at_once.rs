//! CONSUMEs that are decided at once: from what is in memory and in hand.
//!
//! Like [`super::glance`], and for the same checks. What the journal has to keep is waited for
//! afterwards; anything else is for [`Engine::check_quota`], which answers the same where both can.

use std::time::Duration;

use super::{
    engine::{Engine, effective_durability},
    error::EngineError,
    owed::Owed,
    plain_part::{PlainPart, PlainTaken},
    repeats::{Asked, Begun, Claim, ContentRef, Name, Remembered, Verb},
    settling::Settling,
};
use crate::{
    domain::{
        ids::{IdempotencyKey, TenantId},
        quota::QuotaAnswer,
        usage::Durability,
    },
    journal::{Pending, position::RecordPlace, record::RecordRef},
    lanes::{Share, Shares},
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
    owed: Owed<Share<Engine>>,
}

impl OwedAnswer {
    /// The answer, once it may leave.
    pub async fn acknowledged(self) -> Result<QuotaAnswer, EngineError> {
        let Self { began, answer, mut owed } = self;
        owed.acknowledged().await?;
        let took = owed.engine.leasing.now().saturating_sub(began);
        owed.engine.count_consumed(&answer, took);
        Ok(answer)
    }
}

/// What was taken, given back and free again unless it is counted.
struct Both<'t> {
    taken: PlainTaken<'t>,
    /// Of the key, if there is one.
    claim: Option<Claim<RecordPlace>>,
}

impl Shares<Engine> {
    /// Decides a CONSUME, if nobody has to be waited for to allow it. `None`: nothing was taken, and
    /// nothing is said about it.
    pub fn consume_at_once(
        &self,
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
        let part = PlainPart { meter, counter, amount: plain.amount, units };
        let is_bounded = part.is_bounded();
        let durability =
            effective_durability(plain.durability, self.config.durability, is_bounded).ok()?;
        let both = self.take_at_once(part, plain.idempotency_key)?;
        let event = part.event(now, plain.idempotency_key);
        let handed_over = self.hand_over(RecordRef::Plain(&[event]), durability);
        Some(handed_over.map(|pending| self.count_at_once(part, both, pending, began)))
    }

    /// Counts what the journal now has.
    fn count_at_once(
        &self,
        part: PlainPart<'_>,
        both: Both<'_>,
        pending: Pending,
        began: Duration,
    ) -> Consumed {
        let Both { taken, claim } = both;
        let answer = taken.spend(pending.position(), began);
        let mut settling = Settling::new(claim);
        let remembered = || Some(Remembered::Quota(answer.clone()));
        settling.answered(remembered, Some(pending.place()));
        if pending.is_resolved() {
            settling.kept(pending.place());
            self.count_consumed(&answer, self.leasing.now().saturating_sub(began));
            return Consumed::Answered(answer);
        }
        settling.counted([part.counted()]);
        let owed = Owed::new(self.share(), pending, settling, 1);
        Consumed::Owed(OwedAnswer { began, answer, owed })
    }
}

impl Engine {
    /// Claims the key, if there is one, and takes what has to be in hand. `None`: neither.
    fn take_at_once<'t>(&'t self, part: PlainPart<'t>, idempotency_key: &str) -> Option<Both<'t>> {
        if !part.is_in_hand() {
            // Before its key is claimed: it would be claimed twice.
            return None;
        }
        let claim = match idempotency_key.is_empty() {
            true => None,
            false => Some(self.claim_at_once(part, idempotency_key)?),
        };
        Some(Both { taken: part.take(&self.leasing)?, claim })
    }

    /// Claims the key, if nobody has used it.
    fn claim_at_once(
        &self,
        part: PlainPart<'_>,
        idempotency_key: &str,
    ) -> Option<Claim<RecordPlace>> {
        // The counter's own copies of the names: all tenants of a plan share the plan's.
        let names = &part.counter.key;
        let content = ContentRef::Units { meter: &names.meter, subject: None, amount: part.amount };
        self.claim_unused(&names.tenant, idempotency_key, content)
    }

    /// Claims a key for CONSUME, if nobody has used it.
    pub(super) fn claim_unused(
        &self,
        tenant: &TenantId,
        idempotency_key: &str,
        content: ContentRef<'_>,
    ) -> Option<Claim<RecordPlace>> {
        let key = IdempotencyKey::new(idempotency_key).ok()?;
        let name = Name { tenant, verb: Verb::Use, key: &key };
        match self.repeats.try_begin(&Asked { name, content }) {
            Ok(Begun::Fresh(claim)) => Some(claim),
            Ok(Begun::Repeat(_) | Begun::Conflict(_)) | Err(_) => None,
        }
    }

    fn count_consumed(&self, answer: &QuotaAnswer, took: Duration) {
        self.metrics.events_recorded.increment(1);
        self.metrics.answered(answer, took);
    }
}
