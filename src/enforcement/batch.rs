//! Many checks in one call: decided one after the other, acknowledged beside each other.

use std::{pin::pin, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};

use super::{engine::Engine, error::EngineError, glance::Glance, owed::Decided};
use crate::domain::{
    any_check::{AnyAnswer, AnyCheck},
    invalid::Problems,
    quota::{QuotaMode, QuotaRequest},
};

/// Answers of a batch that wait for the journal at a time.
const UNACKNOWLEDGED_MAX: usize = 512;
/// Checks that are decided before other calls of the same thread get a turn.
const CHECKS_PER_TURN: usize = 64;

impl Engine {
    /// Answers every check by itself, in their order: each is decided when the one before is. What
    /// was wrong with a check already is its answer. The answers are in the order of the checks,
    /// `told` as the caller tells them: neither are all checks in memory twice, nor all answers.
    pub async fn check_batch<T: Default>(
        &self,
        checks: impl ExactSizeIterator<Item = Result<AnyCheck, Problems>>,
        told: impl Fn(Result<AnyAnswer, EngineError>) -> T,
    ) -> Vec<T> {
        let mut results = vec![];
        results.resize_with(checks.len(), T::default);
        let mut unacknowledged = FuturesUnordered::new();
        let mut keep = |(number, result): (usize, _)| {
            if let Some(slot) = results.get_mut(number) {
                *slot = told(result);
            }
        };
        let mut began = self.leasing.now();
        // Of looks that come one behind the other; nobody is waited for meanwhile.
        let mut glances = None;
        for (number, check) in checks.enumerate() {
            if number % CHECKS_PER_TURN == CHECKS_PER_TURN - 1 {
                glances = None;
                tokio::task::yield_now().await;
                began = self.leasing.now();
            }
            if let Some(glance) = check.as_ref().ok().and_then(glance)
                && let Some(answer) = glances.get_or_insert_with(|| self.glances()).look(glance)
            {
                keep((number, Ok(AnyAnswer::Quota(answer))));
                continue;
            }
            if glances.take().is_some() {
                began = self.leasing.now();
            }
            // A key may be in hand with an earlier check, of this batch or of one that waits for
            // this: so the earlier ones are acknowledged while a check waits.
            let decided = {
                let mut decide = pin!(self.decide_any(check, &mut began));
                loop {
                    tokio::select! {
                        biased;
                        decided = &mut decide => break decided,
                        Some(done) = unacknowledged.next(), if !unacknowledged.is_empty() => {
                            keep(done);
                        }
                    }
                }
            };
            match decided {
                Ok(Decided { answer, owed: None }) => keep((number, Ok(answer))),
                Ok(decided) => {
                    unacknowledged.push(async move { (number, self.acknowledged(decided).await) });
                }
                Err(error) => keep((number, Err(error))),
            }
            if unacknowledged.len() >= UNACKNOWLEDGED_MAX
                && let Some(done) = unacknowledged.next().await
            {
                keep(done);
                began = self.leasing.now();
            }
        }
        // They are counted now, and not with what is waited for.
        drop(glances);
        while let Some(done) = unacknowledged.next().await {
            keep(done);
        }
        results
    }

    /// Answers one check of any kind.
    pub async fn check_any(&self, check: AnyCheck) -> Result<AnyAnswer, EngineError> {
        let mut began = self.leasing.now();
        let decided = self.decide_any(Ok(check), &mut began).await?;
        self.acknowledged(decided).await
    }

    /// Decides a check that begins `began` after the start of the run, and says there when the next
    /// one does: the clock is read once for both.
    async fn decide_any(
        &self,
        check: Result<AnyCheck, Problems>,
        began: &mut Duration,
    ) -> Result<Decided<'_, AnyAnswer>, EngineError> {
        let decided = match check {
            Ok(check) => self.decide_known(check, *began).await,
            Err(problems) => Err(EngineError::InvalidRequest(problems)),
        };
        let now = self.leasing.now();
        if let Ok(Decided { answer: AnyAnswer::Quota(answer), .. }) = &decided {
            self.metrics.answered(answer, now.saturating_sub(*began));
        }
        *began = now;
        decided
    }

    /// The futures of all but quotas are boxed: they are larger, and each check's would be as large.
    async fn decide_known(
        &self,
        check: AnyCheck,
        began: Duration,
    ) -> Result<Decided<'_, AnyAnswer>, EngineError> {
        match check {
            AnyCheck::Quota(request) => {
                let Decided { answer, owed } = self.decide_quota(request, began).await?;
                Ok(Decided { answer: AnyAnswer::Quota(answer), owed })
            }
            AnyCheck::Rate(request) => {
                Ok(AnyAnswer::Rate(Box::pin(self.check_rate(request)).await?).into())
            }
            AnyCheck::Feature(query) => {
                Ok(AnyAnswer::Feature(Box::pin(self.check_feature(&query)).await?).into())
            }
            AnyCheck::Operation(request) => {
                let Decided { answer, owed } = Box::pin(self.decide_operation(&request)).await?;
                Ok(Decided { answer: AnyAnswer::Operation(answer), owed })
            }
        }
    }
}

/// What a plain look asks.
fn glance(check: &AnyCheck) -> Option<Glance<'_>> {
    let AnyCheck::Quota(request) = check else { return None };
    let QuotaRequest { tenant, meter, subject, amount, mode, .. } = request;
    let is_plain = *mode == QuotaMode::Check && subject.is_none();
    let (tenant, meter) = (tenant.as_str(), meter.as_str());
    is_plain.then_some(Glance { tenant, meter, amount: *amount })
}
