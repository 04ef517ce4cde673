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
    ids::{CatalogName, FeatureName, MeterName, PlanName, Subject},
    invalid::Invalid,
    limit::{Enforcement, Limit, OutagePolicy},
    meter::{Meter, MeterKind},
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

    /// Whether a subscriber can use a grant on `meter`; answers whether it is a level.
    ///
    /// A grant covers what the plan would deny, so the plan has to deny at some point.
    pub fn check_grantable(
        &self,
        meter: &MeterName,
        subject: Option<&Subject>,
        every: Option<crate::domain::period::Period>,
    ) -> Result<bool, Invalid> {
        let named = || format!("the plan {} of {}", self.plan, self.catalog);
        let Some(found) = self.meter(meter.as_str()) else {
            let known: Vec<_> = self.meters.iter().map(|m| m.meter.name.as_str()).collect();
            return Err(Invalid::new(
                "meter",
                format!("{meter} is not a meter of {}", named()),
                format!("use one of {}", known.join(", ")),
            ));
        };
        if found.meter.kind == MeterKind::Static || !found.meter.is_summed() {
            let problem = format!("{meter} is not added up, so that nothing of it can be granted");
            return Err(Invalid::new("meter", problem, "give another plan, or change the limit"));
        }
        if found.limit.ceiling().is_none() {
            return Err(Invalid::new(
                "meter",
                format!("{meter} never runs out on {}", named()),
                "grant on meters with a hard limit, or a soft one with a hard cap",
            ));
        }
        if subject.is_some() && !found.limit.per_subject {
            return Err(Invalid::new(
                "subject",
                format!("is given, and {meter} is not limited per subject"),
                "leave it out",
            ));
        }
        let is_level = found.meter.kind == MeterKind::Level;
        if is_level && every.is_some() {
            return Err(Invalid::new(
                "every",
                format!("is given, and {meter} is a level, which never starts again"),
                "leave it out: what a grant gives of a level stays until it expires",
            ));
        }
        if is_level && found.limit.per_subject && subject.is_none() {
            return Err(Invalid::new(
                "subject",
                format!("is missing, and {meter} is a level of each subject"),
                "say whose level it raises, so that it comes free with that level",
            ));
        }
        Ok(is_level)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{catalog::Catalog, period::Period};

    const CATALOG: &str = "\
catalog: granted
currency: USD
meters:
  - { name: calls, kind: counter, unit: call, period: month }
  - { name: seats, kind: level, unit: seat }
  - { name: photos, kind: level, unit: photo, subject: listing }
plans:
  - name: basic
    prices: { monthly: 0 }
    limits: { calls: 10, seats: 5, photos: { limit: 20, per_subject: true } }
";

    #[test]
    fn a_level_takes_no_recurring_grants_and_per_subject_only_those_of_a_subject() {
        let catalog = Catalog::parse("granted", CATALOG).unwrap();
        let plan = CompiledPlan::compile(catalog.plans().next().unwrap()).unwrap();
        let refused = |meter: &str, subject: Option<&str>, every| {
            let subject = subject.map(|subject| Subject::new(subject).unwrap());
            let checked =
                plan.check_grantable(&MeterName::new(meter).unwrap(), subject.as_ref(), every);
            checked.map_err(|invalid| invalid.field)
        };
        let monthly = Some(Period::Month);
        assert_eq!(refused("calls", None, monthly), Ok(false));
        assert_eq!(refused("seats", None, None), Ok(true));
        assert_eq!(refused("seats", None, monthly), Err("every".into()));
        assert_eq!(refused("photos", None, None), Err("subject".into()));
        assert_eq!(refused("photos", Some("listing-1"), None), Ok(true));
    }

    #[test]
    fn a_catalog_with_a_recurring_grant_on_a_level_is_refused() {
        let grant = "grants:\n  - { name: more, kind: recurring, meter: seats, amount: 5 }\n";
        let errors = Catalog::parse("granted", &format!("{CATALOG}{grant}")).unwrap_err();
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["grants[more].kind"]);
    }
}
