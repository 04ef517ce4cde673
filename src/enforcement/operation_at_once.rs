//! CONSUMEs of an operation that are decided at once: from what is in memory and in hand.
//!
//! As [`super::consume_at_once`], for all that the operation needs together. Nobody is waited for in
//! between, so that each rate is asked once, and what it gives is held before units are taken. Of
//! what denies nothing is said: [`Engine::check_operation`] answers, with the remedies.

use std::{sync::Arc, time::Duration};

use arc_swap::Guard;
use arrayvec::ArrayVec;
use jiff::Timestamp;

use super::{
    counter::Counter,
    directory::tenant_state::{TenantState, Terms},
    engine::{Engine, effective_durability},
    error::EngineError,
    operation::{PERMITS, definition},
    operation_parts::{Part, for_each_part},
    owed::Owed,
    plain_part::{PlainPart, PlainTaken},
    rates::{RatesAsked, RatesInHand},
    repeats::{Claim, ContentRef, Remembered},
    settling::Settling,
};
use crate::{
    domain::{
        catalog::{
            compiled_catalog::CompiledCatalog, compiled_plan::PlanMeter, names::RateName,
            operations::OperationDef,
        },
        features::{
            compiled::Attributes,
            offered::{OfferedFeature, TenantFeatures},
        },
        ids::{FeatureName, MeterName},
        operation::OperationAnswer,
        quota::QuotaAnswer,
        rate::{RateAnswer, RateMode},
        usage::Durability,
    },
    journal::{
        Pending,
        position::RecordPlace,
        record::{PlainEvent, RecordRef},
    },
    lanes::{Share, Shares},
};

/// Meters, and features, of an operation that is decided so, at most.
const OF_EACH_MAX: usize = 8;

/// Of each of an operation's meters, or features. It lies on the stack, and is not to be moved.
type OfEach<T> = ArrayVec<T, OF_EACH_MAX>;

/// A CONSUME of an operation for the whole tenant, by names that need not be any.
#[derive(Clone, Copy, Debug)]
pub struct PlainOperation<'m> {
    pub tenant: &'m str,
    pub operation: &'m str,
    /// Base units by meter, of the meters that the operation leaves open; each named once.
    pub amounts: &'m [(&'m str, i64)],
    /// Empty where there is none.
    pub idempotency_key: &'m str,
    /// Absent: the sidecar's configured default.
    pub durability: Option<Durability>,
}

/// What the parts of an operation said that was allowed from memory. The names lie elsewhere: all cores
/// would count the holders of the catalog's in one place.
#[derive(Debug)]
pub struct AllowedOperation<'t> {
    pub features: &'t [OfferedFeature<&'t FeatureName>],
    pub rates: &'t [(&'t RateName, RateAnswer)],
    pub quotas: &'t [(&'t MeterName, QuotaAnswer)],
}

impl AllowedOperation<'_> {
    /// The same, to be kept.
    pub fn answer(&self) -> OperationAnswer {
        let feature = |feature: &OfferedFeature<&FeatureName>| feature.clone().owned();
        let rate = |(name, rate): &(&RateName, RateAnswer)| ((*name).clone(), rate.clone());
        let quota = |(meter, quota): &(&MeterName, QuotaAnswer)| ((*meter).clone(), quota.clone());
        OperationAnswer {
            features: self.features.iter().map(feature).collect(),
            rates: self.rates.iter().map(rate).collect(),
            quotas: self.quotas.iter().map(quota).collect(),
            ..OperationAnswer::empty()
        }
    }
}

/// An operation that is allowed, with its answer.
pub enum Operated<A> {
    /// The answer may leave.
    Answered(A),
    /// It has to wait for the record that it tells of.
    Owed(OwedOperation<A>),
}

/// An answer that tells of a record which is not as durable yet as was asked.
pub struct OwedOperation<A> {
    answer: A,
    owed: Owed<Share<Engine>>,
}

impl<A> OwedOperation<A> {
    /// The answer, once it may leave.
    pub async fn acknowledged(self) -> Result<A, EngineError> {
        let Self { answer, mut owed } = self;
        owed.acknowledged().await?;
        owed.engine.metrics.events_recorded.increment(owed.events);
        Ok(answer)
    }
}

