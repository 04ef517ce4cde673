//! The private stores, and databases with tenants in them.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use sqlx::{Connection, Executor, PgConnection, PgPool, postgres::PgPoolOptions};
use tempfile::TempDir;
use tollgate::{
    clock::Clock,
    dev::{Postgres, Redis},
    domain::{
        catalog::file::Catalog,
        ids::{AccountId, PlanName, TenantId},
        tenant::SubscriptionStatus,
        window::BillingInterval,
    },
    ledger::{
        Ledger,
        catalogs::{CatalogContent, PlanContent, WhichVersion},
        changes::Author,
        config::LedgerConfig,
        tenants::NewTenant,
    },
};

use super::sidecar::Setup;

const CATALOG: &str = include_str!("../../stores.yaml");
/// Name of the catalog, and of its plan that all tenants are on.
const CATALOG_NAME: &str = "stores";
const PLAN: &str = "load";
const AUTHOR: Author<'_> = Author { actor: "loadtest", reason: "" };
/// Tenants that are created at once.
const CREATED_AT_ONCE: usize = 1_000;
/// What Postgres is given beside its defaults, which are made for a machine of the last century: room
/// for what is written between two checkpoints, and for the pages that are written again and again.
const SETTINGS: [(&str, &str); 3] =
    [("shared_buffers", "512MB"), ("max_wal_size", "8GB"), ("checkpoint_timeout", "15min")];

/// A Postgres that syncs, in a directory in which sidecars keep their journals, too.
pub struct Stage {
    program: PathBuf,
    postgres: Postgres,
    // After `postgres`, whose data is in it.
    dir: TempDir,
}

/// A migrated database with the catalog in force.
pub struct Database {
    pub url: String,
    pub pool: PgPool,
    pub ledger: Ledger,
}

impl Stage {
    /// Starts Postgres, with its files below `parent`.
    pub async fn set(program: PathBuf, parent: Option<&Path>) -> anyhow::Result<Self> {
        let mut dir = tempfile::Builder::new();
        dir.prefix("tollgate-stores-");
        let dir = match parent {
            Some(parent) => dir.tempdir_in(parent)?,
            None => dir.tempdir()?,
        };
        // A server that root starts runs as somebody else, who has to get in.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
        let mut postgres = Postgres::lasting(&dir.path().join("postgres"))?;
        for (name, value) in SETTINGS {
            let setting = format!("ALTER SYSTEM SET {name} = '{value}'");
            administer(&postgres.url("postgres"), &setting).await?;
        }
        postgres.stop()?;
        postgres.start_again()?;
        Ok(Self { program, postgres, dir })
    }

    /// A new database with `tenants` tenants: see [`tenant`].
    pub async fn database(&self, name: &str, tenants: usize) -> anyhow::Result<Database> {
        administer(&self.postgres.url("postgres"), &format!("CREATE DATABASE {name}")).await?;
        let url = self.postgres.url(name);
        let ledger = Ledger::new(&LedgerConfig::at(&url))?;
        ledger.migrate().await?;
        let pool = PgPoolOptions::new().max_connections(3).connect(&url).await?;
        let database = Database { url, pool, ledger };
        database.fill(tenants).await.context("creating tenants")?;
        // What was written until now is not to be paid for by what is measured.
        administer(&database.url, "VACUUM ANALYZE").await?;
        administer(&database.url, "CHECKPOINT").await?;
        Ok(database)
    }

    /// A sidecar on `database` and `redis`, with a directory of its own.
    pub fn sidecar(
        &self,
        database: &Database,
        redis: &Redis,
        name: &str,
        settings: &[(&'static str, &str)],
    ) -> Setup {
        let owned = |(flag, value): &(&'static str, &str)| (*flag, (*value).to_owned());
        Setup {
            program: self.program.clone(),
            data_dir: self.dir.path().join(name),
            ledger_url: database.url.clone(),
            redis_url: redis.url(),
            settings: settings.iter().map(owned).collect(),
        }
    }

    /// The first process of Postgres.
    pub fn postgres_pid(&self) -> anyhow::Result<u32> {
        self.postgres.pid().context("Postgres does not run")
    }
}

impl Database {
    async fn fill(&self, tenants: usize) -> anyhow::Result<()> {
        let catalog = Catalog::parse(CATALOG_NAME, CATALOG)
            .map_err(|errors| anyhow::anyhow!("stores.yaml: {errors:?}"))?;
        let plans = catalog.plans().map(|plan| PlanContent {
            plan: plan.plan.name.clone(),
            content_hash: plan.hash().as_str().to_owned(),
            definition: plan.to_json(),
        });
        let content = CatalogContent {
            catalog: catalog.name().clone(),
            content_hash: catalog.hash().as_str().to_owned(),
            definition: catalog.to_json(),
            plans: plans.collect(),
        };
        self.ledger.apply_catalog(&content, AUTHOR).await?;
        let started_at = Clock::System.now();
        let new = (0..tenants).map(|number| {
            Ok(NewTenant {
                tenant: TenantId::new(tenant(number))?,
                account: AccountId::new(tenant(number))?,
                name: String::new(),
                catalog: catalog.name().clone(),
                plan: PlanName::new(PLAN)?,
                plan_version: WhichVersion::Current,
                status: SubscriptionStatus::Active,
                zone: "UTC".to_owned(),
                anchor: started_at,
                interval: BillingInterval::Monthly,
                started_at,
                test_clock: None,
            })
        });
        let new: Vec<_> = new.collect::<anyhow::Result<_>>()?;
        for new in new.chunks(CREATED_AT_ONCE) {
            self.ledger.create_tenants(new, AUTHOR).await?;
        }
        Ok(())
    }

    /// Closes all connections; what a later measurement does is not slowed by who listens here.
    pub async fn end(self) -> anyhow::Result<()> {
        self.ledger.close().await;
        self.pool.close().await;
        Ok(())
    }

    /// Events that the ledger counts.
    pub async fn events(&self) -> anyhow::Result<u64> {
        let sum = "SELECT coalesce(sum(events), 0)::bigint FROM window_totals";
        let events: i64 = sqlx::query_scalar(sum).fetch_one(&self.pool).await?;
        Ok(events.unsigned_abs())
    }
}

/// The id of the tenant with this number.
pub fn tenant(number: usize) -> String {
    format!("load-{number}")
}

async fn administer(url: &str, statement: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    connection.execute(sqlx::AssertSqlSafe(statement)).await?;
    Ok(connection.close().await?)
}
