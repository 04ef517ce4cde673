//! The known tenants and plans on disk, so that a sidecar that starts while Postgres is away serves
//! whom it served before.
//!
//! One JSON file, replaced whole: written beside, synced, renamed.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::{
    features::feature_override::FeatureOverride,
    grant::Grant,
    ids::{AccountId, CatalogName, TenantId},
    pool::PoolMembership,
    tenant::{PlanVersion, Subscription, SubscriptionStatus, Tenant},
    window::{BillingInterval, WindowSchedule},
};

/// Layout version; a file of another one is ignored, as if it were absent.
const FORMAT: u32 = 2;

/// Everything that enforcement knew when it was written.
#[derive(Debug, Serialize, Deserialize)]
pub struct Snapshot {
    format: u32,
    /// Version of the last change that it includes.
    pub change_version: u64,
    tenants: Vec<TenantRecord>,
    /// The cells of the tenants' pools, as if they were tenants on plans of their own.
    #[serde(default)]
    pool_cells: Vec<PoolCellRecord>,
    /// Plan versions with their stored definitions.
    pub plans: Vec<(PlanVersion, serde_json::Value)>,
    /// Catalogs with the versions in force and their stored definitions.
    pub catalogs: Vec<(CatalogName, u32, serde_json::Value)>,
}

/// What a snapshot is made of.
pub struct SnapshotParts<T, C> {
    pub change_version: u64,
    pub tenants: T,
    /// With the definitions of their plans.
    pub pool_cells: C,
    pub plans: Vec<(PlanVersion, serde_json::Value)>,
    pub catalogs: Vec<(CatalogName, u32, serde_json::Value)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PoolCellRecord {
    cell: TenantRecord,
    definition: serde_json::Value,
}

#[derive(Debug, Serialize, Deserialize)]
struct TenantRecord {
    /// A cell's is one that no caller can name.
    id: String,
    account: AccountId,
    subscription: Uuid,
    plan: PlanVersion,
    status: SubscriptionStatus,
    zone: String,
    anchor: Timestamp,
    interval: BillingInterval,
    anchor_version: u32,
    started_at: Timestamp,
    test_clock: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    feature_overrides: Vec<FeatureOverride>,
    version: u64,
    #[serde(default)]
    grants: Vec<Grant>,
    #[serde(default)]
    pools: Vec<PoolMembership>,
}

/// What tells whether the rest can be read.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Snapshot {
    /// Collects what is to be kept.
    pub fn new(
        parts: SnapshotParts<
            impl Iterator<Item = Tenant>,
            impl Iterator<Item = (Tenant, serde_json::Value)>,
        >,
    ) -> Self {
        let SnapshotParts { change_version, tenants, pool_cells, plans, catalogs } = parts;
        let tenants = tenants.map(TenantRecord::from).collect();
        let cell =
            |(cell, definition)| PoolCellRecord { cell: TenantRecord::from(cell), definition };
        let pool_cells = pool_cells.map(cell).collect();
        Self { format: FORMAT, change_version, tenants, pool_cells, plans, catalogs }
    }

    /// Replaces the file at `path`.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let beside: PathBuf = path.with_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_data()?;
        fs::rename(&beside, path)
    }

    /// Reads the file at `path`; `None` when there is none or it is of another format.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Format { format } = serde_json::from_slice(&bytes)?;
        if format != FORMAT {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&bytes)?))
    }

    /// The tenants, and the cells of pools with the definitions of their plans; one whose zone this
    /// machine does not know is left out.
    pub fn into_tenants(
        self,
    ) -> (impl Iterator<Item = Tenant>, impl Iterator<Item = (Tenant, serde_json::Value)>) {
        let tenants = self.tenants.into_iter().filter_map(TenantRecord::into_tenant);
        let cells = self.pool_cells.into_iter();
        (tenants, cells.filter_map(|one| Some((one.cell.into_tenant()?, one.definition))))
    }
}