/// An operation, with all that it names looked up.
struct Operation<'t> {
    plain: PlainOperation<'t>,
    definition: &'t OperationDef,
    state: &'t TenantState,
    terms: &'t Terms,
    catalog: &'t CompiledCatalog,
    /// As the operation names them.
    asked: &'t [Part<'t>],
    now: Timestamp,
}

/// What an operation takes of a meter.
struct OfMeter<'t> {
    meter: &'t PlanMeter,
    amount: i64,
    units: u64,
    /// Of the window that was last the current one.
    counter: Guard<Option<Arc<Counter>>>,
}

/// All that was taken: let go, given back and free again unless it is counted.
#[derive(Default)]
struct All<'t> {
    features: OfEach<OfferedFeature<&'t FeatureName>>,
    rates: RatesInHand<'t>,
    taken: OfEach<PlainTaken<'t>>,
    /// Of the key, if there is one.
    claim: Option<Claim<RecordPlace>>,
}

/// What is asked of each meter. `None`: something is wrong about it, or they are too many.
fn asked<'d>(definition: &'d OperationDef, amounts: &[(&str, i64)]) -> Option<OfEach<Part<'d>>> {
    let mut asked = OfEach::new();
    let mut are_too_many = false;
    let take = |part| are_too_many |= asked.try_push(part).is_err();
    for_each_part(definition, amounts.iter().copied(), take).ok()?;
    (!are_too_many).then_some(asked)
}

