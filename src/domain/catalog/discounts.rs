//! What makes a plan cheaper: commitments, promo codes, referrals, loyalty and volume.

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    canonical::is_default,
    decimal::{Percent, Price},
    names::RuleName,
};
use crate::domain::ids::PlanName;

/// A discount for staying a number of months.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommitmentDef {
    /// Length in months.
    pub months: u16,
    pub discount_percent: Percent,
    /// Due when the subscriber leaves before the end.
    pub early_termination_fee: Price,
    /// Plans that it is open to; all unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plans: Vec<PlanName>,
}

/// A code that a customer enters: exactly one of `percent`, `amount` and `free_months`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromoCodeDef {
    /// The code; upper-case letters and digits.
    #[schemars(extend("pattern" = "^[A-Z0-9]{3,32}$"))]
    pub code: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Off the price, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<Percent>,
    /// Off the price, in money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Price>,
    /// Months without a base fee.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_months: Option<u16>,
    /// Invoices that `percent` or `amount` is taken off; 1 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invoices: Option<u16>,
    /// First day on which it can be entered, in the catalog's zone (YYYY-MM-DD).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date"))]
    pub from: Option<Date>,
    /// Last day on which it can be entered, that day included (YYYY-MM-DD).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date"))]
    pub through: Option<Date>,
    /// How often it can be used in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_uses: Option<u32>,
    /// How often one account can use it; 1 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_uses_per_account: Option<u32>,
    /// Only accounts that have never paid.
    #[serde(default, skip_serializing_if = "is_default")]
    pub new_customers_only: bool,
    /// Only with a change to a higher plan.
    #[serde(default, skip_serializing_if = "is_default")]
    pub upgrades_only: bool,
    /// Plans that it is good for; all unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plans: Vec<PlanName>,
    /// Smallest amount of the purchase, before the discount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_purchase: Option<Price>,
    /// Whether other discounts may stand beside it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stackable: bool,
}

/// Customers who bring customers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReferralDef {
    /// Credit to who referred, per customer won.
    pub referrer_credit: Price,
    /// Discount to who was referred, off the first invoice.
    pub referred_discount_percent: Percent,
    /// Letters of the referrer's name that a code starts with (`JOHN3X7K`: 4).
    #[serde(default = "four", skip_serializing_if = "is_four")]
    pub code_name_letters: u8,
    /// Random letters and digits that follow (`JOHN3X7K`: 4).
    #[serde(default = "four", skip_serializing_if = "is_four")]
    pub code_random_characters: u8,
    /// How often one code can be used; absent = without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_uses_per_code: Option<u32>,
    /// When the credit is given; with the referred customer's first payment unless given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub credited_on: ReferralCreditedOn,
}

/// When a referral's credit is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReferralCreditedOn {
    #[default]
    FirstPayment,
    Subscription,
}

/// Discounts for tenure and for size, found anew each week.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoyaltyDef {
    /// Percent for each full year of tenure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent_per_year: Option<Percent>,
    /// Most that `percent_per_year` comes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_percent: Option<Percent>,
    /// Named tiers of tenure, the shortest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<LoyaltyTier>,
    /// Discounts for accounts with many tenants, the smallest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume: Vec<VolumeDiscount>,
    /// What is given when several of them hold; the highest unless given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub combine: CombineDiscounts,
}

/// A named tier of tenure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoyaltyTier {
    pub name: RuleName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Months of tenure from which it holds.
    pub months: u16,
    pub percent: Percent,
}

/// A discount for accounts with many tenants (sites).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeDiscount {
    /// Tenants of the account from which it holds.
    pub tenants: u32,
    pub percent: Percent,
}

/// What is given when several discounts hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CombineDiscounts {
    /// The highest one alone.
    #[default]
    Highest,
    /// All of them added up.
    Sum,
}

fn four() -> u8 {
    4
}

fn is_four(count: &u8) -> bool {
    *count == 4
}