impl From<Tenant> for TenantRecord {
    fn from(tenant: Tenant) -> Self {
        let Subscription { id, plan, status, schedule, started_at } = tenant.subscription;
        Self {
            id: tenant.id.into(),
            account: tenant.account,
            subscription: id,
            plan,
            status,
            zone: schedule.zone.iana_name().unwrap_or("UTC").to_owned(),
            anchor: schedule.anchor,
            interval: schedule.interval,
            anchor_version: schedule.version,
            started_at,
            test_clock: tenant.test_clock,
            feature_overrides: tenant.feature_overrides,
            version: tenant.version,
            grants: tenant.grants,
            pools: tenant.pools,
        }
    }
}

impl TenantRecord {
    fn into_tenant(self) -> Option<Tenant> {
        let schedule = WindowSchedule {
            zone: TimeZone::get(&self.zone).ok()?,
            anchor: self.anchor,
            interval: self.interval,
            version: self.anchor_version,
        };
        Some(Tenant {
            id: TenantId::stored(&self.id).ok()?,
            account: self.account,
            subscription: Subscription {
                id: self.subscription,
                plan: self.plan,
                status: self.status,
                schedule,
                started_at: self.started_at,
            },
            test_clock: self.test_clock,
            feature_overrides: self.feature_overrides,
            version: self.version,
            grants: self.grants,
            pools: self.pools,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        grant::GrantKind,
        ids::{FeatureName, GrantId, MeterName, PlanName, PoolId},
        period::Period,
    };

    fn tenant() -> Tenant {
        Tenant {
            id: TenantId::new("acme").unwrap(),
            account: AccountId::new("acme").unwrap(),
            subscription: Subscription {
                id: Uuid::from_u128(7),
                plan: PlanVersion {
                    catalog: CatalogName::new("hosting").unwrap(),
                    plan: PlanName::new("starter").unwrap(),
                    version: 2,
                },
                status: SubscriptionStatus::Active,
                schedule: WindowSchedule {
                    zone: TimeZone::get("Europe/London").unwrap(),
                    anchor: "2026-01-31T00:00:00Z".parse().unwrap(),
                    interval: BillingInterval::Monthly,
                    version: 3,
                },
                started_at: "2026-01-31T00:00:00Z".parse().unwrap(),
            },
            test_clock: Some("2026-02-01T00:00:00Z".parse().unwrap()),
            feature_overrides: vec![FeatureOverride {
                feature: FeatureName::new("editor").unwrap(),
                value: true.into(),
                expires_at: Some("2026-03-01T00:00:00Z".parse().unwrap()),
                reason: "asked for".into(),
            }],
            version: 9,
            grants: vec![Grant {
                id: GrantId(3),
                kind: GrantKind::Recurring,
                meter: MeterName::new("disk").unwrap(),
                subject: None,
                amount: 100,
                priority: 5,
                starts_at: "2026-01-31T00:00:00Z".parse().unwrap(),
                expires_at: None,
                every: Some(Period::Month),
                covers_level: false,
                is_revoked: false,
            }],
            pools: vec![],
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("snapshot.json");
        let cell = Tenant { id: TenantId::of_pool(PoolId(3), Some("shop")), ..tenant() };
        let definition = serde_json::json!({ "plan": {} });
        Snapshot::new(SnapshotParts {
            change_version: 5,
            tenants: std::iter::once(tenant()),
            pool_cells: std::iter::once((cell.clone(), definition.clone())),
            plans: vec![],
            catalogs: vec![],
        })
        .write(&path)
        .unwrap();
        let read = Snapshot::read(&path).unwrap().unwrap();
        assert_eq!(read.change_version, 5);
        let (tenants, cells) = read.into_tenants();
        assert_eq!(tenants.collect::<Vec<_>>(), vec![tenant()]);
        assert_eq!(cells.collect::<Vec<_>>(), vec![(cell, definition)]);
    }

    #[test]
    fn no_file_is_no_snapshot() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Snapshot::read(&directory.path().join("absent.json")).unwrap().is_none());
    }
}