impl Shares<Engine> {
    /// Decides a CONSUME of an operation, if nobody has to be waited for to allow it. `None`:
    /// nothing was taken, and nothing is said about it. `answer` makes of what the parts said what
    /// is to be sent.
    pub fn operate_at_once<A>(
        &self,
        plain: PlainOperation<'_>,
        answer: impl FnOnce(&AllowedOperation<'_>) -> A,
    ) -> Option<Result<Operated<A>, EngineError>> {
        let began = self.leasing.now();
        self.check_open().ok()?;
        let state = &*self.directory.known(plain.tenant)?;
        let terms = &**state.look_at_terms();
        let catalog = &*terms.look_at_catalog();
        let definition = definition(terms, catalog, plain.operation)?;
        let asked = &asked(definition, plain.amounts)?;
        let now = self.clock.now();
        let operation = Operation { plain, definition, state, terms, catalog, asked, now };
        let (mut of_meters, mut parts) = (OfEach::new(), OfEach::new());
        operation.find_meters(&mut of_meters)?;
        for one in &of_meters {
            parts.push(one.part(now)?);
        }
        let is_bounded = parts.iter().any(PlainPart::is_bounded);
        let durability =
            effective_durability(plain.durability, self.config.durability, is_bounded).ok()?;
        let mut all = All::default();
        self.take_all(&operation, &parts, &mut all)?;
        let operation = Some(&definition.name);
        let mut events = OfEach::new();
        for part in &parts {
            events.push(PlainEvent { operation, ..part.event(now, plain.idempotency_key) });
        }
        let handed_over = self.hand_over(RecordRef::Plain(&events), durability);
        Some(handed_over.map(|pending| self.count_all(&parts, &mut all, pending, began, answer)))
    }

    /// Counts what the journal now has.
    fn count_all<A>(
        &self,
        parts: &[PlainPart<'_>],
        all: &mut All<'_>,
        pending: Pending,
        began: Duration,
        answer: impl FnOnce(&AllowedOperation<'_>) -> A,
    ) -> Operated<A> {
        // The counters' own names: all cores would count the holders of the plan's in one place.
        let names = parts.iter().map(|part| &part.counter.key.meter);
        let mut quotas = OfEach::new();
        for (meter, taken) in names.zip(all.taken.drain(..)) {
            quotas.push((meter, taken.spend(pending.position(), began)));
        }
        let mut settling = Settling::new(all.claim.take());
        let All { features, rates, .. } = &*all;
        let allowed = AllowedOperation { features, rates: &rates.answers, quotas: &quotas };
        let remembered = || Some(Remembered::Operation(Arc::new(allowed.answer())));
        settling.answered(remembered, Some(pending.place()));
        let answer = answer(&allowed);
        all.rates.keep();
        let count = parts.len() as u64;
        if pending.is_resolved() {
            settling.kept(pending.place());
            self.metrics.events_recorded.increment(count);
            return Operated::Answered(answer);
        }
        settling.counted(parts.iter().map(PlainPart::counted));
        let owed = Owed::new(self.share(), pending, settling, count);
        Operated::Owed(OwedOperation { answer, owed })
    }
}

impl Engine {
    /// Takes all that the operation needs, into `all`. `None`: nothing that `all` does not give back.
    fn take_all<'t>(
        &'t self,
        operation: &Operation<'t>,
        parts: &[PlainPart<'t>],
        all: &mut All<'t>,
    ) -> Option<()> {
        // Looked at before anything is held: others may miss what is given back a moment later.
        if parts.is_empty() || !parts.iter().all(PlainPart::is_in_hand) {
            return None;
        }
        operation.find_features(&mut all.features)?;
        // Before the rates: a repeat takes nothing of them.
        if !operation.plain.idempotency_key.is_empty() {
            all.claim = Some(self.claim_operation(operation)?);
        }
        let Operation { definition, state, terms, .. } = operation;
        let asked = RatesAsked { subject: None, permits: PERMITS, mode: RateMode::Consume };
        self.hold_rates_in_hand(state, terms, &definition.rates, asked, &mut all.rates)?;
        for part in parts {
            all.taken.push(part.take(&self.leasing)?);
        }
        self.count_rates(&all.rates);
        Some(())
    }

    /// Claims the operation's key, if nobody has used it.
    fn claim_operation(&self, operation: &Operation<'_>) -> Option<Claim<RecordPlace>> {
        let amount = |part: &Part<'_>| (part.meter.clone(), part.amount);
        let amounts: Vec<_> = operation.asked.iter().map(amount).collect();
        let name = &operation.definition.name;
        let content = ContentRef::Operation { operation: name, subject: None, amounts: &amounts };
        let tenant = &operation.terms.tenant.id;
        self.claim_unused(tenant, operation.plain.idempotency_key, content)
    }
}

impl<'t> Operation<'t> {
    /// Finds what it takes of each meter, in the plan's order. `None`: of one that is not plain, or
    /// of too many.
    fn find_meters(&self, found: &mut OfEach<OfMeter<'t>>) -> Option<()> {
        for part in self.asked {
            let (meter, units) = self.terms.plain_units(part.meter.as_str(), part.amount)?;
            let counter = self.terms.current(meter);
            found.try_push(OfMeter { meter, amount: part.amount, units, counter }).ok()?;
        }
        found.sort_by_key(|one| one.meter.index);
        Some(())
    }

    /// Finds what it needs of features. `None`: one of them will not do, or is not the catalog's any
    /// more; or they are too many.
    fn find_features(&self, found: &mut OfEach<OfferedFeature<&'t FeatureName>>) -> Option<()> {
        static NONE: Attributes = Attributes::new();

        let Self { terms, catalog, now, .. } = *self;
        let (tenant, plan) = (&*terms.tenant, &*terms.plan);
        let features =
            TenantFeatures { tenant, plan, catalog, subject: None, attributes: &NONE, now };
        for needed in &self.definition.features {
            let feature = features.of_catalog(needed.feature.as_str())?;
            if !needed.will_do(feature.access.value.as_ref()) {
                return None;
            }
            found.try_push(feature).ok()?;
        }
        Some(())
    }
}

impl OfMeter<'_> {
    /// The same with its counter. `None`: there is none, or its window is over.
    fn part(&self, now: Timestamp) -> Option<PlainPart<'_>> {
        let Self { meter, amount, units, .. } = *self;
        let counter = self.counter.as_ref().filter(|it| it.window.contains(now))?;
        Some(PlainPart { meter, counter, amount, units })
    }
}
