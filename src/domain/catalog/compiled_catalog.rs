//! A catalog of the day made ready for enforcement: what holds for every version of its plans.

use ahash::AHashMap;

use super::{
    Catalog,
    allowances::{GrantDef, GrantKind},
    compiled_plan::CompiledPlan,
    definition::CatalogDefinition,
    names::OperationName,
    operations::OperationDef,
    plans::Availability,
};
use crate::domain::{
    features::compiled::CompiledFeature,
    ids::{CatalogName, FeatureName, MeterName, PlanName},
    invalid::Invalid,
};

/// One catalog as it is in force, ready for use.
#[derive(Clone, Debug)]
pub struct CompiledCatalog {
    pub name: CatalogName,
    /// In the catalog's order.
    pub features: Vec<CompiledFeature>,
    /// The lowest first: a later one is an upgrade.
    pub plans: Vec<CompiledPlan>,
    definition: CatalogDefinition,
    features_by_name: AHashMap<FeatureName, usize>,
    operations_by_name: AHashMap<OperationName, usize>,
}

impl CompiledCatalog {
    /// Makes `catalog` ready; an error means that it was never checked.
    pub fn compile(catalog: &Catalog) -> Result<Self, Invalid> {
        let definition = catalog.definition();
        let zone = definition.zone.time_zone();
        let features = definition
            .features
            .iter()
            .map(|feature| CompiledFeature::compile(feature, &zone))
            .collect::<Result<Vec<_>, _>>()?;
        let plans = catalog.plans().map(CompiledPlan::compile).collect::<Result<_, _>>()?;
        let operations = definition.operations.iter().enumerate();
        Ok(Self {
            name: definition.catalog.clone(),
            features_by_name: features
                .iter()
                .enumerate()
                .map(|(index, feature)| (feature.definition.name.clone(), index))
                .collect(),
            operations_by_name: operations.map(|(index, it)| (it.name.clone(), index)).collect(),
            features,
            plans,
            definition: definition.clone(),
        })
    }

    /// Reads and compiles a catalog as the ledger stores it.
    pub fn from_json(json: &serde_json::Value) -> Result<Self, Invalid> {
        Self::compile(&Catalog::from_json(json)?)
    }

    /// All that it says.
    pub fn definition(&self) -> &CatalogDefinition {
        &self.definition
    }

    /// The feature called `name`.
    pub fn feature(&self, name: &str) -> Option<&CompiledFeature> {
        self.features_by_name.get(name).and_then(|index| self.features.get(*index))
    }

    /// The operation called `name`.
    pub fn operation(&self, name: &str) -> Option<&OperationDef> {
        let index = self.operations_by_name.get(name)?;
        self.definition.operations.get(*index)
    }

    /// Whether there is a meter called `name`, in whichever plans.
    pub fn has_meter(&self, name: &str) -> bool {
        self.definition.meters.iter().any(|meter| meter.name.as_str() == name)
    }

    /// The plans above `plan` that one can come to, the lowest first; all of them when `plan` is
    /// not of this catalog any more.
    pub fn plans_above(&self, plan: &PlanName) -> impl Iterator<Item = &CompiledPlan> {
        let place = self.plans.iter().position(|one| one.plan == *plan);
        let above = place.map_or(0, |place| place + 1);
        self.plans.iter().skip(above).filter(|plan| {
            matches!(
                plan.definition.plan.availability,
                Availability::Available | Availability::ContactSales
            )
        })
    }

    /// What can be bought to have more of `meter` on `plan`.
    pub fn top_ups<'a>(
        &'a self,
        meter: &'a MeterName,
        plan: &'a PlanName,
    ) -> impl Iterator<Item = &'a GrantDef> {
        self.definition.grants.iter().filter(move |grant| {
            grant.kind == GrantKind::TopUp
                && grant.meter == *meter
                && (grant.plans.is_empty() || grant.plans.contains(plan))
        })
    }
}
