//! `CheckRateLimit`, and what it shares with operations.

use std::{sync::Arc, time::Duration};

use super::key::RateKey;
use crate::{
    domain::{
        catalog::{compiled_plan::PlanRate, error::nearest, names::RateName},
        ids::Subject,
        invalid::Invalid,
        quota::DecidedBy,
        rate::{RateAnswer, RateMode, RateReason, RateRequest, RateStandings},
    },
    enforcement::{
        directory::tenant_state::{TenantState, Terms},
        engine::Engine,
        error::{EngineError, Unknown, UnknownName},
    },
    leases::rate::cell::Short,
};

/// A rate and how much of it, found and checked.
pub(super) struct AskedRate<'t> {
    pub rate: &'t PlanRate,
    pub subject: Option<&'t Subject>,
    pub permits: u32,
}

impl Engine {
    /// Answers one rate check. A denial is an answer; an error means that nothing was decided.
    pub async fn check_rate(&self, request: RateRequest) -> Result<RateAnswer, EngineError> {
        self.check_open()?;
        let state = self.tenant(&request.tenant, "tenant").await?;
        let terms = state.terms();
        let rate = rate_of(&terms, &request.rate, "rate_limit")?;
        let subject = counted_subject(rate, request.subject.as_ref())?;
        let asked = AskedRate { rate, subject, permits: request.permits };
        let answer = self.decide_rate(&state, &terms, &asked, request.mode);
        self.rates.metrics.answered(&answer);
        Ok(answer)
    }

    fn decide_rate(
        &self,
        state: &TenantState,
        terms: &Terms,
        asked: &AskedRate<'_>,
        mode: RateMode,
    ) -> RateAnswer {
        let key = match self.rate_key(state, terms, asked) {
            Ok(key) => key,
            Err(reason) => return plain(reason),
        };
        let now_ns = self.clock.steady_ns();
        let outcome = match mode {
            RateMode::Check => key.look(asked.permits, now_ns),
            RateMode::Consume => key.take(asked.permits, now_ns),
        };
        answer(outcome, key.standings(now_ns), DecidedBy::Memory)
    }

    /// The key that decides, or the reason where none has to.
    pub(super) fn rate_key(
        &self,
        state: &TenantState,
        terms: &Terms,
        asked: &AskedRate<'_>,
    ) -> Result<Arc<RateKey>, RateReason> {
        if !terms.tenant.subscription.status.is_served() {
            return Err(RateReason::SubscriptionInactive);
        }
        if asked.rate.windows.is_empty() {
            return Err(RateReason::Unlimited);
        }
        let now_ns = self.clock.steady_ns();
        state
            .rates()
            .key(asked.rate, asked.subject, &self.rates.subjects, now_ns)
            .map_err(|_| RateReason::TooManySubjects)
    }
}

/// Finds a rate that the caller named in `field`.
pub(super) fn rate_of<'t>(
    terms: &'t Terms,
    name: &RateName,
    field: &str,
) -> Result<&'t PlanRate, EngineError> {
    terms.plan.rate(name).ok_or_else(|| {
        let known = terms.plan.rates.iter().map(|known| known.rate.name.as_str());
        let near = nearest(name.as_str(), known).and_then(|near| RateName::new(near).ok());
        let (tenant, rate) = (terms.tenant.id.clone(), name.clone());
        let name = UnknownName::Rate { tenant, rate, near };
        Unknown { field: field.into(), name }.into()
    })
}

/// The subject that counts: the caller's where the rate holds for each, none elsewhere.
pub(super) fn counted_subject<'t>(
    rate: &PlanRate,
    subject: Option<&'t Subject>,
) -> Result<Option<&'t Subject>, Invalid> {
    match (&rate.rate.subject, subject) {
        (Some(called), None) => Err(Invalid::new(
            "subject",
            "is missing",
            format!("give the {called}: the rate {} holds for each", rate.rate.name),
        )),
        (Some(_), Some(subject)) => Ok(Some(subject)),
        (None, _) => Ok(None),
    }
}

/// What a key decided, in the words of an answer.
pub(super) fn answer(
    outcome: Result<(), Short>,
    windows: RateStandings,
    decided_by: DecidedBy,
) -> RateAnswer {
    let (reason, wait_ns) = match outcome {
        Ok(()) => (RateReason::WithinLimit, None),
        Err(Short { wait_ns: None }) => (RateReason::BurstExceeded, None),
        Err(Short { wait_ns }) => (RateReason::RateExceeded, wait_ns),
    };
    RateAnswer {
        allowed: reason.is_allowed(),
        reason,
        decided_by,
        windows,
        retry_after: wait_ns.map(Duration::from_nanos),
    }
}

/// An answer for a reason that no window has to do with.
pub(super) fn plain(reason: RateReason) -> RateAnswer {
    RateAnswer {
        allowed: reason.is_allowed(),
        reason,
        decided_by: DecidedBy::Memory,
        windows: RateStandings::NONE,
        retry_after: None,
    }
}
