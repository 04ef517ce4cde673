//! Several rates together, and together with other limits: all or nothing.

use std::sync::Arc;

use super::{
    check::{AskedRate, answer, counted_subject, plain, rate_of},
    key::RateKey,
};
use crate::{
    clock::Clock,
    domain::{
        catalog::names::RateName,
        ids::Subject,
        quota::DecidedBy,
        rate::{RateAnswer, RateMode},
    },
    enforcement::{
        directory::tenant_state::{TenantState, Terms},
        engine::Engine,
        error::EngineError,
    },
};

/// What came of asking several rates. What it holds is given back when it is dropped, unless it is
/// kept: an operation that is denied further on leaves no trace.
#[derive(Debug)]
#[must_use = "dropped, it takes nothing"]
pub struct RateAdmission {
    answers: Vec<(RateName, RateAnswer)>,
    holds: Vec<Held>,
    clock: Clock,
}

impl RateAdmission {
    /// Whether every rate allows it.
    pub fn is_allowed(&self) -> bool {
        self.answers.iter().all(|(_, answer)| answer.allowed)
    }

    /// What each rate said, in the order asked, up to the first denial.
    pub fn answers(&self) -> &[(RateName, RateAnswer)] {
        &self.answers
    }

    /// Takes what was held for good.
    pub fn keep(mut self) -> Vec<(RateName, RateAnswer)> {
        let now_ns = self.clock.steady_ns();
        self.holds.drain(..).for_each(|held| held.keep(now_ns));
        std::mem::take(&mut self.answers)
    }
}

/// Permits that one request holds.
#[derive(Debug)]
struct Held {
    key: Arc<RateKey>,
    /// 0 once they are kept.
    permits: u32,
}

impl Held {
    fn keep(mut self, now_ns: u64) {
        self.key.keep(self.permits, now_ns);
        self.permits = 0;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.permits > 0 {
            self.key.let_go(self.permits);
        }
    }
}

impl Engine {
    /// Asks `rates` for `permits` each, on behalf of an operation: `Consume` holds them until the
    /// operation is sure, `Check` looks only. Ends at the first denial, which leaves nothing held.
    ///
    /// # Errors
    /// A rate that the tenant's catalog does not have, or a missing subject.
    pub async fn admit_rates(
        &self,
        state: &TenantState,
        terms: &Terms,
        rates: &[RateName],
        asked: RatesAsked<'_>,
    ) -> Result<RateAdmission, EngineError> {
        let mut admission =
            RateAdmission { answers: vec![], holds: vec![], clock: self.clock.clone() };
        for name in rates {
            let rate = rate_of(terms, name, "operation")?;
            let subject = counted_subject(rate, asked.subject)?;
            let one = AskedRate { rate, subject, permits: asked.permits };
            let answer = match self.rate_key(state, terms, &one) {
                Ok(key) => self.hold_rate(key, &one, asked.mode, &mut admission.holds),
                Err(reason) => plain(reason),
            };
            self.rates.metrics.answered(&answer);
            let is_denied = !answer.allowed;
            admission.answers.push((name.clone(), answer));
            if is_denied {
                admission.holds.clear();
                break;
            }
        }
        Ok(admission)
    }

    fn hold_rate(
        &self,
        key: Arc<RateKey>,
        asked: &AskedRate<'_>,
        mode: RateMode,
        holds: &mut Vec<Held>,
    ) -> RateAnswer {
        let now_ns = self.clock.steady_ns();
        let outcome = match mode {
            RateMode::Check => key.look(asked.permits, now_ns),
            RateMode::Consume => key.hold(asked.permits, now_ns),
        };
        let answer = answer(outcome, key.standings(now_ns), DecidedBy::Memory);
        if answer.allowed && mode == RateMode::Consume {
            holds.push(Held { key, permits: asked.permits });
        }
        answer
    }
}

/// What an operation asks of each of its rates.
#[derive(Clone, Copy, Debug)]
pub struct RatesAsked<'r> {
    pub subject: Option<&'r Subject>,
    pub permits: u32,
    pub mode: RateMode,
}
