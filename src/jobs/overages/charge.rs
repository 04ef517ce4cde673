//! One window's charge, from what was used in it and the plan that it is charged by.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::json;
use uuid::Uuid;

use super::plans::BilledPlan;
use crate::{
    domain::{catalog::compiled_plan::PlanMeter, cell_key::CellKey, invalid::Invalid},
    ledger::{
        charges::Charge,
        subscribers::{Subscriber, Terms},
    },
    pricing::{
        catalog_price::price_model,
        closing::Closing,
        error::PricingError,
        exact::Exact,
        model::PriceModel,
        overage::{OverageFacts, OverageLine},
    },
};

/// The kind of the charges that the job writes.
pub(super) const KIND: &str = "overage";

/// What a window's charge follows from, besides the plan.
#[derive(Clone, Debug)]
pub(super) struct ClosedWindow<'a> {
    pub subscriber: &'a Subscriber,
    /// In force at the window's end.
    pub terms: &'a Terms,
    /// The window as the charge names it.
    pub key: CellKey,
    pub start: Timestamp,
    pub end: Timestamp,
    pub used: u64,
    /// Only for prices by property.
    pub used_by_value: Vec<(Option<String>, u64)>,
    /// Which value of a level `used` is.
    pub billed_on: Option<&'static str>,
    pub closing: Closing,
    pub closed_at: Timestamp,
}

/// Why a window has no charge.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChargeError {
    #[error(transparent)]
    Price(#[from] Invalid),
    #[error(transparent)]
    Pricing(#[from] PricingError),
}

impl ClosedWindow<'_> {
    /// The charge by `plan`; `None` when the plan has no overage price for the meter.
    pub(super) fn charge(self, plan: &BilledPlan) -> Result<Option<Charge>, ChargeError> {
        let Some(meter) = plan.meter(&self.key.meter) else { return Ok(None) };
        let Some(price) = &meter.overage else { return Ok(None) };
        let facts = OverageFacts {
            used: self.used,
            included: meter.limit.amount,
            grace: meter.limit.grace,
            price: price_model(price, meter.pricing_unit.size, &self.used_by_value)?,
            currency: plan.currency(),
        };
        let line = facts.line()?;
        let quantity = Exact::from_decimal(Decimal::from(line.billable))
            .scaled(1, meter.pricing_unit.size)?
            .to_decimal()
            .ok_or(PricingError::OutOfRange { what: "the quantity" })?;
        Ok(Some(Charge {
            id: Uuid::new_v4(),
            explanation: self.explanation(&line, meter),
            kind: KIND.to_owned(),
            account: self.subscriber.account.clone(),
            subscription: self.terms.subscription,
            period_start: self.start,
            period_end: self.end,
            quantity,
            rate: match &line.facts.price {
                PriceModel::PerUnit(price) => Some(price.rate),
                _ => None,
            },
            amount: line.amount,
            plan: plan.version.clone(),
            created_at: self.closed_at,
            key: self.key,
        }))
    }

    /// Everything that the amount can be recomputed from, and each step on the way.
    fn explanation(&self, line: &OverageLine, meter: &PlanMeter) -> serde_json::Value {
        json!({
            "formula": "(used - included - grace) x price",
            "facts": line.facts,
            "billable": line.billable,
            "unit": meter.meter.unit,
            "pricing_unit": meter.pricing_unit,
            "billed_on": self.billed_on,
            "exact": line.exact.to_string(),
            "rounding": "half_away_from_zero",
            "closed_by": self.closing.as_str(),
            "closed_at": self.closed_at,
        })
    }
}
