//! What grants cost: a bought one its price, once; emergency usage what was used of it, when it is
//! over.

use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use serde_json::json;
use uuid::Uuid;

use super::{clock::BillingClock, pass::Pass, plans::BilledPlan};
use crate::{
    domain::{cell_key::CellKey, grant::GrantPrice, period::Period, reservation::HOLD_S_MAX},
    jobs::error::JobError,
    ledger::{
        charges::Charge,
        grants::StoredGrant,
        subscribers::{Subscriber, Terms},
    },
    pricing::{
        catalog_price::price_model,
        closing::{Closing, WAIT_MAX},
        exact::Exact,
        model::PriceModel,
        overage::{OverageFacts, OverageLine},
    },
};

/// The kind of the charges for grants that were bought.
pub(super) const BOUGHT: &str = "grant";
/// The kind of the charges for emergency usage.
pub(super) const EMERGENCY: &str = "emergency";

/// Longest wait for sidecars after the end of emergency usage. What a hold took of it is settled in it
/// however late, so the wait is for the longest of holds, and then for the flush.
pub(super) const EMERGENCY_WAIT_MAX: SignedDuration =
    SignedDuration::from_secs(HOLD_S_MAX as i64 + WAIT_MAX.as_secs());

/// What is to be charged for a grant.
struct Due<'a> {
    stored: &'a StoredGrant,
    subscriber: &'a Subscriber,
    terms: &'a Terms,
    kind: &'static str,
    period_end: Timestamp,
    /// Base units that are paid for.
    used: u64,
    price: PriceModel,
    /// Base units that the price is per.
    per: u64,
    closing: Closing,
}

impl Pass {
    /// The charges that are due for grants of `subscribers`.
    pub(super) async fn charge_grants(
        &mut self,
        subscribers: &[Subscriber],
        clock: BillingClock,
    ) -> Result<(), JobError> {
        let tenants: Vec<_> = subscribers.iter().map(|s| s.tenant.clone()).collect();
        let mut charges = Vec::new();
        for stored in self.ledger.uncharged_grants(&tenants).await? {
            let at = subscribers.binary_search_by(|s| s.tenant.cmp(&stored.tenant));
            // Asked for by these tenants, so it is one of them.
            let Some(subscriber) = at.ok().and_then(|at| subscribers.get(at)) else { continue };
            charges.extend(self.grant_charge(subscriber, &stored, clock).await?);
        }
        self.write(&charges).await
    }

    pub(super) async fn grant_charge(
        &mut self,
        subscriber: &Subscriber,
        stored: &StoredGrant,
        clock: BillingClock,
    ) -> Result<Option<Charge>, JobError> {
        let grant = &stored.grant;
        let Some(terms) = subscriber.terms_at(grant.starts_at) else { return Ok(None) };
        let cycle_end = terms.schedule.window(Period::BillingCycle, grant.starts_at).end;
        // A grant that was revoked before it began has no time of its own.
        let least =
            grant.starts_at.checked_add(SignedDuration::from_secs(1)).unwrap_or(grant.starts_at);
        let period_end = grant.expires_at.or(cycle_end).unwrap_or(least).max(least);
        let due = |kind, used, price, per, closing| Due {
            stored,
            subscriber,
            terms,
            kind,
            period_end,
            used,
            price,
            per,
            closing,
        };
        let due = match &stored.price {
            None => return Ok(None),
            Some(GrantPrice::Flat(price)) => {
                // Bought is bought: nothing that comes later changes it.
                if clock.closing(subscriber, grant.starts_at).is_none() {
                    return Ok(None);
                }
                let price = PriceModel::Package { size: grant.amount, amount: price.get() };
                due(BOUGHT, grant.amount, price, 1, Closing::ByMarks)
            }
            Some(GrantPrice::Used { price, per }) => {
                let closing = match clock.closing_after(subscriber, period_end, EMERGENCY_WAIT_MAX)
                {
                    None => return Ok(None),
                    Some(Closing::Open) => {
                        self.tally.not_closed();
                        return Ok(None);
                    }
                    Some(closing) => closing,
                };
                match price_model(price, per.size, &[(None, stored.used_max)]) {
                    Ok(price) => due(EMERGENCY, stored.used_max, price, per.size, closing),
                    Err(problem) => {
                        self.tally.problem(&key(stored, terms), problem);
                        return Ok(None);
                    }
                }
            }
        };
        let plan = self.plans.get(&self.ledger, &terms.plan).await?;
        match due.charge(&plan, self.context.real_now) {
            Ok(charge) => Ok(Some(charge)),
            Err(problem) => {
                self.tally.problem(&key(stored, terms), problem);
                Ok(None)
            }
        }
    }
}

fn key(stored: &StoredGrant, terms: &Terms) -> CellKey {
    let grant = &stored.grant;
    CellKey {
        tenant: stored.tenant.clone(),
        meter: grant.meter.clone(),
        subject: grant.subject.clone(),
        label: grant.stretch(&terms.schedule, grant.starts_at).label,
    }
}

impl Due<'_> {
    fn charge(
        self,
        plan: &BilledPlan,
        closed_at: Timestamp,
    ) -> Result<Charge, crate::pricing::error::PricingError> {
        let currency = plan.currency();
        let rate = match &self.price {
            PriceModel::PerUnit(price) => Some(price.rate),
            _ => None,
        };
        let (price, used) = (self.price, self.used);
        let facts = OverageFacts { used, included: Some(0), grace: 0, price, currency };
        let line: OverageLine = facts.line()?;
        let quantity = Exact::from_decimal(Decimal::from(line.billable))
            .scaled(1, self.per)?
            .to_decimal()
            .ok_or(crate::pricing::error::PricingError::OutOfRange { what: "the quantity" })?;
        Ok(Charge {
            id: Uuid::new_v4(),
            key: key(self.stored, self.terms),
            kind: self.kind.to_owned(),
            account: self.subscriber.account.clone(),
            subscription: self.terms.subscription,
            period_start: self.stored.grant.starts_at,
            period_end: self.period_end,
            quantity,
            rate,
            amount: line.amount,
            plan: plan.version.clone(),
            created_at: closed_at,
            explanation: json!({
                "formula": "used x price",
                "grant": self.stored.grant.id.to_string(),
                "source": self.stored.source,
                "granted": self.stored.grant.amount,
                "facts": line.facts,
                "exact": line.exact.to_string(),
                "rounding": "half_away_from_zero",
                "closed_by": self.closing.as_str(),
                "closed_at": closed_at,
            }),
        })
    }
}
