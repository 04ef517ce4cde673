//! Where tenants and plans come from.

use std::sync::Arc;

use ahash::AHashMap;

use crate::{
    domain::{
        catalog::Catalog,
        ids::{CatalogName, PoolId, TenantId},
        tenant::{PlanVersion, Tenant},
    },
    enforcement::error::EngineError,
    ledger::{
        Ledger, LedgerError,
        catalogs::{ChangedCatalog, StoredCatalog, WhichVersion},
        pools::StoredPool,
        tenants::ChangeCursor,
    },
};

/// Changed tenants taken in at a time.
const CHANGES_MAX: u32 = 1_000;

/// Where tenants and plans come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// The shared ledger.
    Ledger(Ledger),
    /// A catalog file: everything is known from the start and nothing changes.
    File(Arc<FileSource>),
}

/// The tenants and plans of a catalog file.
#[derive(Debug, Default)]
pub struct FileSource {
    pub tenants: AHashMap<TenantId, Arc<Tenant>>,
    pub plans: AHashMap<PlanVersion, serde_json::Value>,
    /// The catalog of all of them.
    pub catalog: serde_json::Value,
    /// The pools that tenants draw on; a file has none.
    pub pools: AHashMap<PoolId, StoredPool>,
}

impl FileSource {
    /// The tenants and plans of `catalog`; every plan has one version.
    pub fn of(catalog: &Catalog) -> Self {
        let version = |plan| PlanVersion { catalog: catalog.name().clone(), plan, version: 1 };
        let plans = catalog.plans();
        Self {
            tenants: catalog
                .tenants()
                .map(|tenant| (tenant.id.clone(), Arc::new(tenant)))
                .collect(),
            plans: plans.map(|plan| (version(plan.plan.name.clone()), plan.to_json())).collect(),
            catalog: catalog.to_json(),
            pools: AHashMap::new(),
        }
    }
}

impl Source {
    /// One tenant; `None` when there is none of that name.
    pub async fn tenant(&self, tenant: &TenantId) -> Result<Option<Arc<Tenant>>, EngineError> {
        match self {
            Self::Ledger(ledger) => match ledger.tenant(tenant).await {
                Ok(listed) => Ok(listed.map(|listed| Arc::new(listed.tenant))),
                Err(error) => {
                    Err(out_of_reach(format!("tenant {tenant} is not known here yet"), error))
                }
            },
            Self::File(file) => Ok(file.tenants.get(tenant).cloned()),
        }
    }

    /// One pool; `None` when there is none with this id.
    pub async fn pool(&self, pool: PoolId) -> Result<Option<StoredPool>, EngineError> {
        let ledger = match self {
            Self::Ledger(ledger) => ledger,
            Self::File(file) => return Ok(file.pools.get(&pool).cloned()),
        };
        let found = ledger.pool(pool).await;
        found.map_err(|error| out_of_reach(format!("{pool} is not known here yet"), error))
    }

    /// A plan version as it was stored.
    pub async fn plan_definition(
        &self,
        version: &PlanVersion,
    ) -> Result<serde_json::Value, EngineError> {
        let PlanVersion { catalog, plan, version: number } = version;
        let name = format!("plan {catalog}/{plan} version {number}");
        let found = match self {
            Self::Ledger(ledger) => ledger
                .plan_definition(version)
                .await
                .map_err(|error| out_of_reach(format!("{name} is not known here yet"), error))?,
            Self::File(file) => file.plans.get(version).cloned(),
        };
        found.ok_or_else(|| EngineError::Unavailable(format!("{name} is not stored")))
    }

    /// A catalog as it is in force.
    pub async fn catalog(
        &self,
        name: &CatalogName,
    ) -> Result<(u32, serde_json::Value), EngineError> {
        match self {
            Self::Ledger(ledger) => {
                let found = ledger.catalog(name, WhichVersion::Current).await.map_err(|error| {
                    out_of_reach(format!("catalog {name} is not known here yet"), error)
                })?;
                let stored = found.map(|stored| (stored.version, stored.definition));
                stored.ok_or_else(|| {
                    EngineError::Unavailable(format!("catalog {name} is not stored"))
                })
            }
            Self::File(file) => Ok((1, file.catalog.clone())),
        }
    }

    /// The catalogs that have changed after the change `version`.
    pub async fn catalogs_changed_since(
        &self,
        version: u64,
    ) -> Result<Vec<ChangedCatalog>, EngineError> {
        let Self::Ledger(ledger) = self else { return Ok(vec![]) };
        ledger
            .catalogs_changed_since(version)
            .await
            .map_err(|error| out_of_reach("cannot look for changes".into(), error))
    }

    /// The version of a catalog that is in force by now; `None` when nothing new can be.
    pub async fn newer_catalog(
        &self,
        name: &CatalogName,
    ) -> Result<Option<StoredCatalog>, EngineError> {
        let Self::Ledger(ledger) = self else { return Ok(None) };
        ledger
            .catalog(name, WhichVersion::Current)
            .await
            .map_err(|error| out_of_reach(format!("catalog {name} cannot be read again"), error))
    }

    /// What has changed behind `cursor`, and where to go on. An empty page means that all is seen.
    pub async fn changes_since(
        &self,
        cursor: ChangeCursor,
    ) -> Result<(Vec<Tenant>, ChangeCursor), EngineError> {
        let Self::Ledger(ledger) = self else { return Ok((vec![], cursor)) };
        ledger
            .tenants_changed_since(&cursor, CHANGES_MAX)
            .await
            .map_err(|error| out_of_reach("cannot look for changes".into(), error))
    }
}

fn out_of_reach(what: String, error: LedgerError) -> EngineError {
    tracing::debug!(%error, "{what}");
    EngineError::Unavailable(match error {
        LedgerError::Schema(error) => format!("{what}: {error}"),
        _ => format!("{what}, and Postgres cannot be asked now"),
    })
}
