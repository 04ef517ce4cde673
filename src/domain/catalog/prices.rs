//! What a plan costs, and what usage costs: flat, per unit, by tiers, by the package.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    decimal::{Percent, Price, Rate},
    quantity::Quantity,
};

/// The base fee per billing cycle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanPrices {
    /// Per month, when billed monthly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monthly: Option<Price>,
    /// Per year, when billed yearly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yearly: Option<Price>,
    /// Instead of `yearly`: twelve months less this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yearly_discount_percent: Option<Percent>,
}

impl PlanPrices {
    /// Major units per year when billed yearly, exact and unrounded.
    pub fn per_year(&self) -> Option<Decimal> {
        if let Some(yearly) = self.yearly {
            return Some(yearly.get());
        }
        let twelve_months = self.monthly?.get().checked_mul(Decimal::from(12))?;
        let kept = Decimal::ONE_HUNDRED - self.yearly_discount_percent?.get();
        twelve_months.checked_mul(kept)?.checked_div(Decimal::ONE_HUNDRED)
    }

    /// Major units saved in a year by paying yearly, if both prices exist.
    pub fn yearly_saving(&self) -> Option<Decimal> {
        self.monthly?.get().checked_mul(Decimal::from(12))?.checked_sub(self.per_year()?)
    }
}

/// The price of usage: exactly one of `rate`, `graduated`, `volume` and `package`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "rate"))]
pub struct UsagePrice {
    /// The unit of the meter that the rates are per; its pricing unit unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<String>,
    /// One rate for every unit, in proportion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Each tier's units at that tier's rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graduated: Option<Vec<PriceTier>>,
    /// All units at the rate of the tier that the total falls into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Vec<PriceTier>>,
    /// Whole packages, the last one begun counts as whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<PricePackage>,
    /// Other rates for some values of a property that the meter groups by; only with `rate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_property: Option<RatesByProperty>,
}

/// One step of a tiered price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceTier {
    /// Last unit of the tier, counted from the first priced one; absent in the last tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<Quantity>,
    /// Price of one pricing unit in this tier.
    pub rate: Rate,
    /// Price of reaching the tier, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flat: Option<Price>,
}

/// Usage sold in packages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PricePackage {
    /// Units in one package.
    pub size: Quantity,
    /// Price of one package.
    pub price: Price,
}

/// Rates that depend on a property of the usage, such as the model or the region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RatesByProperty {
    /// One of the meter's `group_by` properties.
    pub property: String,
    /// Rate per value; other values cost the plain `rate`.
    pub rates: BTreeMap<String, Rate>,
}

/// A price that is due now and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecurringPrice {
    /// Per month and piece.
    pub monthly: Price,
    /// Per year and piece; absent = twelve months.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yearly: Option<Price>,
}
