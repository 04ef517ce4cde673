//! What a descriptor of Envoy's rate limit protocol asks of a tenant.

use super::{engine::Engine, error::EngineError};
use crate::domain::{
    catalog::{
        envoy::{Entries, EnvoyRuleDef},
        names::OperationName,
    },
    ids::{MeterName, TenantId},
};

impl Engine {
    /// The first rule of the tenant's catalog, as it is in force, that is for a descriptor with
    /// these entries.
    pub async fn envoy_rule(
        &self,
        tenant: &TenantId,
        domain: &str,
        entries: &Entries<'_>,
    ) -> Result<Option<EnvoyRuleDef>, EngineError> {
        self.check_open()?;
        let catalog = self.tenant(tenant, "descriptors").await?.terms().catalog();
        let mut rules = catalog.definition().envoy.iter();
        Ok(rules.find(|rule| rule.is_for(domain, entries)).cloned())
    }

    /// The meters of an operation whose amounts it leaves open; none of one that is unknown.
    pub async fn open_meters(
        &self,
        tenant: &TenantId,
        operation: &OperationName,
    ) -> Result<Vec<MeterName>, EngineError> {
        let terms = self.tenant(tenant, "descriptors").await?.terms();
        let catalog = terms.catalog();
        let of_plan = terms.plan.definition.operations.iter();
        let definition = of_plan.into_iter().find(|one| one.name == *operation);
        let definition = definition.or_else(|| catalog.operation(operation.as_str()));
        let meters = definition.map_or(&[][..], |definition| &definition.meters);
        let open = meters.iter().filter(|taken| taken.amount.is_none());
        Ok(open.map(|taken| taken.meter.clone()).collect())
    }
}
