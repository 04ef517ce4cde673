//! The plan versions that a run prices by, each read once.

use std::{collections::HashMap, sync::Arc};

use anyhow::anyhow;

use crate::{
    domain::{
        catalog::{
            compiled_plan::{CompiledPlan, PlanMeter},
            meters::LevelBilling,
        },
        ids::MeterName,
        tenant::PlanVersion,
    },
    jobs::error::JobError,
    ledger::Ledger,
};

/// Plan versions by name. Bounded by what the catalogs hold: a few hundred at most.
#[derive(Debug, Default)]
pub struct Plans(HashMap<PlanVersion, Arc<BilledPlan>>);

/// One plan version.
#[derive(Debug)]
pub struct BilledPlan {
    pub version: PlanVersion,
    compiled: CompiledPlan,
}

impl Plans {
    /// The plan version, from the ledger the first time.
    pub async fn get(
        &mut self,
        ledger: &Ledger,
        version: &PlanVersion,
    ) -> Result<Arc<BilledPlan>, JobError> {
        if let Some(plan) = self.0.get(version) {
            return Ok(Arc::clone(plan));
        }
        let shown = || format!("{}/{} version {}", version.catalog, version.plan, version.version);
        let definition = ledger
            .plan_definition(version)
            .await?
            .ok_or_else(|| JobError::Fail(anyhow!("the ledger has no plan {}", shown())))?;
        let compiled = CompiledPlan::from_json(&definition)
            .map_err(|problem| JobError::Fail(anyhow!("the plan {}: {problem}", shown())))?;
        let plan = Arc::new(BilledPlan { version: version.clone(), compiled });
        self.0.insert(version.clone(), Arc::clone(&plan));
        Ok(plan)
    }
}

impl BilledPlan {
    /// The meters whose overage has a price.
    pub fn overage_meters(&self) -> impl Iterator<Item = MeterName> {
        let priced = self.compiled.meters.iter().filter(|meter| meter.overage.is_some());
        priced.map(|meter| meter.meter.name.clone())
    }

    /// The plan's terms for each of its meters.
    pub fn meters(&self) -> impl Iterator<Item = &PlanMeter> {
        self.compiled.meters.iter()
    }

    /// The plan's terms for a meter, if it has the meter.
    pub fn meter(&self, name: &MeterName) -> Option<&PlanMeter> {
        self.compiled.meter(name.as_str())
    }

    /// Which value of a level is billed: the catalog's choice, or its peak.
    pub fn billed_on(&self, name: &MeterName) -> LevelBilling {
        let meters = &self.compiled.definition.meters;
        let meter = meters.iter().find(|meter| meter.name == *name);
        meter.and_then(|meter| meter.billed_on).unwrap_or(LevelBilling::Peak)
    }

    /// What prices are in.
    pub fn currency(&self) -> crate::domain::money::Currency {
        self.compiled.currency
    }
}
