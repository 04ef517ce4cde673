//! `Check`: one named operation, all or nothing.
//!
//! Features are asked first, then rates, then quotas, each held until all have allowed it; what the
//! operation takes goes to the journal as one record. Whatever ends it early, a denial, an error or
//! a caller that hangs up, drops what is held, and that gives it back. While an operation waits for
//! one quota, what it holds of another is taken for others; the wait is bounded by the recall.

use std::{sync::Arc, time::Duration};

use super::{
    admission::{Admission, Admitted},
    asked::Asked,
    directory::tenant_state::{TenantState, Terms},
    engine::{Engine, effective_durability},
    error::{EngineError, Unknown, UnknownName},
    features, labelling,
    operation_parts::{Part, parts},
    quota::{conflict, missing_meter, requested_units},
    rates::{RateAdmission, RatesAsked},
    repeats::{Begun, Content, Remembered, Verb},
    settling::{Decided, Owed, Settling},
};
use crate::domain::{
    catalog::{
        compiled_catalog::CompiledCatalog, compiled_plan::CompiledPlan, error::nearest,
        names::OperationName, operations::OperationDef,
    },
    features::{compiled::Attributes, offered::TenantFeatures},
    ids::MeterName,
    invalid::{Invalid, Problems},
    meter::Aggregation,
    operation::{DeniedBy, OperationAnswer, OperationRequest},
    quota::{DecidedBy, QuotaAnswer, QuotaMode, QuotaRequest},
    rate::RateMode,
    remedy::Remedy,
    standing::Standing,
    usage::{Durability, UsageEvent},
};

/// Permits that one operation takes of each of its rates.
const PERMITS: u32 = 1;

