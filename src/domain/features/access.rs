//! The answer to *does this tenant have this feature?*

use jiff::Timestamp;

use crate::domain::{
    catalog::features::{FeatureType, FeatureValue},
    ids::FeatureName,
};

/// One feature as one tenant has it; its name is the catalog's where it is borrowed.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureAccess<N = FeatureName> {
    pub feature: N,
    pub kind: FeatureType,
    /// Absent: the tenant has no value of it.
    pub value: Option<FeatureValue>,
    pub reason: FeatureReason,
    /// When the override that decided stops holding; absent = never, or no override decided.
    pub override_expires_at: Option<Timestamp>,
    /// When the feature is, or was, withdrawn; absent = no such plan.
    pub sunset_at: Option<Timestamp>,
    /// Present while tenants are to be told of it.
    pub sunset_notice: Option<SunsetNotice>,
}

/// A withdrawal that is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SunsetNotice {
    pub withdrawn_at: Timestamp,
    /// What takes its place.
    pub replacement: Option<FeatureName>,
}

/// Why a tenant has a feature, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FeatureReason {
    /// The plan names it: on, or with a value.
    InPlan,
    /// The plan says off, or nobody says anything: off.
    NotInPlan,
    /// An override of this tenant.
    Override,
    /// A targeting rule that fits the context.
    Targeting,
    /// The rollout has reached this subject.
    InRollout,
    /// The rollout has not reached this subject: the default.
    NotInRollout,
    /// The catalog's default.
    Default,
    /// The feature was withdrawn.
    Sunset,
    /// The tenant's subscription is suspended or cancelled.
    SubscriptionInactive,
}

impl<N> FeatureAccess<N> {
    /// Whether the tenant has it: on, or with any value.
    pub fn is_enabled(&self) -> bool {
        self.value.as_ref().is_some_and(FeatureValue::is_on)
    }
}

impl FeatureAccess<&FeatureName> {
    /// The same, to be kept.
    pub fn owned(self) -> FeatureAccess {
        let Self { feature, kind, value, reason, .. } = self;
        let Self { override_expires_at, sunset_at, sunset_notice, .. } = self;
        let feature = feature.clone();
        FeatureAccess {
            feature,
            kind,
            value,
            reason,
            override_expires_at,
            sunset_at,
            sunset_notice,
        }
    }
}
