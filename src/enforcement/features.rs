//! `CheckFeature` and `ListFeatures`: what does this tenant have? Answered from memory.

use jiff::Timestamp;

use super::{
    directory::tenant_state::Terms,
    engine::Engine,
    error::{EngineError, Unknown, UnknownName},
};
use crate::domain::{
    catalog::{compiled_catalog::CompiledCatalog, error::nearest},
    features::{
        offered::{OfferedFeature, TenantFeatures},
        query::{FeatureAsker, FeatureQuery},
    },
    ids::FeatureName,
};

impl Engine {
    /// One feature.
    pub async fn check_feature(&self, query: &FeatureQuery) -> Result<OfferedFeature, EngineError> {
        self.check_open()?;
        let terms = self.tenant(&query.asker.tenant, "tenant").await?.terms();
        let (catalog, now) = (terms.catalog(), terms.tenant.now(self.clock.now()));
        find(&terms.features(&catalog, &query.asker, now), &query.feature, "feature")
    }

    /// Every feature of the tenant's catalog, and of its version of its plan.
    pub async fn list_features(
        &self,
        asker: &FeatureAsker,
    ) -> Result<Vec<OfferedFeature>, EngineError> {
        self.check_open()?;
        let terms = self.tenant(&asker.tenant, "tenant").await?.terms();
        let (catalog, now) = (terms.catalog(), terms.tenant.now(self.clock.now()));
        Ok(terms.features(&catalog, asker, now).all())
    }
}

impl Terms {
    fn features<'a>(
        &'a self,
        catalog: &'a CompiledCatalog,
        asker: &'a FeatureAsker,
        now: Timestamp,
    ) -> TenantFeatures<'a> {
        TenantFeatures {
            tenant: &self.tenant,
            plan: &self.plan,
            catalog,
            subject: asker.subject.as_ref(),
            attributes: &asker.attributes,
            now,
        }
    }
}

/// The feature called `name`; `field` is what the caller calls it.
pub(super) fn find(
    features: &TenantFeatures<'_>,
    name: &FeatureName,
    field: &str,
) -> Result<OfferedFeature, EngineError> {
    features.find(name.as_str()).ok_or_else(|| {
        let known = features.catalog.features.iter();
        let known = known.map(|known| known.definition.name.as_str());
        let near = nearest(name.as_str(), known).and_then(|near| FeatureName::new(near).ok());
        let (tenant, feature) = (features.tenant.id.clone(), name.clone());
        let name = UnknownName::Feature { tenant, feature, near };
        Unknown { field: field.to_owned(), name }.into()
    })
}
