//! Tenants in a file, for a sidecar that runs alone: `tollgate sidecar --catalog FILE`.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{canonical::is_default, names::Zone};
use crate::domain::{
    features::feature_override::FeatureOverride,
    ids::{AccountId, CatalogName, PlanName, TenantId},
    tenant::{PlanVersion, Subscription, SubscriptionStatus, Tenant},
    window::{BillingInterval, WindowSchedule},
};

/// A file with nothing but tenants of one catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantsFile {
    /// The catalog whose plans they are on.
    pub catalog: CatalogName,
    pub tenants: Vec<TenantDef>,
}

/// A tenant of a sidecar that runs alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantDef {
    pub id: TenantId,
    /// Who pays; an account of the tenant's own name unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    pub plan: PlanName,
    /// Zone of its calendar; UTC unless given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub zone: Zone,
    /// Instant that billing cycles are counted from (RFC 3339); 1 January 2026 00:00 UTC unless
    /// given, so that a restart finds the same windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub anchor: Option<Timestamp>,
    /// Length of a billing cycle; monthly unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Interval>")]
    pub interval: Option<BillingInterval>,
    /// Where its account's test clock stands (RFC 3339); absent = the real time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub test_clock: Option<Timestamp>,
    /// Features that it has otherwise than its plan says, each at most once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<FeatureOverride>,
}

/// [`BillingInterval`]'s schema.
#[derive(JsonSchema)]
#[schemars(rename = "BillingInterval", rename_all = "snake_case")]
#[allow(dead_code)] // Only its schema is used.
enum Interval {
    Monthly,
    Yearly,
}

/// 2026-01-01T00:00:00Z.
const DEFAULT_ANCHOR_SECOND: i64 = 1_767_225_600;

impl TenantDef {
    /// The tenant as enforcement sees it, on version 1 of its plan.
    pub fn tenant(&self, catalog: &CatalogName) -> Tenant {
        let anchor = self.anchor.unwrap_or_else(|| {
            Timestamp::from_second(DEFAULT_ANCHOR_SECOND).unwrap_or(Timestamp::UNIX_EPOCH)
        });
        let account = self.account.clone().unwrap_or_else(|| account_of(&self.id));
        let plan = PlanVersion { catalog: catalog.clone(), plan: self.plan.clone(), version: 1 };
        Tenant {
            grants: vec![],
            pools: vec![],
            id: self.id.clone(),
            account,
            subscription: Subscription {
                // Stable over restarts: nobody but this file knows the subscription.
                id: subscription_id(&self.id),
                plan,
                status: SubscriptionStatus::Active,
                schedule: WindowSchedule {
                    zone: self.zone.time_zone(),
                    anchor,
                    interval: self.interval.unwrap_or(BillingInterval::Monthly),
                    version: 1,
                },
                started_at: anchor,
            },
            test_clock: self.test_clock,
            feature_overrides: self.overrides.clone(),
            version: 1,
        }
    }
}

fn account_of(tenant: &TenantId) -> AccountId {
    // Accounts and tenants follow one rule for ids.
    AccountId::new(tenant.as_str())
        .unwrap_or_else(|_| unreachable!("a tenant's id is an account's id"))
}

fn subscription_id(tenant: &TenantId) -> Uuid {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(tenant.as_str());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
