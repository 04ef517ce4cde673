//! `Check`: one named operation, all or nothing.
//!
//! Features are asked first, then the rates as far as this sidecar knows that one denies, then the
//! quotas, and the rates for good at last: a permit that another part makes useless may lapse before
//! it is given back, units of a quota never do. Each is held until all have allowed it; what the
//! operation takes goes to the journal as one record. Whatever ends it early, a denial, an error or
//! a caller that hangs up, drops what is held, and that gives it back. While an operation waits for
//! one quota, what it holds of another is taken for others; the wait is bounded by the recall.

use std::sync::Arc;

use super::{
    admission::Admitted,
    asked::Asked,
    directory::tenant_state::{TenantState, Terms},
    engine::{Engine, effective_durability},
    error::{EngineError, Unknown, UnknownName},
    features,
    operation_parts::{Part, parts},
    owed::{Decided, Owed},
    quota::{conflict, missing_meter},
    rates::{RateAdmission, RatesAsked},
    repeats::{Begun, Content, Patience, Remembered, Verb},
    settling::Settling,
};
use crate::{
    domain::{
        catalog::{
            compiled_catalog::CompiledCatalog, compiled_plan::CompiledPlan, error::nearest,
            names::OperationName, operations::OperationDef,
        },
        features::{compiled::Attributes, offered::TenantFeatures},
        meter::Aggregation,
        operation::{DeniedBy, OperationAnswer, OperationRequest},
        quota::{DecidedBy, QuotaMode},
        rate::RateMode,
        remedy::Remedy,
        standing::{DeniedQuota, Standing},
        usage::{Durability, UsageEvent},
    },
    journal::{Pending, record::RecordRef},
};

/// Permits that one operation takes of each of its rates.
pub(super) const PERMITS: u32 = 1;

/// An operation, with all that it names looked up.
pub(super) struct AskedOperation<'r> {
    pub request: &'r OperationRequest,
    pub definition: &'r OperationDef,
    pub state: &'r Arc<TenantState>,
    pub terms: &'r Arc<Terms>,
    pub catalog: &'r CompiledCatalog,
    pub now: jiff::Timestamp,
}

impl Engine {
    /// Answers one check of an operation. A denial is an answer; an error means that nothing was
    /// decided.
    pub async fn check_operation(
        &self,
        request: &OperationRequest,
    ) -> Result<OperationAnswer, EngineError> {
        let decided = self.decide_operation(request).await?;
        self.acknowledged(decided).await
    }

