//! A plan version made ready for enforcement: meters by a dense number, features by name.

use std::sync::Arc;

use ahash::AHashMap;

use super::{
    features::FeatureValue,
    meters::Unit,
    names::RateName,
    operations::{RateDef, RateLimitDef},
    plan_definition::PlanDefinition,
    prices::UsagePrice,
};
use crate::domain::{
    ids::{CatalogName, FeatureName, MeterName, PlanName},
    invalid::Invalid,
    limit::{Enforcement, Limit, OutagePolicy},
    meter::Meter,
    money::Currency,
    rate::RateWindow,
};

/// Most meters that one plan may name; dense numbers and per-tenant cell tables stay small.
pub const PLAN_METERS_MAX: usize = 1_024;

/// A meter's number within one plan version: dense, from 0, in the catalog's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeterIndex(pub u16);

impl MeterIndex {
    /// The number as an index into [`CompiledPlan::meters`].
    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}

/// One version of a plan, ready for use.
#[derive(Clone, Debug)]
pub struct CompiledPlan {
    pub catalog: CatalogName,
    pub plan: PlanName,
    pub currency: Currency,
    /// The plan's meters; [`MeterIndex`] is the position.
    pub meters: Vec<PlanMeter>,
    /// The values that the plan names.
    pub features: AHashMap<FeatureName, FeatureValue>,
    /// The catalog's rates, with what the plan allows of them.
    pub rates: Vec<PlanRate>,
    /// What it was made of; billing reads prices here.
    pub definition: Arc<PlanDefinition>,
    by_name: AHashMap<MeterName, MeterIndex>,
}

/// One meter of a plan.
#[derive(Clone, Debug)]
pub struct PlanMeter {
    pub index: MeterIndex,
    pub meter: Meter,
    /// What the plan allows; unlimited for a meter that only has a usage price.
    pub limit: Limit,
    /// Price of what is beyond limit and grace.
    pub overage: Option<UsagePrice>,
    /// Price of all usage from the first unit on.
    pub usage_price: Option<UsagePrice>,
    /// The unit that people see.
    pub display_unit: Unit,
    /// The unit that the overage's rates are per (the usage price's, when there is no overage).
    pub pricing_unit: Unit,
}

/// One rate of a plan.
#[derive(Clone, Debug)]
pub struct PlanRate {
    pub rate: RateDef,
    /// The plan's limits, the shortest period first: every one of them must have room. Empty =
    /// the plan does not limit it.
    pub windows: Arc<[RateWindow]>,
}

impl PlanRate {
    fn compile(rate: &RateDef, limits: Option<&Vec<RateLimitDef>>) -> Self {
        let mut windows: Vec<_> =
            limits.into_iter().flatten().map(|limit| RateWindow::from(*limit)).collect();
        windows.sort_by_key(|window| window.period);
        Self { rate: rate.clone(), windows: windows.into() }
    }
}

impl CompiledPlan {
    /// Makes `definition` ready; an error means that it was not made by this module.
    pub fn compile(definition: PlanDefinition) -> Result<Self, Invalid> {
        let mut meters = Vec::with_capacity(definition.meters.len());
        let mut by_name = AHashMap::with_capacity(definition.meters.len());
        for meter in &definition.meters {
            let number = u16::try_from(meters.len()).ok().map(MeterIndex);
            let index = number.filter(|index| index.get() < PLAN_METERS_MAX).ok_or_else(|| {
                Invalid::new(
                    format!("plans[{}]", definition.plan.name),
                    format!("names {} meters", definition.meters.len()),
                    format!("use at most {PLAN_METERS_MAX}"),
                )
            })?;
            by_name.insert(meter.name.clone(), index);
            let limit_def = definition.plan.limits.get(&meter.name);
            let overage = limit_def.and_then(|limit| limit.overage.clone());
            let usage_price = definition.plan.usage_prices.get(&meter.name).cloned();
            let priced_per = overage.as_ref().or(usage_price.as_ref());
            meters.push(PlanMeter {
                index,
                meter: meter.compile(),
                limit: limit_def.map_or_else(
                    || unlimited(meter.default_period()),
                    |limit| limit.compile(meter),
                ),
                display_unit: meter.display(),
                pricing_unit: meter.pricing_per(priced_per.and_then(|price| price.per.as_deref())),
                overage,
                usage_price,
            });
        }
        let mut features = AHashMap::with_capacity(definition.features.len());
        for feature in &definition.features {
            if let Some(value) = definition.plan.features.get(&feature.name) {
                features.insert(feature.name.clone(), feature.definition().value(value)?);
            }
        }
        let rates = definition
            .rates
            .iter()
            .map(|rate| PlanRate::compile(rate, definition.plan.rate_limits.get(&rate.name)))
            .collect();
        Ok(Self {
            catalog: definition.catalog.clone(),
            plan: definition.plan.name.clone(),
            currency: definition.currency,
            meters,
            features,
            rates,
            by_name,
            definition: Arc::new(definition),
        })
    }

    /// Reads and compiles a definition as the ledger stores it.
    pub fn from_json(json: &serde_json::Value) -> Result<Self, Invalid> {
        Self::compile(PlanDefinition::from_json(json)?)
    }

    /// The number of the meter called `name`, if the plan has it.
    pub fn meter_index(&self, name: &str) -> Option<MeterIndex> {
        self.by_name.get(name).copied()
    }

    /// The meter called `name`, if the plan has it.
    pub fn meter(&self, name: &str) -> Option<&PlanMeter> {
        self.meter_index(name).and_then(|index| self.meters.get(index.get()))
    }

    /// The plan's value of a feature, if it names one.
    pub fn feature(&self, name: &str) -> Option<&FeatureValue> {
        self.features.get(name)
    }

    /// A rate of the catalog, with what the plan allows of it.
    pub fn rate(&self, name: &RateName) -> Option<&PlanRate> {
        self.rates.iter().find(|rate| rate.rate.name == *name)
    }
}

fn unlimited(period: crate::domain::period::Period) -> Limit {
    Limit {
        amount: None,
        enforcement: Enforcement::Soft { hard_cap: None },
        period,
        grace: 0,
        per_subject: false,
        on_outage: OutagePolicy::Allow,
    }
}
