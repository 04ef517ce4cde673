//! Allowance beside a plan's own limits: add-ons, top-ups and grants, pools, emergency rules.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    canonical::is_default,
    decimal::{Percent, Price},
    names::{OperationName, RuleName},
    prices::{RecurringPrice, UsagePrice},
    quantity::Quantity,
};
use crate::domain::{
    ids::{MeterName, PlanName},
    period::Period,
};

/// Something that a subscriber buys by the piece, each cycle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddonDef {
    pub name: RuleName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The meter whose limit a piece raises.
    pub meter: MeterName,
    /// Units that one piece adds to the limit.
    pub adds: Quantity,
    /// Price of one piece.
    pub price: RecurringPrice,
    /// Plans that it can be added to; all unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plans: Vec<PlanName>,
    /// Most pieces that one subscription may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pieces: Option<u32>,
}

/// A grant that can be bought or given: extra units on a meter for one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantDef {
    pub name: RuleName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    pub kind: GrantKind,
    pub meter: MeterName,
    /// Units granted (each time).
    pub amount: Quantity,
    /// What it costs (each time); absent = free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// Lower burns first; among equals the earliest expiry, then the earliest created.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: u16,
    /// When it lapses after it starts; absent = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_after_days: Option<u16>,
    /// How often a recurring grant is given; billing_cycle unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Period>,
    /// Most unused units that a recurring grant carries into its next period; absent = none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollover_cap: Option<Quantity>,
    /// Plans that it is open to; all unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plans: Vec<PlanName>,
}

/// How a grant comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantKind {
    /// Bought once.
    TopUp,
    /// Given again and again.
    Recurring,
    /// Given once, free of charge.
    Promotional,
}

/// One allowance shared by many subscriptions of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolDef {
    pub name: RuleName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    pub meter: MeterName,
    /// Units in the pool per period.
    pub size: Quantity,
    /// The period that the size holds for; the meter's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
    /// What the pool costs; absent = it comes with the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<RecurringPrice>,
    /// Price of what members use beyond the pool; absent = nothing is admitted beyond it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overage: Option<UsagePrice>,
    /// Plans whose accounts can have the pool: one of their tenants is on one of these.
    pub plans: Vec<PlanName>,
    /// Most members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_members: Option<u32>,
    /// Priority classes of members, the highest first; one class unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub priorities: Vec<PoolPriority>,
}

/// A class of a pool's members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolPriority {
    pub name: RuleName,
    /// Share of the pool kept back from all lower classes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keeps_back_percent: Percent,
}

/// Extra units for critical operations of a tenant that has run out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmergencyRule {
    pub name: RuleName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    pub meter: MeterName,
    /// Units granted at a time.
    pub amount: Quantity,
    /// How often it may be granted within `period`; once unless given.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub times: u16,
    /// The period that `times` counts in; billing_cycle unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
    /// Critical operations that it serves; all critical ones unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<OperationName>,
    /// Price of what was used of it.
    pub price: UsagePrice,
}

fn once() -> u16 {
    1
}

fn is_once(times: &u16) -> bool {
    *times == 1
}