    /// Decides one operation; its answer may leave when what it owes is acknowledged.
    pub(super) async fn decide_operation(
        &self,
        request: &OperationRequest,
    ) -> Result<Decided<'_, OperationAnswer>, EngineError> {
        self.check_open()?;
        let state = self.tenant(&request.tenant, "tenant").await?;
        let terms = state.terms();
        let catalog = terms.catalog();
        let now = terms.tenant.now(self.clock.now());
        let definition = definition(&terms, &catalog, request.operation.as_str())
            .ok_or_else(|| unknown(&request.operation, &terms, &catalog))?;
        let asked = AskedOperation {
            request,
            definition,
            state: &state,
            terms: &terms,
            catalog: &catalog,
            now,
        };
        let amounts = request.amounts.iter().map(|(meter, amount)| (meter.as_str(), *amount));
        let parts = parts(definition, amounts).map_err(EngineError::InvalidRequest)?;
        self.decide_parts(&asked, &parts).await
    }

    async fn decide_parts(
        &self,
        asked: &AskedOperation<'_>,
        parts: &[Part<'_>],
    ) -> Result<Decided<'_, OperationAnswer>, EngineError> {
        let request = asked.request;
        let holding = match request.mode {
            QuotaMode::Reserve { ttl } => Some(self.holding(ttl)?),
            QuotaMode::Check | QuotaMode::Consume => None,
        };
        let quotas = self.quotas(asked, parts).await?;
        let is_bounded = quotas.iter().any(|one| one.terms.is_bounded(one.meter));
        let durability =
            effective_durability(request.durability, self.config.durability, is_bounded)?;
        let mut settling = match self.begin_operation(asked, parts, durability).await? {
            Ok(settling) => settling,
            Err(first_answer) => return Ok(first_answer.into()),
        };
        let mut answer = OperationAnswer::empty();
        if let Some(denial) = asked.ask_features(&mut answer)? {
            return Ok(asked.denied(answer, denial, 0).into());
        }
        if request.mode == QuotaMode::Check {
            return self.look_at_operation(asked, parts, &quotas, answer).await.map(Decided::from);
        }
        if let Some(rates) = self.known_rate_denial(
            asked.state,
            asked.terms,
            &asked.definition.rates,
            asked.of_each_rate(),
        )? {
            answer.rates = rates;
            return Ok(asked.denied_by_rate(answer).into());
        }
        if let Some(missing) = asked.missing_meter(parts) {
            return Ok(asked.denied_by_missing(answer, missing).into());
        }
        // A distinct value stays once it is added: whatever else may deny comes before it.
        let is_distinct =
            |one: &Asked<'_>| one.meter.meter.aggregation == Aggregation::DistinctCount;
        let summed = quotas.iter().take_while(|one| !is_distinct(one)).count();
        let mut admitted = Vec::with_capacity(quotas.len());
        let denied = self.admit_up_to(summed, &quotas, &mut admitted, &mut answer).await?;
        if let Some((meter, units)) = denied {
            return Ok(asked.denied(answer, DeniedBy::Quota(meter), units).into());
        }
        let mut rates = self.ask_rates(asked).await?;
        let is_allowed = rates.is_allowed();
        answer.rates = rates.take_answers();
        if !is_allowed {
            self.untake(&quotas, admitted, &mut answer);
            return Ok(asked.denied_by_rate(answer).into());
        }
        let denied = self.admit_up_to(quotas.len(), &quotas, &mut admitted, &mut answer).await?;
        if let Some((meter, units)) = denied {
            return Ok(asked.denied(answer, DeniedBy::Quota(meter), units).into());
        }
        match holding {
            Some(holding) => {
                self.hold_all(quotas, admitted, &holding, &mut answer)?;
                rates.keep();
                let answer = answer.decided();
                settling.answered(|| Some(remembered(&answer)), None);
                Ok(answer.into())
            }
            None => self.record_all(
                Admissions { operation: &request.operation, quotas, admitted, rates },
                durability,
                answer,
                settling,
            ),
        }
    }

    /// What a look says: of every quota, also when a rate denies.
    async fn look_at_operation(
        &self,
        asked: &AskedOperation<'_>,
        parts: &[Part<'_>],
        quotas: &[Asked<'_>],
        mut answer: OperationAnswer,
    ) -> Result<OperationAnswer, EngineError> {
        let mut rates = self.ask_rates(asked).await?;
        let is_allowed = rates.is_allowed();
        answer.rates = rates.take_answers();
        if !is_allowed {
            self.look_at_all(quotas, &mut answer).await?;
            return Ok(asked.denied_by_rate(answer));
        }
        if let Some(missing) = asked.missing_meter(parts) {
            return Ok(asked.denied_by_missing(answer, missing));
        }
        Ok(match self.look_at_all(quotas, &mut answer).await? {
            Some((meter, units)) => asked.denied(answer, DeniedBy::Quota(meter), units),
            None => answer.decided(),
        })
    }

    /// Claims the operation's key, if it has one. The inner error is the first answer to it.
    async fn begin_operation(
        &self,
        asked: &AskedOperation<'_>,
        parts: &[Part<'_>],
        durability: Durability,
    ) -> Result<Result<Settling, OperationAnswer>, EngineError> {
        let request = asked.request;
        let (Some(key), true) = (&request.idempotency_key, request.mode != QuotaMode::Check) else {
            return Ok(Ok(Settling::new(None)));
        };
        let amount = |part: &Part<'_>| (part.meter.clone(), part.amount);
        let content = Content::Operation {
            operation: request.operation.clone(),
            subject: request.subject.clone(),
            amounts: parts.iter().map(amount).collect(),
        };
        let verb = match request.mode {
            QuotaMode::Reserve { .. } => Verb::Reserve,
            QuotaMode::Check | QuotaMode::Consume => Verb::Use,
        };
        let mut patience = Patience::default();
        match self.claim((&request.tenant, key), verb, &content, &mut patience).await? {
            Begun::Fresh(claim) => Ok(Ok(Settling::new(Some(claim)))),
            Begun::Conflict(other) => {
                Err(EngineError::IdempotencyConflict(conflict("idempotency_key", &other).into()))
            }
            Begun::Repeat(first) => {
                if let Some(place) = first.place {
                    self.wait_durable(place, durability).await?;
                }
                self.metrics.events_repeated.increment(1);
                match first.answer {
                    Some(Remembered::Operation(answer)) => {
                        let decided_by = DecidedBy::Replay;
                        Ok(Err(OperationAnswer { decided_by, ..(*answer).clone() }))
                    }
                    // The content was an operation's, so that its answer is one.
                    Some(Remembered::Quota(_)) | None => Err(EngineError::Unavailable(
                        "the first answer to this key is not an operation's".into(),
                    )),
                }
            }
        }
    }

    async fn ask_rates(&self, asked: &AskedOperation<'_>) -> Result<RateAdmission, EngineError> {
        let rates = &asked.definition.rates;
        self.admit_rates(asked.state, asked.terms, rates, asked.of_each_rate()).await
    }

    /// Hands all that was admitted to the journal as one record, and counts it.
    fn record_all(
        &self,
        admissions: Admissions<'_>,
        durability: Durability,
        mut answer: OperationAnswer,
        mut settling: Settling,
    ) -> Result<Decided<'_, OperationAnswer>, EngineError> {
        let Admissions { operation, quotas, admitted, rates } = admissions;
        if quotas.is_empty() {
            rates.keep();
            let answer = answer.decided();
            settling.answered(|| Some(remembered(&answer)), None);
            return Ok(answer.into());
        }
        let parts = quotas.iter().zip(&admitted);
        let plain: Option<Vec<_>> =
            parts.map(|(quota, one)| one.plain_event(quota, operation)).collect();
        let pending = match plain {
            Some(events) => self.hand_over(RecordRef::Plain(&events), durability)?,
            None => self.hand_over_parts(operation, &quotas, &admitted, durability)?,
        };
        rates.keep();
        let count = quotas.len() as u64;
        let mut counted = Vec::with_capacity(quotas.len());
        for (quota, one) in quotas.iter().zip(admitted) {
            counted.extend(one.counted(quota));
            // The counter's own: all cores would count the holders of the plan's in one place.
            let name = one.key().meter.clone();
            answer.quotas.push((name, one.settle(self, quota, pending.position())));
        }
        let answer = answer.decided();
        settling.answered(|| Some(remembered(&answer)), Some(pending.place()));
        settling.counted(counted);
        Ok(Decided { answer, owed: Some(Owed::new(self, pending, settling, count)) })
    }

    /// Hands parts over of which some are not plain.
    fn hand_over_parts(
        &self,
        operation: &OperationName,
        quotas: &[Asked<'_>],
        admitted: &[Admitted],
        durability: Durability,
    ) -> Result<Pending, EngineError> {
        let mut events = Vec::with_capacity(quotas.len());
        for (quota, one) in quotas.iter().zip(admitted) {
            let event = one.event(quota).map_err(EngineError::from)?;
            events.push(UsageEvent { operation: Some(operation.clone()), ..event });
        }
        let pending = self.hand_over(RecordRef::Usage(events.iter().collect()), durability)?;
        for ((quota, one), event) in quotas.iter().zip(admitted).zip(&events) {
            if !quota.meter.meter.is_summed() {
                let has_ceiling = quota.meter.limit.ceiling().is_some();
                let is_shared = !has_ceiling || one.decided_by() != DecidedBy::Fallback;
                self.values.observe(event, is_shared);
            }
        }
        Ok(pending)
    }
}

/// All that an operation holds.
struct Admissions<'a> {
    operation: &'a OperationName,
    quotas: Vec<Asked<'a>>,
    admitted: Vec<Admitted>,
    rates: RateAdmission,
}

impl<'r> AskedOperation<'r> {
    /// The first part that only other plans have.
    fn missing_meter<'d>(&self, parts: &[Part<'d>]) -> Option<Part<'d>> {
        parts.iter().copied().find(|part| self.terms.plan.meter(part.meter.as_str()).is_none())
    }

    /// Asks the subscription and the features; answers what denied.
    fn ask_features(&self, answer: &mut OperationAnswer) -> Result<Option<DeniedBy>, EngineError> {
        let features = self.features(&self.request.attributes);
        let mut denied = None;
        for needed in &self.definition.features {
            let feature = features::find(&features, &needed.feature, "operation")?;
            let value = feature.access.value.as_ref();
            let will_do = needed.will_do(value);
            if !will_do && denied.is_none() {
                denied = Some(DeniedBy::Feature(needed.feature.clone()));
            }
            answer.features.push(feature);
        }
        if !self.terms.tenant.subscription.status.is_served() {
            denied = Some(DeniedBy::Subscription);
        }
        Ok(denied)
    }

    fn features<'a>(&'a self, attributes: &'a Attributes) -> TenantFeatures<'a> {
        TenantFeatures {
            tenant: &self.terms.tenant,
            plan: &self.terms.plan,
            catalog: self.catalog,
            subject: self.request.subject.as_ref(),
            attributes,
            now: self.now,
        }
    }

    fn of_each_rate(&self) -> RatesAsked<'_> {
        let mode = match self.request.mode {
            QuotaMode::Check => RateMode::Check,
            QuotaMode::Consume | QuotaMode::Reserve { .. } => RateMode::Consume,
        };
        RatesAsked { subject: self.request.subject.as_ref(), permits: PERMITS, mode }
    }

    /// The answer when one of its rates denied.
    fn denied_by_rate(&self, answer: OperationAnswer) -> OperationAnswer {
        let denied = answer.rates.iter().find(|(_, rate)| !rate.allowed);
        match denied.map(|(rate, _)| DeniedBy::Rate(rate.clone())) {
            Some(denial) => self.denied(answer, denial, 0),
            None => answer.decided(),
        }
    }

    /// The answer when the plan lacks a meter.
    fn denied_by_missing(&self, mut answer: OperationAnswer, missing: Part<'_>) -> OperationAnswer {
        let meter = missing.meter.clone();
        answer.quotas.push((meter.clone(), missing_meter()));
        let units = u64::try_from(missing.amount).unwrap_or(0);
        self.denied(answer, DeniedBy::Quota(meter), units)
    }

    /// The answer when `denial` denied, of a quota `units`.
    fn denied(&self, answer: OperationAnswer, denial: DeniedBy, units: u64) -> OperationAnswer {
        let (catalog, plan) = (self.catalog, &*self.terms.plan);
        let operation = Some(self.definition);
        let standing = Standing { catalog, plan, now: self.now, operation };
        let mut answer = answer.decided();
        answer.remedies = match &denial {
            DeniedBy::Subscription => vec![Remedy::ReactivateSubscription],
            DeniedBy::Feature(feature) => {
                let needed = self.definition.features.iter().find(|it| it.feature == *feature);
                let has_it = |plan: &CompiledPlan| {
                    needed.is_some_and(|needed| needed.will_do(plan.feature(feature.as_str())))
                };
                standing.of_feature(has_it).into_iter().collect()
            }
            DeniedBy::Rate(name) => {
                let rate = answer.rates.iter().find(|(rate, _)| rate == name);
                rate.map(|(_, rate)| standing.of_rate(name.as_str(), PERMITS, rate))
                    .unwrap_or_default()
            }
            DeniedBy::Quota(meter) => {
                let planned = self.terms.plan.meter(meter.as_str());
                let place = planned.and_then(|planned| self.terms.pool(planned));
                let pool = place.map(|place| place.share);
                let quota = answer.quotas.iter().find(|(name, _)| name == meter);
                let denied = quota.map(|(_, answer)| DeniedQuota { meter, units, answer, pool });
                denied.map(|denied| standing.of_quota(denied)).unwrap_or_default()
            }
        };
        answer.denied_by = Some(denial);
        answer
    }
}

/// The operation called `name`: what the tenant's version of its plan says of it; of one that is
/// newer than that, what the catalog says now.
pub(super) fn definition<'d>(
    terms: &'d Terms,
    catalog: &'d CompiledCatalog,
    name: &str,
) -> Option<&'d OperationDef> {
    let mut of_plan = terms.plan.definition.operations.iter();
    of_plan.find(|known| known.name.as_str() == name).or_else(|| catalog.operation(name))
}

fn remembered(answer: &OperationAnswer) -> Remembered {
    Remembered::Operation(Arc::new(answer.clone()))
}

fn unknown(name: &OperationName, terms: &Terms, catalog: &CompiledCatalog) -> EngineError {
    let known = catalog.definition().operations.iter().map(|known| known.name.as_str());
    let near = nearest(name.as_str(), known).and_then(|near| OperationName::new(near).ok());
    let (tenant, operation) = (terms.tenant.id.clone(), name.clone());
    let name = UnknownName::Operation { tenant, operation, near };
    Unknown { field: "operation".into(), name }.into()
}
