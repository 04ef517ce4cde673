//! `CheckQuota`: may this tenant do this now?

use std::time::Duration;

use jiff::Timestamp;

use super::{
    admission::{Admission, Admitted},
    answer::{Decision, Figures, answer, reason_allowed},
    asked::{Asked, Said},
    directory::tenant_state::Terms,
    engine::{Engine, effective_durability},
    error::EngineError,
    labelling,
    owed::{Decided, Owed},
    repeats::{Patience, Remembered, Verb},
    settling::Settling,
};
use crate::{
    domain::{
        amount::check_amount,
        catalog::{compiled_catalog::CompiledCatalog, compiled_plan::PlanMeter},
        invalid::Invalid,
        meter::{Aggregation, MeterKind},
        quota::{DecidedBy, QuotaAnswer, QuotaMode, QuotaReason, QuotaRequest},
        standing::{DeniedQuota, Standing},
        usage::Durability,
    },
    journal::record::RecordRef,
};

impl Engine {
    /// Answers one quota check. A denial is an answer; an error means that nothing was decided.
    pub async fn check_quota(&self, request: QuotaRequest) -> Result<QuotaAnswer, EngineError> {
        let began = self.leasing.now();
        let decided = self.decide_quota(request, began).await?;
        self.answered(decided, began).await
    }

    /// The answer of a check that began at `began`, once it may leave; it is counted.
    pub(super) async fn answered(
        &self,
        decided: Decided<'_, QuotaAnswer>,
        began: Duration,
    ) -> Result<QuotaAnswer, EngineError> {
        let answer = self.acknowledged(decided).await?;
        self.metrics.answered(&answer, self.leasing.now().saturating_sub(began));
        Ok(answer)
    }

