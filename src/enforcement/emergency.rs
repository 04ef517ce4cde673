//! `RequestEmergencyUsage`: a tenant that has run out gets on with what is critical.
//!
//! The ledger decides, once for all sidecars; this one knows of the grant before it answers, the
//! others within a second.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{
    asked::{Asked, Said},
    engine::Engine,
    error::EngineError,
    labelling,
};
use crate::{
    domain::{
        catalog::{allowances::EmergencyRule, compiled_plan::PlanMeter},
        emergency::{EmergencyAnswer, EmergencyGrant, EmergencyReason, EmergencyRequest},
        grant::{GrantKind, GrantPrice},
        invalid::Invalid,
        meter::MeterKind,
        period::Period,
        properties::Properties,
        quota::{QuotaMode, QuotaReason},
        tenant::Tenant,
    },
    enforcement::directory::tenant_state::Terms,
    ledger::{
        LedgerError, Refusal,
        changes::Author,
        emergency::{EmergencyBound, EmergencyClaim},
        grants::NewGrant,
    },
};

/// An answer is promised within 5 s; what takes longer is given up, and may be asked again.
const ANSWER_MAX: Duration = Duration::from_secs(4);
/// How long the shared counters are asked whether the tenant has run out: far longer than a look of
/// CHECK waits for them, and short enough that the ledger can be asked afterwards.
const LOOK_MAX: Duration = Duration::from_millis(2_500);
/// How long one try waits for one counter: several calls to them.
const LOOK_WAIT: Duration = Duration::from_secs(1);
/// Between a try that failed, perhaps at once, and the next.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

impl Engine {
    /// Answers a request for emergency usage.
    pub async fn request_emergency(
        &self,
        request: EmergencyRequest,
    ) -> Result<EmergencyAnswer, EngineError> {
        self.check_open()?;
        let answer = tokio::time::timeout(ANSWER_MAX, self.decide_emergency(&request)).await;
        let answer = answer.unwrap_or_else(|_| Err(away("it took too long")))?;
        self.metrics.emergency_answered(answer.reason);
        Ok(answer)
    }

    async fn decide_emergency(
        &self,
        request: &EmergencyRequest,
    ) -> Result<EmergencyAnswer, EngineError> {
        let state = self.tenant(&request.tenant, "tenant").await?;
        let terms = state.terms();
        let plan = terms.plan.clone();
        let meter = labelling::meter(&plan, &terms.tenant, &request.meter)?;
        let subject = labelling::counted_subject(meter, request.subject.as_ref())?;
        let now = terms.tenant.now(self.clock.now());
        if !terms.tenant.subscription.status.is_served() {
            return Ok(refusal(EmergencyReason::SubscriptionInactive));
        }
        let Some(rule) = rule(&terms, request) else {
            return Ok(refusal(EmergencyReason::NotInPlan));
        };
        // A version that was signed before catalogs were checked for it may have such a rule.
        if plan.check_grantable(&request.meter, subject.as_ref(), None).is_err() {
            return Ok(refusal(EmergencyReason::NotInPlan));
        }
        let price = GrantPrice::of_rule(rule, &plan.definition.meters);
        let granted = |reason, grant, pool_remaining| EmergencyAnswer {
            reason,
            grant,
            pool_remaining,
            unit_price: price.per_unit().map_or_else(String::new, |price| price.to_string()),
            currency: plan.currency.to_string(),
        };
        let Some(ledger) = self.directory.ledger() else {
            let problem = "emergency usage needs a ledger, and this sidecar has a file only";
            return Err(EngineError::Unavailable(problem.into()));
        };
        let source_key = format!("emergency:{}", request.idempotency_key.as_str());
        let known = ledger.grant_of_key(&request.tenant, &source_key).await.map_err(unreached)?;
        if known.is_none() && !self.has_run_out(request, meter, &terms, now).await? {
            return Ok(granted(EmergencyReason::NotExhausted, None, 0));
        }
        let bound = bound(&terms.tenant, rule, now);
        let new = NewGrant {
            tenant: request.tenant.clone(),
            kind: GrantKind::Emergency,
            meter: request.meter.clone(),
            subject,
            amount: request.amount,
            priority: 0,
            starts_at: now,
            expires_at: Some(expiry(&terms.tenant, meter, now)),
            every: None,
            rollover_cap: None,
            covers_level: meter.meter.kind == MeterKind::Level,
            source: format!("emergency:{}", rule.name),
            source_key,
            price: Some(price.clone()),
        };
        let actor = match request.requested_by.as_str() {
            "" => "api".to_owned(),
            who => format!("api:{who}"),
        };
        let reason = format!("{}: {}", request.operation, request.reason);
        let author = Author { actor: &actor, reason: &reason };
        let outcome = ledger.claim_emergency(&new, bound, author).await.map_err(unreached)?;
        let stored = match outcome.claim {
            EmergencyClaim::Granted(stored) => stored,
            EmergencyClaim::AlreadyUsed => {
                return Ok(granted(EmergencyReason::AlreadyUsed, None, outcome.remaining));
            }
            EmergencyClaim::TooMuch => {
                return Ok(granted(EmergencyReason::PoolExhausted, None, outcome.remaining));
            }
        };
        // Others hear of it as of any change; should it fail here, so does this one.
        if let Ok(counters) = self.directory.reload(&request.tenant).await {
            counters.iter().for_each(|counter| self.leasing.wake(counter));
        }
        let grant = EmergencyGrant {
            id: stored.grant.id,
            amount: stored.grant.amount,
            expires_at: stored.grant.expires_at,
        };
        Ok(granted(EmergencyReason::Granted, Some(grant), outcome.remaining))
    }

