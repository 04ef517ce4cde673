//! What clients know against the ledger, the counters and the charges.

use std::collections::{BTreeMap, BTreeSet};

use tollgate::{
    domain::{
        ids::{PoolId, TenantId},
        window::WindowLabel,
    },
    ledger::{reconcile::Scope, usage::WindowTotals},
};

use super::{
    stage::Stage,
    tenants::{self, GRANTED, MEMBERS, METERS, POOL, POOL_SIZES, limit},
    truth::{Book, Used},
};

/// More windows than a round makes, of one tenant.
const WINDOWS_MAX: u32 = 1_000;
/// More disagreements than anybody reads.
const DISAGREEMENTS_MAX: u32 = 20;

/// What the ledger says, at one moment of quiet.
pub struct Books {
    windows: Vec<WindowTotals>,
    /// Whose windows are those of the pool.
    owner: TenantId,
    /// What each member has used of the pool.
    of_members: BTreeMap<String, i64>,
}

impl Books {
    pub async fn read(stage: &Stage, pool: PoolId) -> Result<Self, String> {
        let owner = tenants::owner(pool);
        let tenants = tenants::all().map(|tenant| TenantId::new(tenant).unwrap());
        let mut windows = vec![];
        for tenant in tenants.chain([owner.clone()]) {
            let of_tenant = stage.world.ledger.tenant_windows(&tenant, None, WINDOWS_MAX).await;
            windows.extend(of_tenant.map_err(|error| error.to_string())?);
        }
        let of_members = "SELECT tenant, sum(used)::bigint FROM pool_usage GROUP BY tenant";
        let of_members: Vec<(String, i64)> = sqlx::query_as(of_members)
            .fetch_all(&stage.world.pool)
            .await
            .map_err(|error| error.to_string())?;
        Ok(Self { windows, owner, of_members: of_members.into_iter().collect() })
    }

    /// What was used in all, by tenant and meter, whatever it was taken from.
    fn used(&self) -> BTreeMap<Used, i64> {
        let mut used: BTreeMap<Used, i64> = BTreeMap::new();
        for window in self.windows.iter().filter(|window| window.key.tenant != self.owner) {
            let meter = METERS.into_iter().find(|meter| *meter == window.key.meter.as_str());
            let meter = meter.unwrap_or_else(|| panic!("nobody uses {}", window.key));
            let amount = window.tally.amount_sum;
            *used.entry((window.key.tenant.to_string(), meter)).or_default() += amount;
        }
        used
    }

    /// Meters of which the ledger has less than what was acknowledged, or more than that and all that
    /// is unknown.
    pub fn ledger_differs(&self, book: &Book) -> Vec<String> {
        let used = self.used();
        let all: BTreeSet<&Used> = book.accounts.keys().chain(used.keys()).collect();
        let mut differences = vec![];
        for meter in all.into_iter().filter(|used| used.0 != POOL.0) {
            let ledger = used.get(meter).copied().unwrap_or(0);
            let range = book.range(meter);
            let (tenant, name) = meter;
            if !range.contains(&ledger) {
                let told = format!("the ledger has {ledger}, clients know of {range:?}");
                differences.push(format!("{tenant}/{name}: {told}"));
            }
            let of_pool = self.of_members.get(tenant).copied().unwrap_or(0);
            if MEMBERS.contains(&tenant.as_str()) && *name == POOL.1 && of_pool != ledger {
                differences.push(format!("{tenant}: {of_pool} of the pool, of {ledger} in all"));
            }
        }
        differences
    }

    /// Windows in which more was admitted than the limit. Asked before operations of unknown fate are
    /// recorded after the fact.
    pub fn over_the_limit(&self, book: &Book) -> Vec<String> {
        let mut differences = vec![];
        for window in &self.windows {
            let key = &window.key;
            let (tenant, limit) = match () {
                () if key.tenant == self.owner => (POOL.0, Some(*POOL_SIZES.end())),
                () if key.label.is_of_grant() => (key.tenant.as_str(), Some(GRANTED.2)),
                () => (key.tenant.as_str(), limit(key.tenant.as_str(), key.meter.as_str())),
            };
            let Some(limit) = limit else { continue };
            let used = window.used;
            let excused = book.excused(tenant, key.meter.as_str());
            if used - excused > limit {
                let told = format!("{used} used, {excused} of it after the fact, of {limit}");
                differences.push(format!("{key}: {told}"));
            }
        }
        differences
    }