    /// Decides one quota check, which began so long after the start of the run; its answer may leave
    /// when what it owes is acknowledged.
    pub(super) async fn decide_quota(
        &self,
        request: QuotaRequest,
        began: Duration,
    ) -> Result<Decided<'_, QuotaAnswer>, EngineError> {
        self.check_open()?;
        let state = self.tenant(&request.tenant, "tenant").await?;
        let terms = state.terms();
        let now = terms.tenant.now(self.clock.now());
        let meter = match labelling::meter(&terms.plan, &terms.tenant, &request.meter) {
            Ok(meter) => meter,
            Err(unknown) => {
                let catalog = terms.catalog();
                return match catalog.has_meter(request.meter.as_str()) {
                    true => Ok(not_in_plan(&request, &terms, &catalog, now).into()),
                    false => Err(unknown.into()),
                };
            }
        };
        let subject = labelling::counted_subject(meter, request.subject.as_ref())?;
        let units = requested_units(meter, request.amount, request.mode)?;
        let pool = self.pool_draw(&terms, meter, now).await?;
        let (said, state, terms) = (Said::from(&request), &state, &terms);
        let asked = Asked { said, state, terms, meter, subject, now, began, units, pool };
        let mut decided = self.decide(&asked).await?;
        if !decided.answer.allowed {
            let denied = DeniedQuota {
                meter: &asked.meter.meter.name,
                units: asked.units,
                answer: &decided.answer,
                pool: asked.pool.as_ref().map(|pool| pool.share),
            };
            decided.answer.remedies = asked.with_standing(|standing| standing.of_quota(denied));
        }
        Ok(decided)
    }

    async fn decide(&self, asked: &Asked<'_>) -> Result<Decided<'_, QuotaAnswer>, EngineError> {
        if !asked.terms.tenant.subscription.status.is_served() {
            return Ok(self.inactive(asked).into());
        }
        if asked.meter.meter.kind == MeterKind::Static {
            return Ok(static_answer(asked).into());
        }
        match asked.said.mode {
            QuotaMode::Check => self.look(asked).await.map(Decided::from),
            QuotaMode::Consume => self.consume(asked).await,
            QuotaMode::Reserve { ttl } => {
                Box::pin(self.reserve(asked, ttl)).await.map(Decided::from)
            }
        }
    }

    /// The denial of a tenant whose subscription is not active, with what this sidecar knows to be
    /// used: nothing is waited for.
    fn inactive(&self, asked: &Asked<'_>) -> QuotaAnswer {
        let window = asked.window();
        let key = asked.key(&window);
        let figures = match asked.meter.meter.is_summed() {
            true => asked.state.counter(&key).map(|counter| Figures::of(&counter)),
            false => Some(self.value_figures(asked.meter, &key)),
        };
        let reason = QuotaReason::SubscriptionInactive;
        let decision = Decision { reason, decided_by: DecidedBy::Memory };
        // Nothing is left to it, whatever is left of its limit and its grants.
        let remaining = Some(0);
        QuotaAnswer {
            remaining,
            ..asked.answer(&window.bounds(), figures.unwrap_or_default(), decision)
        }
    }

    async fn consume(&self, asked: &Asked<'_>) -> Result<Decided<'_, QuotaAnswer>, EngineError> {
        let durability = self.durability(asked)?;
        let settling = match self.begin(asked, durability).await? {
            Ok(settling) => settling,
            Err(first_answer) => return Ok(first_answer.into()),
        };
        let admitted = match self.admit(asked).await? {
            Admission::Admitted(admitted) => admitted,
            Admission::Denied(denial) => return Ok(denial.into()),
        };
        self.record(asked, admitted, settling, durability)
    }

    /// Hands what was admitted over to the journal, and counts it.
    pub(super) fn record(
        &self,
        asked: &Asked<'_>,
        admitted: Admitted,
        mut settling: Settling,
        durability: Durability,
    ) -> Result<Decided<'_, QuotaAnswer>, EngineError> {
        let event = admitted.event(asked)?;
        let has_ceiling = asked.meter.limit.ceiling().is_some();
        let pending = self.hand_over(RecordRef::Usage(vec![&event]), durability)?;
        if !asked.meter.meter.is_summed() {
            let is_shared = !has_ceiling || admitted.decided_by() != DecidedBy::Fallback;
            self.values.observe(&event, is_shared);
        }
        // A negative amount counts when the ledger has it.
        let counted = admitted.counted(asked);
        let answer = admitted.settle(self, asked, pending.position());
        let remembered = || Some(Remembered::Quota(answer.clone()));
        settling.answered(remembered, Some(pending.place()));
        settling.counted(counted);
        Ok(Decided { answer, owed: Some(Owed::new(self, pending, settling, 1)) })
    }

    pub(super) fn durability(&self, asked: &Asked<'_>) -> Result<Durability, EngineError> {
        let is_bounded = asked.terms.is_bounded(asked.meter);
        effective_durability(asked.said.durability, self.config.durability, is_bounded)
    }

    /// Claims the request's key, if it has one. The inner error is the first answer to it.
    pub(super) async fn begin(
        &self,
        asked: &Asked<'_>,
        durability: Durability,
    ) -> Result<Result<Settling, QuotaAnswer>, EngineError> {
        let Some(key) = asked.said.idempotency_key else {
            return Ok(Ok(Settling::new(None)));
        };
        let content = super::repeats::Content::Units {
            meter: asked.meter.meter.name.clone(),
            subject: asked.subject.clone(),
            amount: asked.said.amount,
        };
        let verb = match asked.said.mode {
            QuotaMode::Reserve { .. } => Verb::Reserve,
            QuotaMode::Check | QuotaMode::Consume => Verb::Use,
        };
        let tenant = &asked.terms.tenant.id;
        let mut patience = Patience::default();
        match self.claim((tenant, key), verb, &content, &mut patience).await? {
            super::repeats::Begun::Fresh(claim) => Ok(Ok(Settling::new(Some(claim)))),
            super::repeats::Begun::Conflict(other) => {
                Err(EngineError::IdempotencyConflict(conflict("idempotency_key", &other).into()))
            }
            super::repeats::Begun::Repeat(first) => {
                if let Some(place) = first.place {
                    Box::pin(self.wait_durable(place, durability)).await?;
                }
                self.metrics.events_repeated.increment(1);
                let answer = match first.answer {
                    Some(Remembered::Quota(answer)) => answer,
                    // Another content's, which this one would be in conflict with.
                    Some(Remembered::Operation(_)) | None => self.recorded_answer(asked),
                };
                Ok(Err(QuotaAnswer { decided_by: DecidedBy::Replay, ..answer }))
            }
        }
    }

    /// The answer to a CONSUME whose key was first used to record usage: it is recorded.
    fn recorded_answer(&self, asked: &Asked<'_>) -> QuotaAnswer {
        let window = asked.window();
        let figures = asked
            .state
            .counter(&asked.key(&window))
            .map_or(Figures::default(), |counter| Figures::of(&counter));
        let reason = reason_allowed(asked.meter, figures.used);
        answer(
            asked.meter,
            Some(&window.bounds()),
            figures,
            Decision { reason, decided_by: DecidedBy::Replay },
        )
    }
}

