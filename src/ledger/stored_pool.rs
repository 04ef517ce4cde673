//! A pool as its row says it.

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    cell_rows::{read_column, read_unsigned},
    error::LedgerError,
    subscriptions::{read_interval, read_zone},
};
use crate::domain::{
    catalog::compiled_plan::CompiledPlan,
    ids::{AccountId, CatalogName, MeterName, PlanName, PoolId, TenantId},
    meter::MeterKind,
    pool::{Pool, PoolClass, PoolMembership},
    tenant::{PlanVersion, Subscription, SubscriptionStatus, Tenant},
    window::WindowSchedule,
};

/// The versions of a catalog's plans count from 1.
const OF_NO_CATALOG: u32 = 0;

/// A pool with what the operator needs to know of it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPool {
    pub pool: Pool,
    pub account: AccountId,
    pub catalog: CatalogName,
    pub name: String,
    pub max_members: Option<u32>,
    pub definition: Value,
    pub schedule: WindowSchedule,
    /// The account's.
    pub test_clock: Option<Timestamp>,
}

impl StoredPool {
    /// Whether its meter is a level.
    pub(super) fn is_of_level(&self) -> bool {
        let plan = CompiledPlan::from_json(&self.definition).ok();
        let meter = plan.as_ref().and_then(|plan| plan.meter(self.pool.meter.as_str()));
        meter.is_some_and(|meter| meter.meter.kind == MeterKind::Level)
    }

    /// The cell that `owner` names, as if it were a tenant on a plan of its own: its limit is what
    /// the cell admits up to. With the plan's definition.
    ///
    /// Whoever makes terms of it goes by the definition; the plan's version is one that no catalog's
    /// has, so that none is ever taken for the other.
    pub fn cell(&self, owner: &TenantId) -> Option<(Tenant, Value)> {
        let ceiling = self.pool.cell(owner)?.ceiling;
        let mut definition = self.definition.clone();
        let meter = self.pool.meter.as_str();
        *definition.get_mut("plan")?.get_mut("limits")?.get_mut(meter)?.get_mut("limit")? =
            json!(ceiling);
        let name = PlanName::new(definition.get("plan")?.get("name")?.as_str()?).ok()?;
        let plan =
            PlanVersion { catalog: self.catalog.clone(), plan: name, version: OF_NO_CATALOG };
        let tenant = Tenant {
            id: owner.clone(),
            account: self.account.clone(),
            subscription: Subscription {
                id: Uuid::nil(),
                plan,
                status: SubscriptionStatus::Active,
                schedule: self.schedule.clone(),
                started_at: self.schedule.anchor,
            },
            test_clock: self.test_clock,
            feature_overrides: vec![],
            version: self.pool.version,
            grants: vec![],
            // Whoever has one share of a pool at hand knows them all.
            pools: vec![PoolMembership { pool: self.pool.clone(), class: None }],
        };
        Some((tenant, definition))
    }
}

/// The columns that enforcement goes by.
pub(super) struct PoolColumns<'a> {
    pub pool: i64,
    pub meter: &'a str,
    pub size: i64,
    pub classes: Value,
    pub settling: Value,
    pub version: i64,
}

pub(super) fn read_pool(columns: PoolColumns<'_>) -> Result<Pool, LedgerError> {
    let PoolColumns { pool, meter, size, classes, settling, version } = columns;
    let table = "pools";
    let size = read_unsigned(table, "size", pool, size)?;
    let (shown, classes) = (classes.to_string(), serde_json::from_value(classes));
    let classes: Vec<PoolClass> = read_column(table, "classes", pool, shown, classes)?;
    let (shown, settling) = (settling.to_string(), serde_json::from_value(settling));
    Ok(Pool {
        id: PoolId(read_unsigned(table, "pool", pool, pool)?),
        meter: read_column(table, "meter", pool, meter, MeterName::new(meter))?,
        size,
        // Rows of an older version have no percentages.
        classes: classes.into_iter().map(|class| class.with_percent_of(size)).collect(),
        version: read_unsigned(table, "change_version", pool, version)?,
        settling: read_column(table, "settling", pool, shown, settling)?,
    })
}

pub(super) struct PoolRow {
    pub account: String,
    pub pool: i64,
    pub catalog: String,
    pub name: String,
    pub meter: String,
    pub size: i64,
    pub classes: Value,
    pub settling: Value,
    pub max_members: Option<i32>,
    pub definition: Value,
    pub zone: String,
    pub anchor: jiff_sqlx::Timestamp,
    pub billing_interval: String,
    pub change_version: i64,
    pub test_clock: Option<jiff_sqlx::Timestamp>,
}

impl PoolRow {
    pub(super) fn into_pool(self) -> Result<StoredPool, LedgerError> {
        let (table, id) = ("pools", self.pool);
        let owner = TenantId::of_pool(PoolId(0), None);
        let account = AccountId::new(&self.account);
        let catalog = CatalogName::new(&self.catalog);
        Ok(StoredPool {
            account: read_column(table, "account", id, &self.account, account)?,
            catalog: read_column(table, "catalog", id, &self.catalog, catalog)?,
            name: self.name,
            max_members: self.max_members.and_then(|most| u32::try_from(most).ok()),
            definition: self.definition,
            schedule: WindowSchedule {
                zone: read_column(table, "zone", id, &self.zone, read_zone(&self.zone))?,
                anchor: self.anchor.to_jiff(),
                interval: read_interval(&owner, &self.billing_interval)?,
                version: 1,
            },
            test_clock: self.test_clock.map(|at| at.to_jiff()),
            pool: read_pool(PoolColumns {
                pool: id,
                meter: &self.meter,
                size: self.size,
                classes: self.classes,
                settling: self.settling,
                version: self.change_version,
            })?,
        })
    }
}
