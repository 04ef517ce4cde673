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
    operation_parts::{Part, parts},
    owed::Owed,
    plain_part::{PlainPart, PlainTaken},
    rates::{RateAdmission, RatesAsked},
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
        ids::MeterName,
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
};

/// Meters of an operation that is decided so, at most.
const METERS_MAX: usize = 8;

/// Of each of an operation's meters. It lies on the stack, and is not to be moved.
type OfEach<T> = ArrayVec<T, METERS_MAX>;

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

/// What the parts of an operation said that was allowed from memory.
#[derive(Debug)]
pub struct AllowedOperation<'t> {
    pub features: Vec<OfferedFeature>,
    pub rates: Vec<(RateName, RateAnswer)>,
    pub quotas: Vec<(&'t MeterName, QuotaAnswer)>,
}

impl AllowedOperation<'_> {
    /// The same, to be kept.
    pub fn answer(&self) -> OperationAnswer {
        let quota = |(meter, quota): &(&MeterName, QuotaAnswer)| ((*meter).clone(), quota.clone());
        OperationAnswer {
            features: self.features.clone(),
            rates: self.rates.clone(),
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
    owed: Owed<Arc<Engine>>,
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
struct All<'t> {
    features: Vec<OfferedFeature>,
    rates: RateAdmission,
    taken: Vec<PlainTaken<'t>>,
    /// Of the key, if there is one.
    claim: Option<Claim<RecordPlace>>,
}

impl Engine {
    /// Decides a CONSUME of an operation, if nobody has to be waited for to allow it. `None`:
    /// nothing was taken, and nothing is said about it. `answer` makes of what the parts said what
    /// is to be sent.
    pub fn operate_at_once<A>(
        self: &Arc<Self>,
        plain: PlainOperation<'_>,
        answer: impl FnOnce(AllowedOperation<'_>) -> A,
    ) -> Option<Result<Operated<A>, EngineError>> {
        let began = self.leasing.now();
        self.check_open().ok()?;
        let state = &*self.directory.known(plain.tenant)?;
        let terms = &**state.look_at_terms();
        let catalog = &*terms.look_at_catalog();
        let definition = definition(terms, catalog, plain.operation)?;
        let asked = &*parts(definition, plain.amounts.iter().copied()).ok()?;
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
        let all = self.take_all(&operation, &parts)?;
        let operation = Some(&definition.name);
        let mut events = OfEach::new();
        for part in &parts {
            events.push(PlainEvent { operation, ..part.event(now, plain.idempotency_key) });
        }
        let handed_over = self.hand_over(RecordRef::Plain(&events), durability);
        Some(handed_over.map(|pending| self.count_all(&parts, all, pending, began, answer)))
    }

    /// Takes all that the operation needs. `None`: nothing.
    fn take_all<'t>(
        &'t self,
        operation: &Operation<'_>,
        parts: &[PlainPart<'t>],
    ) -> Option<All<'t>> {
        // Looked at before anything is held: others may miss what is given back a moment later.
        if parts.is_empty() || !parts.iter().all(PlainPart::is_in_hand) {
            return None;
        }
        let features = operation.features()?;
        // Before the rates: a repeat takes nothing of them.
        let claim = match operation.plain.idempotency_key.is_empty() {
            true => None,
            false => Some(self.claim_operation(operation)?),
        };
        let Operation { definition, state, terms, .. } = operation;
        let asked = RatesAsked { subject: None, permits: PERMITS, mode: RateMode::Consume };
        let rates = self.hold_rates_in_hand(state, terms, &definition.rates, asked)?;
        let taken = parts.iter().map(|part| part.take(&self.leasing));
        let taken = taken.collect::<Option<_>>()?;
        self.count_rates(&rates);
        Some(All { features, rates, taken, claim })
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

    /// Counts what the journal now has.
    fn count_all<A>(
        self: &Arc<Self>,
        parts: &[PlainPart<'_>],
        all: All<'_>,
        pending: Pending,
        began: Duration,
        answer: impl FnOnce(AllowedOperation<'_>) -> A,
    ) -> Operated<A> {
        let All { features, mut rates, taken, claim } = all;
        let spent = taken.into_iter().map(|taken| taken.spend(pending.position(), began));
        // The counters' own: all cores would count the holders of the plan's in one place.
        let names = parts.iter().map(|part| &part.counter.key.meter);
        let allowed = AllowedOperation {
            features,
            rates: rates.take_answers(),
            quotas: names.zip(spent).collect(),
        };
        rates.keep();
        let mut settling = Settling::new(claim);
        let remembered = || Some(Remembered::Operation(Arc::new(allowed.answer())));
        settling.answered(remembered, Some(pending.place()));
        let answer = answer(allowed);
        let count = parts.len() as u64;
        if pending.is_resolved() {
            settling.kept(pending.place());
            self.metrics.events_recorded.increment(count);
            return Operated::Answered(answer);
        }
        settling.counted(parts.iter().map(PlainPart::counted));
        let owed = Owed::new(self.clone(), pending, settling, count);
        Operated::Owed(OwedOperation { answer, owed })
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

    /// What it needs of features. `None`: one of them will not do.
    fn features(&self) -> Option<Vec<OfferedFeature>> {
        let attributes = &Attributes::new();
        let Self { terms, catalog, now, .. } = *self;
        let (tenant, plan) = (&*terms.tenant, &*terms.plan);
        let features = TenantFeatures { tenant, plan, catalog, subject: None, attributes, now };
        let offered = self.definition.features.iter().map(|needed| {
            let feature = features.find(needed.feature.as_str())?;
            needed.will_do(feature.access.value.as_ref()).then_some(feature)
        });
        offered.collect()
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
