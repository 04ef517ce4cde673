//! The whole of one catalog, as it is written, stored and versioned.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    allowances::{AddonDef, GrantDef, PoolDef},
    canonical::is_default,
    discounts::{CommitmentDef, LoyaltyDef, PromoCodeDef, ReferralDef},
    dunning::DunningPolicy,
    envoy::EnvoyRuleDef,
    features::{AttributeDef, FeatureDef},
    meters::MeterDef,
    names::Zone,
    operations::{OperationDef, RateDef},
    plans::PlanDef,
    policies::{
        AlertPolicy, DateDisplay, ExperimentDef, JobPolicy, MilestoneDef, PlanChangePolicy,
        RecommendationPolicy, RenewalPolicy, RetentionPolicy, SuccessMetricDef, TrialPolicy,
    },
    tenants::TenantDef,
};
use crate::domain::{ids::CatalogName, money::Currency};

/// One catalog.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Tollgate catalog")]
pub struct CatalogDefinition {
    /// The catalog's name.
    pub catalog: CatalogName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What all its prices are in.
    pub currency: Currency,
    /// The zone of days in it (promo codes, sunsets, experiments); UTC unless given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub zone: Zone,
    /// How dates are written for people; RFC 3339 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dates: Option<DateDisplay>,

    /// What is counted.
    pub meters: Vec<MeterDef>,
    /// What is known of a caller besides its tenant, for targeting.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<AttributeDef>,
    /// What is switched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<FeatureDef>,
    /// Rate limits by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<RateDef>,
    /// What applications do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<OperationDef>,
    /// What the descriptors of Envoy's rate limit protocol ask; the first rule that is for one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub envoy: Vec<EnvoyRuleDef>,
    /// Plans, the lowest first.
    pub plans: Vec<PlanDef>,

    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addons: Vec<AddonDef>,
    /// Top-ups and other grants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<GrantDef>,
    /// Allowances that many subscriptions share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolDef>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commitments: Vec<CommitmentDef>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub promo_codes: Vec<PromoCodeDef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referral: Option<ReferralDef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loyalty: Option<LoyaltyDef>,

    /// Dunning policies; the first one is for plans that name none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dunning: Vec<DunningPolicy>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub trials: TrialPolicy,
    #[serde(default, skip_serializing_if = "is_default")]
    pub renewals: RenewalPolicy,
    #[serde(default, skip_serializing_if = "is_default")]
    pub plan_changes: PlanChangePolicy,
    #[serde(default, skip_serializing_if = "is_default")]
    pub alerts: AlertPolicy,
    #[serde(default, skip_serializing_if = "is_default")]
    pub recommendations: RecommendationPolicy,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub success_metrics: Vec<SuccessMetricDef>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub milestones: Vec<MilestoneDef>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub experiments: Vec<ExperimentDef>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub jobs: JobPolicy,
    #[serde(default, skip_serializing_if = "is_default")]
    pub retention: RetentionPolicy,

    /// Tenants of a sidecar that runs alone; not part of what is stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<TenantDef>,
}
