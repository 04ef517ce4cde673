//! Where a denied tenant stands, and the ways out of it.

use jiff::Timestamp;

use super::{
    catalog::{
        allowances::{EmergencyRule, GrantDef},
        compiled_catalog::CompiledCatalog,
        compiled_plan::CompiledPlan,
        operations::OperationDef,
        plans::Availability,
    },
    grant::GrantPrice,
    ids::MeterName,
    meter::MeterKind,
    pool::PoolShare,
    quota::{QuotaAnswer, QuotaReason},
    rate::{RateAnswer, RateReason, RateWindow},
    remedy::{EmergencyPrice, Remedy},
};

/// Most top-ups that one denial names.
const TOP_UPS_MAX: usize = 5;

/// A quota that denied.
#[derive(Clone, Copy, Debug)]
pub struct DeniedQuota<'a> {
    pub meter: &'a MeterName,
    /// Base units that were asked for.
    pub units: u64,
    pub answer: &'a QuotaAnswer,
    /// What the tenant may use of a pool, where it draws on that instead of on its plan's limit.
    pub pool: Option<PoolShare>,
}

/// Where a denied tenant stands.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    pub catalog: &'a CompiledCatalog,
    /// The version of its plan that the tenant is on.
    pub plan: &'a CompiledPlan,
    /// By the tenant's clock.
    pub now: Timestamp,
    /// What it wanted to do; absent = a single check.
    pub operation: Option<&'a OperationDef>,
}

impl Standing<'_> {
    /// The ways out of a quota's denial; the nearest first.
    pub fn of_quota(&self, denied: DeniedQuota<'_>) -> Vec<Remedy> {
        let DeniedQuota { meter, units, answer, pool } = denied;
        let wanted = answer.used.saturating_add(units);
        match answer.reason {
            QuotaReason::LimitExceeded => {
                let own = self.plan.meter(meter.as_str());
                let ceiling = match pool {
                    Some(share) => Some(share.units),
                    None => own.and_then(|it| it.limit.ceiling()),
                };
                let fits_empty = ceiling.is_some_and(|ceiling| units <= ceiling);
                let is_level = own.is_some_and(|it| it.meter.kind == MeterKind::Level);
                let wait = answer.resets_at.filter(|_| fits_empty);
                let mut remedies: Vec<_> =
                    wait.map(|at| Remedy::WaitUntil { at }).into_iter().collect();
                if is_level && fits_empty {
                    remedies.push(Remedy::LowerUsage { meter: meter.clone() });
                }
                remedies.extend(self.emergency(meter));
                remedies.extend(self.top_ups(meter));
                remedies.extend(match pool {
                    // No plan's limit is what it draws on.
                    Some(PoolShare { pool, .. }) => {
                        Some(Remedy::ResizePool { pool, meter: meter.clone() })
                    }
                    None => self.plan_with_room(meter, wanted),
                });
                remedies
            }
            QuotaReason::NotInPlan => self.plan_with_room(meter, wanted).into_iter().collect(),
            QuotaReason::SubscriptionInactive => vec![Remedy::ReactivateSubscription],
            _ => vec![],
        }
    }

    /// The ways out of a rate's denial.
    pub fn of_rate(&self, rate: &str, permits: u32, answer: &RateAnswer) -> Vec<Remedy> {
        match answer.reason {
            RateReason::RateExceeded | RateReason::BurstExceeded => {
                let wait = answer.retry_after.and_then(|wait| self.now.checked_add(wait).ok());
                let mut remedies: Vec<_> =
                    wait.map(|at| Remedy::WaitUntil { at }).into_iter().collect();
                remedies.extend(self.faster_plan(rate, permits));
                remedies
            }
            RateReason::SubscriptionInactive => vec![Remedy::ReactivateSubscription],
            _ => vec![],
        }
    }

    /// The way to come to a feature: the lowest plan above whose value will do.
    pub fn of_feature(&self, has_it: impl Fn(&CompiledPlan) -> bool) -> Option<Remedy> {
        self.catalog.plans_above(&self.plan.plan).find(|plan| has_it(plan)).map(to_plan)
    }

    fn plan_with_room(&self, meter: &MeterName, wanted: u64) -> Option<Remedy> {
        let has_room = |plan: &&CompiledPlan| {
            let limit = plan.meter(meter.as_str()).map(|meter| meter.limit.ceiling());
            limit.is_some_and(|ceiling| ceiling.is_none_or(|ceiling| wanted <= ceiling))
        };
        self.catalog.plans_above(&self.plan.plan).find(has_room).map(to_plan)
    }

    fn faster_plan(&self, rate: &str, permits: u32) -> Option<Remedy> {
        let windows = |plan: &CompiledPlan| {
            let rate = plan.rates.iter().find(|one| one.rate.name.as_str() == rate);
            rate.map(|rate| rate.windows.to_vec()).unwrap_or_default()
        };
        let own = windows(self.plan);
        let is_faster = |plan: &&CompiledPlan| {
            let theirs = windows(plan);
            theirs.is_empty()
                || slowest(&theirs) > slowest(&own)
                    && theirs.iter().all(|window| permits <= window.burst)
        };
        self.catalog.plans_above(&self.plan.plan).find(is_faster).map(to_plan)
    }

    fn emergency(&self, meter: &MeterName) -> Option<Remedy> {
        let operation = self.operation.filter(|operation| operation.critical)?;
        let serves = |rule: &&EmergencyRule| {
            rule.meter == *meter
                && (rule.operations.is_empty() || rule.operations.contains(&operation.name))
        };
        let rule = self.plan.definition.plan.emergency.iter().find(serves)?;
        Some(Remedy::RequestEmergencyUsage {
            rule: rule.name.clone(),
            meter: rule.meter.clone(),
            amount: rule.amount.get(),
            price: EmergencyPrice {
                per_unit: GrantPrice::of_rule(rule, &self.plan.definition.meters).per_unit(),
                currency: self.plan.currency,
            },
        })
    }

    fn top_ups(&self, meter: &MeterName) -> impl Iterator<Item = Remedy> {
        let currency = self.plan.currency;
        let offer = move |grant: &GrantDef| Remedy::TopUp {
            grant: grant.name.clone(),
            meter: grant.meter.clone(),
            amount: grant.amount.get(),
            price: grant.price.map(|price| (price, currency)),
        };
        let grants = self.catalog.top_ups(meter, &self.plan.plan);
        grants.take(TOP_UPS_MAX).map(offer).collect::<Vec<_>>().into_iter()
    }
}

/// How to come to a plan.
fn to_plan(plan: &CompiledPlan) -> Remedy {
    let name = plan.plan.clone();
    match plan.definition.plan.availability {
        Availability::ContactSales => Remedy::ContactSales { plan: name },
        _ => Remedy::Upgrade { plan: name },
    }
}

/// The sustained rate of all windows together, in permits per day.
fn slowest(windows: &[RateWindow]) -> u64 {
    const DAY_S: u64 = 86_400;
    let per_day =
        |window: &RateWindow| u64::from(window.permits) * DAY_S / window.period.as_secs().max(1);
    windows.iter().map(per_day).min().unwrap_or(u64::MAX)
}
