//! `CheckRateLimit`, and what it shares with operations.

use std::time::Duration;

use super::{
    decided::{Decided, Outcome, Want},
    key::{Held, RateKey},
};
use crate::{
    domain::{
        catalog::{compiled_plan::PlanRate, error::nearest, names::RateName},
        ids::Subject,
        invalid::Invalid,
        limit::OutagePolicy,
        quota::DecidedBy,
        rate::{RateAnswer, RateMode, RateReason, RateRequest, RateStanding, RateWindow},
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
        let want = match request.mode {
            RateMode::Check => Want::Look,
            RateMode::Consume => Want::Take,
        };
        let (answer, _) = self.decide_rate(&state, &terms, &asked, want).await?;
        Ok(answer)
    }

    /// Decides, counts the answer, and hands out what is held under [`Want::Hold`].
    pub(super) async fn decide_rate(
        &self,
        state: &TenantState,
        terms: &Terms,
        asked: &AskedRate<'_>,
        want: Want,
    ) -> Result<(RateAnswer, Option<Held>), EngineError> {
        let (answer, held) = match self.rate_key(state, terms, asked) {
            Err(reason) => (plain(reason, asked.rate), None),
            Ok(key) => {
                let decided = self.ask_rate(&key, asked.permits, want).await?;
                self.answer(decided, &key, asked, want)?
            }
        };
        self.rates.metrics.answered(&answer);
        Ok((answer, held))
    }

    /// Whether a look could be told anything but that all is well, as far as this sidecar knows by
    /// itself: no figures are made for what allows.
    pub(super) fn is_met_offhand(
        &self,
        state: &TenantState,
        terms: &Terms,
        asked: &AskedRate<'_>,
    ) -> bool {
        let key = match self.rate_key(state, terms, asked) {
            Ok(key) => key,
            Err(reason) => return reason.is_allowed(),
        };
        never_fits(&key, asked.permits).is_none()
            && match key.offhand(asked.permits, Want::Look) {
                None => true,
                Some(decided) => matches!(decided.outcome, Outcome::Met(_) | Outcome::Away),
            }
    }

    /// What a look says, as far as this sidecar knows by itself. A denial is counted; a look that
    /// denies nothing is only the beginning of an answer.
    pub(super) fn look_at_rate_offhand(
        &self,
        state: &TenantState,
        terms: &Terms,
        asked: &AskedRate<'_>,
    ) -> Result<Option<RateAnswer>, EngineError> {
        let answer = match self.rate_key(state, terms, asked) {
            Err(reason) => plain(reason, asked.rate),
            Ok(key) => {
                let decided = match never_fits(&key, asked.permits) {
                    Some(never) => never,
                    None => match key.offhand(asked.permits, Want::Look) {
                        None | Some(Decided { outcome: Outcome::Away, .. }) => return Ok(None),
                        Some(decided) => decided,
                    },
                };
                self.answer(decided, &key, asked, Want::Look)?.0
            }
        };
        if !answer.allowed {
            self.rates.metrics.answered(&answer);
        }
        Ok(Some(answer))
    }

    /// Holds what is asked for, if this sidecar has it in hand.
    #[inline]
    pub(super) fn hold_rate_in_hand(
        &self,
        state: &TenantState,
        terms: &Terms,
        asked: &AskedRate<'_>,
    ) -> Option<(RateAnswer, Option<Held>)> {
        match self.rate_key(state, terms, asked) {
            Ok(key) => {
                let (held, windows) = key.hold_in_hand(asked.permits)?;
                let answer = RateAnswer {
                    allowed: true,
                    reason: RateReason::WithinLimit,
                    decided_by: DecidedBy::Memory,
                    windows,
                    retry_after: None,
                };
                Some((answer, Some(held)))
            }
            Err(reason) => reason.is_allowed().then(|| (plain(reason, asked.rate), None)),
        }
    }

    /// The key that decides, or the reason where none has to.
    fn rate_key(
        &self,
        state: &TenantState,
        terms: &Terms,
        asked: &AskedRate<'_>,
    ) -> Result<RateKey, RateReason> {
        if !terms.tenant.subscription.status.is_served() {
            return Err(RateReason::SubscriptionInactive);
        }
        if asked.rate.windows.is_empty() {
            return Err(RateReason::Unlimited);
        }
        let fresh = || self.rates.fresh(&terms.tenant, asked.rate, asked.subject);
        let (subjects, now_ns) = (&self.rates.subjects, || self.clock.steady_ns());
        let rate = (terms.tenant.version, asked.rate);
        let key = state.rates().key(rate, asked.subject, subjects, now_ns, fresh);
        key.map_err(|_| RateReason::TooManySubjects)
    }

    async fn ask_rate(
        &self,
        key: &RateKey,
        permits: u32,
        want: Want,
    ) -> Result<Decided<Held>, EngineError> {
        if let Some(never) = never_fits(key, permits) {
            return Ok(never);
        }
        if let Some(decided) = key.offhand(permits, want) {
            return Ok(decided);
        }
        let Ok(_permit) = self.slow_path.try_acquire() else {
            let bound = self.config.slow_path_max;
            return Err(EngineError::Overloaded { what: "checks that wait for a refill", bound });
        };
        Ok(Box::pin(key.wait(permits, want)).await)
    }

    /// What a key decided, in the words of an answer; where it could not, by the rate's policy.
    /// That policy never admits without bound: `allow` lets this sidecar go on by itself.
    fn answer(
        &self,
        decided: Decided<Held>,
        key: &RateKey,
        asked: &AskedRate<'_>,
        want: Want,
    ) -> Result<(RateAnswer, Option<Held>), EngineError> {
        let on_outage = asked.rate.rate.on_outage.unwrap_or(OutagePolicy::Allow);
        let (decided, windows) = match (&decided.outcome, on_outage) {
            (Outcome::Away, OutagePolicy::Allow) => key.decide_alone(asked.permits, want),
            _ => (decided, key.standings()),
        };
        let is_alone = decided.decided_by == DecidedBy::Fallback;
        let (reason, wait_ns, held) = match decided.outcome {
            Outcome::Met(held) if is_alone => (RateReason::AllowedByOutagePolicy, None, held),
            Outcome::Met(held) => (RateReason::WithinLimit, None, held),
            Outcome::Short(Short { wait_ns: None }) => (RateReason::BurstExceeded, None, None),
            Outcome::Short(Short { wait_ns }) => (RateReason::RateExceeded, wait_ns, None),
            Outcome::Away => (RateReason::DeniedByOutagePolicy, None, None),
            Outcome::Overloaded => {
                let bound = self.rates.lender.calls_max();
                return Err(EngineError::Overloaded { what: "calls that wait for Redis", bound });
            }
        };
        let answer = RateAnswer {
            allowed: reason.is_allowed(),
            reason,
            decided_by: decided.decided_by,
            windows,
            retry_after: wait_ns.map(Duration::from_nanos),
        };
        Ok((answer, held))
    }
}

/// The denial of more permits than the burst will ever have.
fn never_fits(key: &RateKey, permits: u32) -> Option<Decided<Held>> {
    (!key.ever_fits(permits)).then(|| {
        let outcome = Outcome::Short(Short { wait_ns: None });
        Decided { outcome, decided_by: DecidedBy::Memory }
    })
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

/// An answer for a reason that no window has to do with.
fn plain(reason: RateReason, rate: &PlanRate) -> RateAnswer {
    let nothing_left = |window: &RateWindow| RateStanding {
        reset_after: Duration::ZERO,
        ..window.standing(window.capacity_ns())
    };
    RateAnswer {
        allowed: reason.is_allowed(),
        reason,
        decided_by: DecidedBy::Memory,
        windows: rate.windows.iter().map(nothing_left).collect(),
        retry_after: None,
    }
}
