//! Accounts, tenants and their subscriptions, as enforcement and billing see them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    features::feature_override::FeatureOverride,
    grant::Grant,
    ids::{AccountId, CatalogName, FeatureName, GrantId, PlanName, TenantId},
    period::Period,
    pool::PoolMembership,
    window::{Window, WindowLabel, WindowSchedule},
};

/// One version of one plan: what a subscriber signed and keeps.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PlanVersion {
    pub catalog: CatalogName,
    pub plan: PlanName,
    /// Counts from 1; grows when the catalog's plan changes.
    pub version: u32,
}

/// Where a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionStatus {
    Trialing,
    Active,
    PastDue,
    Suspended,
    Cancelled,
}

impl SubscriptionStatus {
    /// Whether the plan's limits are served; a suspended or cancelled tenant is denied.
    pub fn is_served(self) -> bool {
        matches!(self, Self::Trialing | Self::Active | Self::PastDue)
    }
}

/// A tenant on a version of a plan, with its billing cycle.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    pub id: Uuid,
    pub plan: PlanVersion,
    pub status: SubscriptionStatus,
    /// What windows are computed from: the tenant's zone, the billing anchor and interval.
    pub schedule: WindowSchedule,
    pub started_at: Timestamp,
}

/// Everything that enforcement needs to know of one tenant.
#[derive(Clone, Debug, PartialEq)]
pub struct Tenant {
    pub id: TenantId,
    pub account: AccountId,
    pub subscription: Subscription,
    /// The account's test clock; absent = the real one.
    pub test_clock: Option<Timestamp>,
    /// What it has otherwise than its plan says, at most one per feature; expired ones included.
    pub feature_overrides: Vec<FeatureOverride>,
    /// Grows with every change to the tenant, its subscription or its account's clock. Limits
    /// travel to the shared counters under this version, so that an older one never wins.
    pub version: u64,
    /// In burn order: those in force and to come, and those that have ended a while ago.
    pub grants: Vec<Grant>,
    /// The pools that it draws on, at most one for a meter; of a pool's cell, the pool.
    pub pools: Vec<PoolMembership>,
}

impl Tenant {
    /// The tenant's override of a feature, whether or not it still holds.
    pub fn feature_override(&self, feature: &FeatureName) -> Option<&FeatureOverride> {
        self.feature_overrides.iter().find(|one| one.feature == *feature)
    }

    /// The tenant's present: its account's test clock, or `now`.
    pub fn now(&self, now: Timestamp) -> Timestamp {
        self.test_clock.unwrap_or(now)
    }

    /// The grant with this id, if it is known.
    pub fn grant(&self, id: GrantId) -> Option<&Grant> {
        self.grants.iter().find(|grant| grant.id == id)
    }

    /// The window that `label` names, if it is one of the schedule in force or of a known grant.
    pub fn window_of_label(&self, label: WindowLabel) -> Option<Window> {
        let schedule = &self.subscription.schedule;
        match label.period {
            Period::Grant { id } => self.grant(id)?.window_of_label(schedule, label),
            _ => schedule.window_of_label(label),
        }
    }
}
