//! All features of one tenant: its plan's version, its overrides, and the catalog of the day
//! together.

use jiff::{Timestamp, tz::TimeZone};

use super::{
    access::FeatureAccess,
    compiled::{Asker, Attributes, CompiledFeature},
};
use crate::domain::{
    catalog::{
        compiled_catalog::CompiledCatalog, compiled_plan::CompiledPlan, features::FeatureValue,
    },
    ids::{FeatureName, PlanName, Subject},
    tenant::Tenant,
};

/// A feature as a tenant has it, and how it could come to have it.
#[derive(Clone, Debug, PartialEq)]
pub struct OfferedFeature<N = FeatureName> {
    pub access: FeatureAccess<N>,
    /// The lowest plan above the tenant's that has it; absent when the tenant has it, or no such
    /// plan does.
    pub available_in_plan: Option<PlanName>,
}

impl OfferedFeature<&FeatureName> {
    /// The same, to be kept.
    pub fn owned(self) -> OfferedFeature {
        let Self { access, available_in_plan } = self;
        OfferedFeature { access: access.owned(), available_in_plan }
    }
}

/// What a tenant's features are read from.
#[derive(Clone, Copy, Debug)]
pub struct TenantFeatures<'a> {
    pub tenant: &'a Tenant,
    /// The version of its plan that the tenant is on.
    pub plan: &'a CompiledPlan,
    /// The catalog that is in force.
    pub catalog: &'a CompiledCatalog,
    /// Whom rollouts are decided by within the tenant; absent = the tenant itself.
    pub subject: Option<&'a Subject>,
    pub attributes: &'a Attributes,
    /// By the tenant's clock.
    pub now: Timestamp,
}

impl<'a> TenantFeatures<'a> {
    /// The feature called `name`; `None` when neither the catalog nor the tenant's plan has it.
    pub fn find(&self, name: &str) -> Option<OfferedFeature> {
        match self.of_catalog(name) {
            Some(offered) => Some(offered.owned()),
            None => {
                let mut of_plan = self.only_in_plan();
                let found = of_plan.find(|feature| feature.definition.name.as_str() == name)?;
                Some(self.offered(&found).owned())
            }
        }
    }

    /// The catalog's feature called `name`.
    pub fn of_catalog(&self, name: &str) -> Option<OfferedFeature<&'a FeatureName>> {
        self.catalog.feature(name).map(|feature| self.offered(feature))
    }

    /// Every feature in the catalog's order; then those that only the plan still has.
    pub fn all(&self) -> Vec<OfferedFeature> {
        let of_plan: Vec<_> = self.only_in_plan().collect();
        let features = self.catalog.features.iter().chain(&of_plan);
        features.map(|feature| self.offered(feature).owned()).collect()
    }

    /// What the catalog has given up and the subscriber keeps.
    fn only_in_plan(&self) -> impl Iterator<Item = CompiledFeature> {
        let features = self.plan.definition.features.iter();
        features
            .filter(|feature| self.catalog.feature(feature.name.as_str()).is_none())
            // A plan keeps no days of its features, so that the zone does not matter.
            .filter_map(|one| CompiledFeature::compile(&one.definition(), &TimeZone::UTC).ok())
    }

    fn offered<'f>(&self, feature: &'f CompiledFeature) -> OfferedFeature<&'f FeatureName> {
        let name = &feature.definition.name;
        let subscription = &self.tenant.subscription;
        let access = feature.evaluate(&Asker {
            tenant: &self.tenant.id,
            subject: self.subject,
            attributes: self.attributes,
            plan: &subscription.plan.plan,
            plan_value: self.plan.feature(name.as_str()),
            feature_override: self.tenant.feature_override(name),
            is_served: subscription.status.is_served(),
            now: self.now,
        });
        let can_be_had = !access.is_enabled()
            && subscription.status.is_served()
            && access.sunset_at.is_none_or(|at| self.now < at);
        let has_it =
            |plan: &&CompiledPlan| plan.feature(name.as_str()).is_some_and(FeatureValue::is_on);
        let mut above = self.catalog.plans_above(&subscription.plan.plan);
        let plan = if can_be_had { above.find(has_it) } else { None };
        OfferedFeature { access, available_in_plan: plan.map(|plan| plan.plan.clone()) }
    }
}