    /// Whether what is asked for would be denied.
    async fn has_run_out(
        &self,
        request: &EmergencyRequest,
        meter: &PlanMeter,
        terms: &std::sync::Arc<Terms>,
        now: Timestamp,
    ) -> Result<bool, EngineError> {
        let said = Said {
            amount: i64::try_from(request.amount).unwrap_or(i64::MAX),
            mode: QuotaMode::Check,
            idempotency_key: None,
            durability: None,
            properties: &Properties::default(),
        };
        let state = self.tenant(&request.tenant, "tenant").await?;
        let asked = Asked {
            said,
            state: &state,
            terms,
            meter,
            subject: labelling::counted_subject(meter, request.subject.as_ref())?,
            now,
            began: self.leasing.now(),
            units: request.amount,
            pool: self.pool_draw(terms, meter, now).await?,
        };
        let began = Instant::now();
        loop {
            let look = self.look_within(&asked, LOOK_WAIT).await?;
            if look.reason != QuotaReason::DeniedByOutagePolicy {
                return Ok(!look.allowed);
            }
            if began.elapsed() >= LOOK_MAX {
                return Err(away("the shared counters do not say whether the tenant has run out"));
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }
}

/// The plan's rule for the meter and the operation.
fn rule<'t>(terms: &'t Terms, request: &EmergencyRequest) -> Option<&'t EmergencyRule> {
    let catalog = terms.catalog();
    let is_critical =
        catalog.operation(request.operation.as_str()).is_some_and(|operation| operation.critical);
    let serves = |rule: &&EmergencyRule| {
        rule.meter == request.meter
            && is_critical
            && (rule.operations.is_empty() || rule.operations.contains(&request.operation))
    };
    terms.plan.definition.plan.emergency.iter().find(serves)
}

fn bound(tenant: &Tenant, rule: &EmergencyRule, now: Timestamp) -> EmergencyBound {
    let period = rule.period.unwrap_or(Period::BillingCycle);
    let window = tenant.subscription.schedule.window(period, now);
    EmergencyBound {
        since: window.start,
        until: window.end,
        times: rule.times,
        amount: rule.amount.get(),
    }
}

/// With the meter's window; on a meter that never starts again, with the billing cycle, so that it
/// is billed some day.
fn expiry(tenant: &Tenant, meter: &PlanMeter, now: Timestamp) -> Timestamp {
    let schedule = &tenant.subscription.schedule;
    let end = schedule.window(meter.limit.period, now).end;
    end.or(schedule.window(Period::BillingCycle, now).end).unwrap_or(Timestamp::MAX)
}

fn refusal(reason: EmergencyReason) -> EmergencyAnswer {
    EmergencyAnswer {
        reason,
        grant: None,
        pool_remaining: 0,
        unit_price: String::new(),
        currency: String::new(),
    }
}

fn unreached(error: LedgerError) -> EngineError {
    if let LedgerError::Refused(Refusal::Invalid(conflict)) = error {
        let conflict = Invalid { field: "idempotency_key".into(), ..conflict };
        return EngineError::IdempotencyConflict(conflict.into());
    }
    tracing::warn!(%error, "emergency usage cannot be decided");
    match error {
        LedgerError::Schema(error) => away(&error.to_string()),
        _ => away("Postgres cannot be asked now"),
    }
}

fn away(why: &str) -> EngineError {
    EngineError::Unavailable(format!(
        "emergency usage cannot be decided: {why}; ask again under the same key"
    ))
}