    /// Counters in Redis that do not say what the ledger says. Those that are not there, or are of an
    /// earlier epoch, are built from the ledger when they are asked for.
    pub async fn redis_differs(&self, stage: &Stage) -> Vec<String> {
        let counters = stage.counters();
        let epoch = match stage.world.ledger.latest_epoch().await {
            Ok(epoch) => epoch.map_or(0, |epoch| epoch.number),
            Err(error) => return vec![error.to_string()],
        };
        let mut differences = vec![];
        for window in &self.windows {
            match counters.inspect(&window.key).await {
                Err(error) => differences.push(format!("{}: {error}", window.key)),
                Ok(Some(seen)) if seen.epoch == epoch => {
                    let forfeited = window.forfeited;
                    if (seen.used, seen.forfeited) != (window.used, forfeited) {
                        differences.push(format!(
                            "{}: Redis has {} and {} forfeited, the ledger {} and {forfeited}",
                            window.key, seen.used, seen.forfeited, window.used
                        ));
                    }
                }
                Ok(_) => {}
            }
        }
        differences
    }

    /// Escrow that nobody holds any more, once all sidecars have stopped.
    pub async fn stranded(&self, stage: &Stage) -> Vec<String> {
        let counters = stage.counters();
        let mut differences = vec![];
        for window in &self.windows {
            let seen = counters.inspect(&window.key).await;
            if let Ok(Some(seen)) = seen
                && seen.outstanding != 0
            {
                differences.push(format!("{}: {} outstanding", window.key, seen.outstanding));
            }
        }
        differences
    }

    /// What is left of a limit and of what is granted beside it, or of the pool if the meter is what
    /// members share. What was recorded after the fact may lie beyond the one, and takes nothing from
    /// the other.
    pub fn left(&self, tenant: &str, meter: &str, limit: i64, granted: i64) -> i64 {
        let owner = if meter == POOL.1 { self.owner.as_str() } else { tenant };
        let of_meter = |window: &&WindowTotals| {
            window.key.tenant.as_str() == owner && window.key.meter.as_str() == meter
        };
        let (mut of_limit, mut of_grants) = (0, 0);
        for window in self.windows.iter().filter(of_meter) {
            let taken = window.used + window.forfeited.cast_signed();
            match window.key.label.is_of_grant() {
                true => of_grants += taken,
                false => of_limit += taken,
            }
        }
        (limit - of_limit).max(0) + (granted - of_grants).max(0)
    }

    /// What was used by window, of one meter of one tenant.
    pub fn by_window<'a>(
        &'a self,
        meter: &'a str,
    ) -> impl Iterator<Item = (&'a TenantId, WindowLabel, i64)> {
        let of_meter = move |window: &&WindowTotals| window.key.meter.as_str() == meter;
        let windows = self.windows.iter().filter(of_meter);
        windows.map(|window| (&window.key.tenant, window.key.label, window.used))
    }
}

/// What the ledger finds when it compares its own tables, and what it put aside.
pub async fn ledger_with_itself(stage: &Stage) -> Vec<String> {
    let mut differences = vec![];
    match stage.world.ledger.disagreements(&Scope::default(), DISAGREEMENTS_MAX).await {
        Ok(found) => differences.extend(found.iter().map(|found| format!("{found:?}"))),
        Err(error) => differences.push(error.to_string()),
    }
    let quarantined: i64 = sqlx::query_scalar("SELECT count(*) FROM quarantine")
        .fetch_one(&stage.world.pool)
        .await
        .unwrap();
    if quarantined != 0 {
        differences.push(format!("{quarantined} events are in the quarantine"));
    }
    differences
}

/// Panics in what the programs logged, and the operator's commands.
pub fn panics(stage: &Stage) -> Vec<String> {
    let commands = std::fs::read_to_string(stage.operators_log()).unwrap_or_default();
    let logged = stage.programs().map(|program| (program.name.as_str(), program.logged()));
    let mut panics = vec![];
    for (name, log) in logged.chain([("a command", commands)]) {
        let lines = log.lines().filter(|line| line.contains("panicked"));
        panics.extend(lines.map(|line| format!("{name}: {line}")));
    }
    panics
}

/// Leaves beside the logs what the ledger holds, to be read with them.
pub async fn keep(stage: &Stage) {
    for table in ["window_totals", "run_totals", "usage_keys", "runs", "epochs", "epoch_reports"] {
        let rows = format!("SELECT row_to_json(t)::text FROM {table} t");
        let rows: Result<Vec<String>, _> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(rows)).fetch_all(&stage.world.pool).await;
        let text = rows.map_or_else(|error| error.to_string(), |rows| rows.join("\n"));
        std::fs::write(stage.dir().join(format!("{table}.jsonl")), text).unwrap();
    }
}