/// An operation, with all that it names looked up.
struct AskedOperation<'r> {
    request: &'r OperationRequest,
    definition: &'r OperationDef,
    state: Arc<TenantState>,
    terms: Arc<Terms>,
    catalog: &'r CompiledCatalog,
    now: jiff::Timestamp,
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
    ) -> Result<Decided<OperationAnswer>, EngineError> {
        self.check_open()?;
        let state = self.tenant(&request.tenant, "tenant").await?;
        let terms = state.terms();
        let catalog = terms.catalog();
        let now = terms.tenant.now(self.clock.now());
        let of_plan = terms.plan.definition.operations.iter();
        let of_plan = of_plan.clone().find(|operation| operation.name == request.operation);
        let definition = of_plan
            .or_else(|| catalog.operation(request.operation.as_str()))
            .ok_or_else(|| unknown(&request.operation, &terms, &catalog))?;
        let asked = AskedOperation {
            request,
            definition,
            state: state.clone(),
            terms: terms.clone(),
            catalog: &catalog,
            now,
        };
        let parts = parts(definition, request).map_err(EngineError::InvalidRequest)?;
        self.decide_parts(&asked, &parts).await
    }

    async fn decide_parts(
        &self,
        asked: &AskedOperation<'_>,
        parts: &[Part],
    ) -> Result<Decided<OperationAnswer>, EngineError> {
        let quotas = self.quotas(asked, parts).await?;
        let has_ceiling = quotas.iter().any(|one| one.meter.limit.ceiling().is_some());
        let request = asked.request;
        let durability =
            effective_durability(request.durability, self.config.durability, has_ceiling)?;
        let mut settling = match self.begin_operation(asked, parts, durability).await? {
            Ok(settling) => settling,
            Err(first_answer) => return Ok(first_answer.into()),
        };
        let mut answer = OperationAnswer::empty();
        if let Some(denial) = asked.ask_features(&mut answer)? {
            return Ok(asked.denied(answer, denial, 0).into());
        }
        let rates = self.ask_rates(asked).await?;
        answer.rates = rates.answers().to_vec();
        if let Some((rate, _)) = answer.rates.iter().find(|(_, rate)| !rate.allowed) {
            let denial = DeniedBy::Rate(rate.clone());
            if request.mode == QuotaMode::Check {
                self.look_at_all(&quotas, &mut answer).await?;
            }
            return Ok(asked.denied(answer, denial, 0).into());
        }
        if let Some(missing) = asked.missing_meter(parts) {
            answer.quotas.push((missing.request.meter.clone(), missing_meter()));
            let denial = DeniedBy::Quota(missing.request.meter.clone());
            return Ok(asked.denied(answer, denial, units_of(&missing.request)).into());
        }
        if request.mode == QuotaMode::Check {
            let denied = self.look_at_all(&quotas, &mut answer).await?;
            return Ok(match denied {
                Some((meter, units)) => asked.denied(answer, DeniedBy::Quota(meter), units),
                None => answer.decided(),
            }
            .into());
        }
        let admitted = match self.admit_all(&quotas, &mut answer).await? {
            Ok(admitted) => admitted,
            Err((meter, units)) => {
                return Ok(asked.denied(answer, DeniedBy::Quota(meter), units).into());
            }
        };
        match request.mode {
            QuotaMode::Reserve { ttl } => {
                self.hold_all(quotas, admitted, ttl, &mut answer)?;
                let _ = rates.keep();
                let answer = answer.decided();
                settling.answered(Some(Remembered::Operation(Arc::new(answer.clone()))), None);
                Ok(answer.into())
            }
            QuotaMode::Check | QuotaMode::Consume => self.record_all(
                Admissions { operation: request.operation.clone(), quotas, admitted, rates },
                durability,
                answer,
                settling,
            ),
        }
    }

    /// Claims the operation's key, if it has one. The inner error is the first answer to it.
    async fn begin_operation(
        &self,
        asked: &AskedOperation<'_>,
        parts: &[Part],
        durability: Durability,
    ) -> Result<Result<Settling, OperationAnswer>, EngineError> {
        let request = asked.request;
        let (Some(key), true) = (&request.idempotency_key, request.mode != QuotaMode::Check) else {
            return Ok(Ok(Settling::new(vec![])));
        };
        let amount = |part: &Part| (part.request.meter.clone(), part.request.amount);
        let content = Content::Operation {
            operation: request.operation.clone(),
            subject: request.subject.clone(),
            amounts: parts.iter().map(amount).collect(),
        };
        let verb = match request.mode {
            QuotaMode::Reserve { .. } => Verb::Reserve,
            QuotaMode::Check | QuotaMode::Consume => Verb::Use,
        };
        match self.repeats.begin(&request.tenant, verb, key, &content).await {
            Begun::Fresh(claim) => Ok(Ok(Settling::new(vec![claim]))),
            Begun::Conflict(other) => {
                Err(EngineError::IdempotencyConflict(conflict("idempotency_key", &other).into()))
            }
            Begun::Repeat(first) => {
                if let Some(position) = first.position {
                    self.wait_durable(position, durability).await?;
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
        let mode = match asked.request.mode {
            QuotaMode::Check => RateMode::Check,
            QuotaMode::Consume | QuotaMode::Reserve { .. } => RateMode::Consume,
        };
        let of_each =
            RatesAsked { subject: asked.request.subject.as_ref(), permits: PERMITS, mode };
        self.admit_rates(&asked.state, &asked.terms, &asked.definition.rates, of_each).await
    }

    /// What is asked of each quota that the plan has, in the plan's order whatever the operation
    /// says: two operations that take of the same meters never hold what the other waits for. Those
    /// that cannot be taken back come last.
    async fn quotas<'a>(
        &self,
        asked: &'a AskedOperation<'_>,
        parts: &'a [Part],
    ) -> Result<Vec<Asked<'a>>, EngineError> {
        let AskedOperation { state, terms, catalog, now, .. } = asked;
        let mut quotas = Vec::with_capacity(parts.len());
        for part in parts {
            let request = &part.request;
            let Some(meter) = terms.plan.meter(request.meter.as_str()) else {
                if catalog.has_meter(request.meter.as_str()) {
                    continue;
                }
                labelling::meter(&terms.plan, &terms.tenant, &request.meter)
                    .map_err(|refused| refused.at("operation".to_owned()))?;
                continue;
            };
            let subject = labelling::counted_subject(meter, request.subject.as_ref())?;
            let units = requested_units(meter, request)
                .map_err(|error| at_amount(error, &request.meter))?;
            let pool = self.pool_draw(terms, meter, *now).await?;
            let (state, terms, now) = (state.clone(), terms.clone(), *now);
            quotas.push(Asked { request, state, terms, meter, subject, now, units, pool });
        }
        quotas.sort_by_key(|asked| {
            let is_distinct = asked.meter.meter.aggregation == Aggregation::DistinctCount;
            (is_distinct, asked.meter.index)
        });
        Ok(quotas)
    }

    /// Looks at every quota. Answers the first that denied, with the units asked of it.
    async fn look_at_all(
        &self,
        quotas: &[Asked<'_>],
        answer: &mut OperationAnswer,
    ) -> Result<Option<(MeterName, u64)>, EngineError> {
        let mut denied = None;
        for quota in quotas {
            let looked = self.look(quota).await.map_err(|error| of_part(error, quota))?;
            let meter = quota.meter.meter.name.clone();
            if !looked.allowed && denied.is_none() {
                denied = Some((meter.clone(), quota.units));
            }
            answer.quotas.push((meter, looked));
        }
        Ok(denied)
    }

    /// Takes from every quota, or from none: the inner error is the one that denied, with the units
    /// asked of it.
    #[allow(clippy::type_complexity)]
    async fn admit_all(
        &self,
        quotas: &[Asked<'_>],
        answer: &mut OperationAnswer,
    ) -> Result<Result<Vec<Admitted>, (MeterName, u64)>, EngineError> {
        let mut admitted = Vec::with_capacity(quotas.len());
        for quota in quotas {
            match self.admit(quota).await.map_err(|error| of_part(error, quota))? {
                Admission::Admitted(one) => admitted.push(one),
                Admission::Denied(denial) => {
                    let meter = quota.meter.meter.name.clone();
                    for (quota, one) in quotas.iter().zip(admitted) {
                        let name = quota.meter.meter.name.clone();
                        answer.quotas.push((name, one.untaken(self, quota)));
                    }
                    answer.quotas.push((meter.clone(), denial));
                    return Ok(Err((meter, quota.units)));
                }
            }
        }
        Ok(Ok(admitted))
    }

    /// Hands all that was admitted to the journal as one record, and counts it.
    fn record_all(
        &self,
        admissions: Admissions<'_>,
        durability: Durability,
        mut answer: OperationAnswer,
        mut settling: Settling,
    ) -> Result<Decided<OperationAnswer>, EngineError> {
        let Admissions { operation, quotas, admitted, rates } = admissions;
        if quotas.is_empty() {
            let _ = rates.keep();
            let answer = answer.decided();
            settling.answered(Some(Remembered::Operation(Arc::new(answer.clone()))), None);
            return Ok(answer.into());
        }
        let mut events = Vec::with_capacity(quotas.len());
        for (quota, one) in quotas.iter().zip(&admitted) {
            let event = one.event(quota).map_err(EngineError::from)?;
            events.push(UsageEvent { operation: Some(operation.clone()), ..event });
        }
        let values: Vec<_> = quotas
            .iter()
            .zip(&events)
            .zip(&admitted)
            .filter(|((quota, _), _)| !quota.meter.meter.is_summed())
            .map(|((quota, event), one)| {
                let has_ceiling = quota.meter.limit.ceiling().is_some();
                (event.clone(), !has_ceiling || one.decided_by() != DecidedBy::Fallback)
            })
            .collect();
        let count = events.len() as u64;
        let pending = self.hand_over(events, durability)?;
        let _ = rates.keep();
        values.iter().for_each(|(event, is_shared)| self.values.observe(event, *is_shared));
        let mut counted = vec![];
        for (quota, one) in quotas.iter().zip(admitted) {
            counted.extend(one.counted(quota));
            let name = quota.meter.meter.name.clone();
            answer.quotas.push((name, one.settle(self, quota, pending.position())));
        }
        let answer = answer.decided();
        let remembered = Remembered::Operation(Arc::new(answer.clone()));
        settling.answered(Some(remembered), Some(pending.position()));
        settling.counted(counted);
        Ok(Decided { answer, owed: Some(Owed { pending, settling, events: count }) })
    }

    /// Keeps all that was admitted as holds.
    fn hold_all(
        &self,
        quotas: Vec<Asked<'_>>,
        admitted: Vec<Admitted>,
        ttl: Option<Duration>,
        answer: &mut OperationAnswer,
    ) -> Result<(), EngineError> {
        for (quota, one) in quotas.iter().zip(admitted) {
            match self.hold(quota, one, ttl) {
                Ok(held) => answer.quotas.push((quota.meter.meter.name.clone(), held)),
                Err(error) => {
                    self.let_go(&answer.quotas);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn let_go(&self, quotas: &[(MeterName, QuotaAnswer)]) {
        for reservation in quotas.iter().filter_map(|(_, quota)| quota.reservation.as_ref()) {
            if let Some(hold) = self.holds.remove(reservation.id.number) {
                hold.taken.unreserve();
            }
        }
    }
}

/// All that an operation holds.
struct Admissions<'a> {
    operation: OperationName,
    quotas: Vec<Asked<'a>>,
    admitted: Vec<Admitted>,
    rates: RateAdmission,
}

impl<'r> AskedOperation<'r> {
    /// The first part that only other plans have.
    fn missing_meter<'a>(&self, parts: &'a [Part]) -> Option<&'a Part> {
        parts.iter().find(|part| self.terms.plan.meter(part.request.meter.as_str()).is_none())
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
                let quota = answer.quotas.iter().find(|(name, _)| name == meter);
                quota.map(|(_, quota)| standing.of_quota(meter, units, quota)).unwrap_or_default()
            }
        };
        answer.denied_by = Some(denial);
        answer
    }
}

fn units_of(request: &QuotaRequest) -> u64 {
    u64::try_from(request.amount).unwrap_or(0)
}

fn unknown(name: &OperationName, terms: &Terms, catalog: &CompiledCatalog) -> EngineError {
    let known = catalog.definition().operations.iter().map(|known| known.name.as_str());
    let near = nearest(name.as_str(), known).and_then(|near| OperationName::new(near).ok());
    let (tenant, operation) = (terms.tenant.id.clone(), name.clone());
    let name = UnknownName::Operation { tenant, operation, near };
    Unknown { field: "operation".into(), name }.into()
}

/// What is wrong with an amount, in the words of this call.
fn at_amount(error: EngineError, meter: &MeterName) -> EngineError {
    match error {
        EngineError::InvalidRequest(problems) => {
            let mut renamed = Problems::default();
            for problem in problems.listed() {
                let is_amount = problem.field == "amount";
                let field =
                    if is_amount { format!("amounts[{meter}]") } else { problem.field.clone() };
                renamed.push(Invalid { field, ..problem.clone() });
            }
            EngineError::InvalidRequest(renamed)
        }
        other => other,
    }
}

fn of_part(error: EngineError, quota: &Asked<'_>) -> EngineError {
    at_amount(error, &quota.meter.meter.name)
}
