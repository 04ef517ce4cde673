//! A Postgres and a Redis of this program's own, with so many tenants.

use std::{path::Path, process::Command};

use anyhow::{Context, bail};
use tollgate::dev::{Postgres, Redis};

/// Makes tenants like `load-0` of all that there is of it. One by one, as `tollgate tenant create`
/// does it, takes longer than all the rest.
const MULTIPLY: &str = "
BEGIN;
CREATE TEMP TABLE others AS SELECT 'load-' || number AS tenant FROM generate_series(1, :more) AS number;
INSERT INTO accounts (account, zone) SELECT others.tenant, zone FROM others, accounts;
INSERT INTO tenants (tenant, account, change_version)
    SELECT others.tenant, others.tenant, change_version FROM others, tenants;
INSERT INTO subscriptions
    (tenant, subscription, catalog, plan, plan_version, status, zone, anchor, billing_interval,
     anchor_version, started_at, revision)
    SELECT others.tenant, gen_random_uuid(), catalog, plan, plan_version, status, zone, anchor,
        billing_interval, anchor_version, started_at, revision
    FROM others, subscriptions;
COMMIT;
ANALYZE;
";
const DATABASE: &str = "postgres";

/// Both, running; they end when this is dropped.
pub struct Stores {
    postgres: Postgres,
    redis: Redis,
}

impl Stores {
    /// Starts them, with tenants of the catalog's plan `load`: `load-0`, `load-1`, …
    pub fn start(program: &Path, catalog: &Path, tenants: usize) -> anyhow::Result<Self> {
        let stores = Self { postgres: Postgres::scratch()?, redis: Redis::scratch()? };
        let operate = |arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).env("TOLLGATE_LEDGER_URL", stores.ledger_url());
            run(command.env("TOLLGATE_ACTOR", "loadtest"))
        };
        operate(&["migrate"])?;
        operate(&["catalog", "apply", &catalog.display().to_string()])?;
        operate(&["tenant", "create", "--catalog", "loadtest", "--plan", "load", "load-0"])?;
        let more = tenants.saturating_sub(1);
        let mut psql = Command::new("psql");
        psql.args(["--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1"]);
        psql.args(["--set", &format!("more={more}"), "--file", "-", &stores.ledger_url()]);
        let sql = stores.postgres.dir().join("multiply.sql");
        std::fs::write(&sql, MULTIPLY)?;
        run(psql.stdin(std::fs::File::open(sql)?))?;
        Ok(stores)
    }

    pub fn ledger_url(&self) -> String {
        self.postgres.url(DATABASE)
    }

    pub fn redis_url(&self) -> String {
        self.redis.url()
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
