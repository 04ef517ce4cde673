//! What a tenant that was denied could do about it.

use jiff::Timestamp;
use rust_decimal::Decimal;

use super::{
    catalog::{decimal::Price, names::RuleName},
    ids::{MeterName, PlanName, PoolId},
    money::Currency,
};

/// What emergency usage costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmergencyPrice {
    /// Of a base unit, in major units of the currency; `None` where units cost differently much.
    pub per_unit: Option<Decimal>,
    pub currency: Currency,
}

/// One way out of a denial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// A change to this plan, the lowest above the tenant's that would allow it.
    Upgrade { plan: PlanName },
    /// The same, where the plan is only to be had from the sales team.
    ContactSales { plan: PlanName },
    /// Asking again at this time, by the tenant's clock.
    WaitUntil { at: Timestamp },
    /// Emergency usage by this rule of the plan.
    RequestEmergencyUsage { rule: RuleName, meter: MeterName, amount: u64, price: EmergencyPrice },
    /// Buying this grant.
    TopUp { grant: RuleName, meter: MeterName, amount: u64, price: Option<(Price, Currency)> },
    /// Having less of a level.
    LowerUsage { meter: MeterName },
    /// Having the pool made larger that the tenant draws on.
    ResizePool { pool: PoolId, meter: MeterName },
    /// Bringing the subscription back.
    ReactivateSubscription,
}
