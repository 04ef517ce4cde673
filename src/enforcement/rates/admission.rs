//! Several rates together, and together with other limits: all or nothing.

use arrayvec::ArrayVec;

use super::{
    check::{AskedRate, counted_subject, rate_of},
    decided::Want,
    key::Held,
};
use crate::{
    domain::{
        catalog::names::RateName,
        ids::Subject,
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
}

impl RateAdmission {
    /// Whether every rate allows it.
    pub fn is_allowed(&self) -> bool {
        self.answers.iter().all(|(_, answer)| answer.allowed)
    }

    /// What each rate said, in the order asked, up to the first denial; none are left.
    pub fn take_answers(&mut self) -> Vec<(RateName, RateAnswer)> {
        std::mem::take(&mut self.answers)
    }

    /// Takes what was held for good.
    pub fn keep(mut self) {
        self.holds.drain(..).for_each(Held::keep);
    }
}

/// Rates that are asked at once, at most.
const RATES_AT_ONCE_MAX: usize = 4;

/// As [`RateAdmission`], of rates that all allow it at once; where it stays on the stack.
#[derive(Debug, Default)]
#[must_use = "dropped, it takes nothing"]
pub struct RatesInHand<'r> {
    /// What each rate said, in the order asked.
    pub answers: ArrayVec<(&'r RateName, RateAnswer), RATES_AT_ONCE_MAX>,
    holds: ArrayVec<Held, RATES_AT_ONCE_MAX>,
}

impl RatesInHand<'_> {
    /// Takes what was held for good.
    pub fn keep(&mut self) {
        self.holds.drain(..).for_each(Held::keep_at_once);
    }
}

impl Engine {
    /// What `rates` say when this sidecar knows already that one of them denies, up to that one.
    /// Nothing is taken and nobody waits; a rate of which nothing is known denies nothing.
    pub fn known_rate_denial(
        &self,
        state: &TenantState,
        terms: &Terms,
        rates: &[RateName],
        asked: RatesAsked<'_>,
    ) -> Result<Option<Vec<(RateName, RateAnswer)>>, EngineError> {
        let mut all = Vec::with_capacity(rates.len());
        for name in rates {
            let rate = rate_of(terms, name, "operation")?;
            let subject = counted_subject(rate, asked.subject)?;
            let one = AskedRate { rate, subject, permits: asked.permits };
            let is_met = self.is_met_offhand(state, terms, &one);
            all.push((name, one));
            if !is_met && let Some(denial) = self.denial_offhand(state, terms, &all)? {
                return Ok(Some(denial));
            }
        }
        Ok(None)
    }

    /// What rates say offhand, up to the one that denies, if one does.
    fn denial_offhand(
        &self,
        state: &TenantState,
        terms: &Terms,
        rates: &[(&RateName, AskedRate<'_>)],
    ) -> Result<Option<Vec<(RateName, RateAnswer)>>, EngineError> {
        let mut answers = vec![];
        for (name, one) in rates {
            let Some(answer) = self.look_at_rate_offhand(state, terms, one)? else { continue };
            let is_denied = !answer.allowed;
            answers.push(((*name).clone(), answer));
            if is_denied {
                return Ok(Some(answers));
            }
        }
        Ok(None)
    }

    /// As [`Engine::admit_rates`] for `Consume`, if all allow it by what this sidecar has in hand; put
    /// into `held`. `None`: nothing is held that `held` does not let go, and nothing is said. The
    /// answers are not counted yet ([`Engine::count_rates`]).
    pub fn hold_rates_in_hand<'r>(
        &self,
        state: &TenantState,
        terms: &Terms,
        rates: &'r [RateName],
        asked: RatesAsked<'_>,
        held: &mut RatesInHand<'r>,
    ) -> Option<()> {
        let one = |name| {
            let rate = terms.plan.rate(name)?;
            let subject = counted_subject(rate, asked.subject).ok()?;
            Some(AskedRate { rate, subject, permits: asked.permits })
        };
        if rates.len() > RATES_AT_ONCE_MAX {
            return None;
        }
        if let [_, _, ..] = rates {
            // Looked at first: what is held of one until another denies is missing to others.
            let is_met = |name| one(name).is_some_and(|it| self.is_met_offhand(state, terms, &it));
            if !rates.iter().all(is_met) {
                return None;
            }
        }
        for name in rates {
            let (answer, hold) = self.hold_rate_in_hand(state, terms, &one(name)?)?;
            held.holds.extend(hold);
            held.answers.push((name, answer));
        }
        Some(())
    }

    /// Counts the answers of what was held.
    pub fn count_rates(&self, held: &RatesInHand<'_>) {
        held.answers.iter().for_each(|(_, answer)| self.rates.metrics.answered(answer));
    }

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
        let mut admission = RateAdmission { answers: vec![], holds: vec![] };
        let want = match asked.mode {
            RateMode::Check => Want::Look,
            RateMode::Consume => Want::Hold,
        };
        for name in rates {
            let rate = rate_of(terms, name, "operation")?;
            let subject = counted_subject(rate, asked.subject)?;
            let one = AskedRate { rate, subject, permits: asked.permits };
            let (answer, held) = self.decide_rate(state, terms, &one, want).await?;
            admission.holds.extend(held);
            let is_denied = !answer.allowed;
            admission.answers.push((name.clone(), answer));
            if is_denied {
                admission.holds.clear();
                break;
            }
        }
        Ok(admission)
    }
}

/// What an operation asks of each of its rates.
#[derive(Clone, Copy, Debug)]
pub struct RatesAsked<'r> {
    pub subject: Option<&'r Subject>,
    pub permits: u32,
    pub mode: RateMode,
}