/// How a key that is taken by other content is told.
pub(super) fn conflict(field: &str, other: &super::repeats::Content) -> Invalid {
    Invalid::new(
        field,
        format!("was used before for {other}"),
        "send a repeat with the same content, or give new usage a key of its own",
    )
}

/// Checks the amount against the meter and the mode.
pub(super) fn requested_units(
    meter: &PlanMeter,
    amount: i64,
    mode: QuotaMode,
) -> Result<u64, EngineError> {
    let kind = meter.meter.kind;
    if kind == MeterKind::Static {
        if mode == QuotaMode::Check {
            return Ok(check_amount("amount", amount)?);
        }
        labelling::check_meter_amount(&meter.meter, amount)?;
    }
    labelling::check_meter_amount(&meter.meter, amount)?;
    if matches!(mode, QuotaMode::Reserve { .. }) && !meter.meter.is_summed() {
        let remedy = "CONSUME instead: what is not added up cannot be held in advance";
        let problem = format!("is RESERVE on {}, which is not a sum", meter.meter.name);
        return Err(Invalid::new("mode", problem, remedy).into());
    }
    Ok(match meter.meter.aggregation {
        Aggregation::Count => 1,
        _ => u64::try_from(amount).unwrap_or(0),
    })
}

/// A meter that only other plans of the catalog have.
fn not_in_plan(
    request: &QuotaRequest,
    terms: &Terms,
    catalog: &CompiledCatalog,
    now: Timestamp,
) -> QuotaAnswer {
    let mut answer = missing_meter();
    if !terms.tenant.subscription.status.is_served() {
        answer.reason = QuotaReason::SubscriptionInactive;
    }
    let standing = Standing { catalog, plan: &terms.plan, now, operation: None };
    let units = u64::try_from(request.amount).unwrap_or(0);
    let denied = DeniedQuota { meter: &request.meter, units, answer: &answer, pool: None };
    answer.remedies = standing.of_quota(denied);
    answer
}

/// The denial of what the plan has nothing of.
pub(super) fn missing_meter() -> QuotaAnswer {
    QuotaAnswer {
        allowed: false,
        reason: QuotaReason::NotInPlan,
        decided_by: DecidedBy::Memory,
        limit: Some(0),
        used: 0,
        remaining: Some(0),
        overage: 0,
        resets_at: None,
        reservation: None,
        remedies: vec![],
    }
}

fn static_answer(asked: &Asked<'_>) -> QuotaAnswer {
    let reason = match asked.meter.limit.amount {
        None => QuotaReason::Unlimited,
        Some(limit) if asked.units <= limit => QuotaReason::WithinLimit,
        Some(_) => QuotaReason::LimitExceeded,
    };
    let decision = Decision { reason, decided_by: DecidedBy::Memory };
    answer(asked.meter, None, Figures::default(), decision)
}
