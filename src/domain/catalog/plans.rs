//! Plans: prices, limits and features under one name.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    allowances::EmergencyRule,
    canonical::is_default,
    decimal::Percent,
    meters::MeterDef,
    names::{RateName, RuleName},
    operations::RateLimitDef,
    prices::{PlanPrices, UsagePrice},
    quantity::{LimitAmount, Quantity},
};
use crate::domain::{
    ids::{FeatureName, MeterName, PlanName},
    limit::{Enforcement, Limit, OutagePolicy},
    period::Period,
};

/// One plan. The order of plans in the file is their rank: a later one is an upgrade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanDef {
    pub name: PlanName,
    /// What people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Who can subscribe by themselves; available unless given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub availability: Availability,
    /// The base fee; absent = none is published (contact sales).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<PlanPrices>,
    /// The plan's trial; absent = none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
    /// What the plan allows, by meter. A meter that is not named is not in the plan.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("x-keyed-by" = "meter"))]
    pub limits: BTreeMap<MeterName, LimitDef>,
    /// Prices of all usage from the first unit on, by meter; `overage` prices what is beyond a limit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("x-keyed-by" = "meter"))]
    pub usage_prices: BTreeMap<MeterName, UsagePrice>,
    /// The plan's values of features; others have the feature's default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub features: BTreeMap<FeatureName, Value>,
    /// What the plan allows of each rate; a rate that is not named is not limited.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rate_limits: BTreeMap<RateName, Vec<RateLimitDef>>,
    /// Extra allowance for critical operations of tenants that have run out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emergency: Vec<EmergencyRule>,
    /// The dunning policy; the catalog's default unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dunning: Option<RuleName>,
}

/// Who can subscribe to a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// Everyone.
    #[default]
    Available,
    /// Shown, but subscribed to by way of the sales team.
    ContactSales,
    /// Not shown; an operator can still put a tenant on it.
    Hidden,
    /// Nobody new; subscribers keep it.
    Retired,
}

/// A plan's trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Length in days, 1 to 365.
    pub days: u16,
    /// Whether a payment method must be on file before it starts.
    pub payment_method: PaymentMethod,
    /// What starts it; a subscription to the plan unless given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub starts: TrialStart,
}

/// Whether something needs a payment method on file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaymentMethod {
    Required,
    NotRequired,
}

/// What starts a trial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrialStart {
    /// Subscribing to the plan.
    #[default]
    OnSubscription,
    /// The creation of a tenant, by itself.
    OnTenantCreation,
}

/// What a plan allows on one meter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "limit"))]
pub struct LimitDef {
    /// Units per period that the plan includes; -1 = unlimited.
    pub limit: LimitAmount,
    /// The period that it holds for; the meter's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
    /// What happens at the limit; hard unless given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub enforcement: EnforcementDef,
    /// Where a soft limit denies after all, in units from zero (not beyond the limit).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard_cap: Option<Quantity>,
    /// Units beyond a soft limit that are free of charge.
    #[serde(default, skip_serializing_if = "is_default")]
    pub grace: Quantity,
    /// The limit holds for each subject of the tenant by itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub per_subject: bool,
    /// What happens while shared counters are out of reach; a hard limit denies and a soft one
    /// allows unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_outage: Option<OutagePolicy>,
    /// Price of what is beyond limit and grace; only for soft limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overage: Option<UsagePrice>,
    /// Thresholds in percent of the limit at which an alert is raised; the catalog's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<Vec<Percent>>,
}

/// What happens at a limit, as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnforcementDef {
    /// Nothing is admitted beyond it.
    #[default]
    Hard,
    /// Usage goes on into overage, up to `hard_cap` if there is one.
    Soft,
}

impl LimitDef {
    /// The limit as enforcement uses it.
    pub fn compile(&self, meter: &MeterDef) -> Limit {
        let (enforcement, on_outage) = match self.enforcement {
            EnforcementDef::Hard => (Enforcement::Hard, OutagePolicy::Deny),
            EnforcementDef::Soft => {
                let hard_cap = self.hard_cap.map(Quantity::get);
                (Enforcement::Soft { hard_cap }, OutagePolicy::Allow)
            }
        };
        Limit {
            amount: self.limit.get(),
            enforcement,
            period: self.period.unwrap_or_else(|| meter.default_period()),
            grace: self.grace.get(),
            per_subject: self.per_subject,
            on_outage: self.on_outage.unwrap_or(on_outage),
        }
    }
}
