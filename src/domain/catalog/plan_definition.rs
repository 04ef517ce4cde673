//! One version of one plan, as it is stored: whole by itself, so that it stays readable and
//! billable when the catalog has moved on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    allowances::AddonDef,
    canonical::ContentHash,
    definition::CatalogDefinition,
    dunning::DunningPolicy,
    features::{FeatureDef, FeatureType},
    meters::MeterDef,
    operations::{OperationDef, RateDef},
    plans::PlanDef,
};
use crate::domain::{
    ids::{CatalogName, FeatureName},
    invalid::Invalid,
    money::Currency,
};

/// Layout of [`PlanDefinition`]; grows when older ones can no longer be read as they are.
pub const PLAN_FORMAT: u16 = 1;

/// One version of one plan with everything that it uses.
///
/// What lives on for all versions at once is not in it: defaults, targeting, rollouts and sunsets of
/// features, promo codes, loyalty, alerts and the other policies belong to the catalog of the day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanDefinition {
    /// [`PLAN_FORMAT`].
    pub format: u16,
    pub catalog: CatalogName,
    pub currency: Currency,
    pub plan: PlanDef,
    /// The meters that the plan names, in the catalog's order.
    pub meters: Vec<MeterDef>,
    /// The types of the features that the plan names, in the catalog's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<PlanFeature>,
    /// The catalog's rates: one that the plan does not limit is known all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<RateDef>,
    /// What one of each operation needs and takes. One that came later is the catalog's of the day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<OperationDef>,
    /// The add-ons that the plan can have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addons: Vec<AddonDef>,
    /// What happens after a failed payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dunning: Option<DunningPolicy>,
}

/// What a feature's value is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanFeature {
    pub name: FeatureName,
    #[serde(rename = "type")]
    pub kind: FeatureType,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

impl PlanDefinition {
    /// `plan` of `catalog` with what it uses of it.
    pub fn of(catalog: &CatalogDefinition, plan: &PlanDef) -> Self {
        let dunning = match &plan.dunning {
            Some(name) => catalog.dunning.iter().find(|policy| policy.name == *name),
            None => catalog.dunning.first(),
        };
        let has_addon = |addon: &&AddonDef| {
            plan.limits.contains_key(&addon.meter)
                && (addon.plans.is_empty() || addon.plans.contains(&plan.name))
        };
        Self {
            format: PLAN_FORMAT,
            catalog: catalog.catalog.clone(),
            currency: catalog.currency,
            plan: plan.clone(),
            meters: catalog
                .meters
                .iter()
                .filter(|meter| {
                    plan.limits.contains_key(&meter.name)
                        || plan.usage_prices.contains_key(&meter.name)
                })
                .cloned()
                .collect(),
            features: catalog
                .features
                .iter()
                .filter(|feature| plan.features.contains_key(&feature.name))
                .map(PlanFeature::of)
                .collect(),
            rates: catalog.rates.clone(),
            operations: catalog.operations.clone(),
            addons: catalog.addons.iter().filter(has_addon).cloned().collect(),
            dunning: dunning.cloned(),
        }
    }

    /// Reads a definition as the ledger stores it.
    pub fn from_json(json: &serde_json::Value) -> Result<Self, Invalid> {
        let unreadable = |problem: String| {
            Invalid::new(
                "plan definition",
                problem,
                "run the version of tollgate that wrote it, or apply the catalog again",
            )
        };
        match json.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(PLAN_FORMAT) => {}
            Some(format) => return Err(unreadable(format!("has the unknown format {format}"))),
            None => return Err(unreadable("names no format".to_owned())),
        }
        Self::deserialize(json).map_err(|error| unreadable(error.to_string()))
    }

    /// The definition as the ledger stores it.
    pub fn to_json(&self) -> serde_json::Value {
        // Every field serialises to JSON: names, numbers, and maps with text keys.
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Equal exactly when two versions mean the same.
    pub fn hash(&self) -> ContentHash {
        ContentHash::of(&self.to_json())
    }
}

impl PlanFeature {
    fn of(feature: &FeatureDef) -> Self {
        Self { name: feature.name.clone(), kind: feature.kind, values: feature.values.clone() }
    }

    /// The feature as the catalog describes it, as far as the plan keeps it.
    pub fn definition(&self) -> FeatureDef {
        FeatureDef {
            name: self.name.clone(),
            title: None,
            group: None,
            kind: self.kind,
            values: self.values.clone(),
            default: None,
            targeting: Vec::new(),
            rollout: None,
            sunset: None,
        }
    }
}
