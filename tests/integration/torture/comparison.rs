//! What clients know against the ledger, the counters and the charges.

use std::collections::BTreeMap;

use tollgate::{
    domain::{ids::TenantId, window::WindowLabel},
    ledger::usage::WindowTotals,
};

use super::{
    clients::{KEYED, LOOSE},
    stage::Stage,
    truth::{Book, Used},
};

/// More windows than a round makes, of one tenant.
const WINDOWS_MAX: u32 = 1_000;
/// More disagreements than anybody reads.
const DISAGREEMENTS_MAX: u32 = 20;

/// What the ledger says, at one moment of quiet.
pub struct Books {
    windows: Vec<WindowTotals>,
}

impl Books {
    pub async fn read(stage: &Stage) -> Result<Self, String> {
        let mut windows = vec![];
        for tenant in KEYED.iter().chain([&LOOSE]) {
            let tenant = TenantId::new(*tenant).unwrap();
            let of_tenant = stage.world.ledger.tenant_windows(&tenant, None, WINDOWS_MAX).await;
            windows.extend(of_tenant.map_err(|error| error.to_string())?);
        }
        Ok(Self { windows })
    }

    fn used(&self) -> BTreeMap<Used, i64> {
        let mut used: BTreeMap<Used, i64> = BTreeMap::new();
        for window in &self.windows {
            let meter: &'static str = METERS
                .iter()
                .find(|meter| **meter == window.key.meter.as_str())
                .unwrap_or_else(|| panic!("nobody uses {}", window.key));
            *used.entry((window.key.tenant.to_string(), meter)).or_default() +=
                window.tally.amount_sum;
        }
        used
    }

    /// Meters of which the ledger has less than what was acknowledged, or more than that and all that
    /// is unknown.
    pub fn ledger_differs(&self, book: &Book) -> Vec<String> {
        let used = self.used();
        let mut differences = vec![];
        for meter in
            book.accounts.keys().chain(used.keys()).collect::<std::collections::BTreeSet<_>>()
        {
            let ledger = used.get(meter).copied().unwrap_or(0);
            let range = book.range(meter);
            if !range.contains(&ledger) {
                let (tenant, meter) = meter;
                differences.push(format!(
                    "{tenant}/{meter}: the ledger has {ledger}, clients know of {range:?}"
                ));
            }
        }
        differences
    }

    /// Windows in which more was admitted than the limit. Asked before operations of unknown fate are
    /// recorded after the fact.
    pub fn over_the_limit(&self, book: &Book) -> Vec<String> {
        let mut differences = vec![];
        for window in &self.windows {
            let (tenant, meter) = (window.key.tenant.as_str(), window.key.meter.as_str());
            let accounts = book.accounts.iter();
            let account =
                accounts.into_iter().find(|(used, _)| used.0 == tenant && used.1 == meter);
            let Some((used, account)) = account else { continue };
            let Some(limit) = account.limit else { continue };
            let taken = window.used + window.forfeited.cast_signed();
            let excused = account.excused + book.perhaps_late(used);
            if taken - excused > limit {
                differences.push(format!(
                    "{}: {taken} taken, {excused} of it after the fact, of {limit}",
                    window.key
                ));
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

    /// The window of a meter that has the most in it, which is the month's.
    pub fn taken(&self, tenant: &str, meter: &str) -> i64 {
        let of_meter = |window: &&WindowTotals| {
            window.key.tenant.as_str() == tenant && window.key.meter.as_str() == meter
        };
        let windows = self.windows.iter().filter(of_meter);
        windows.map(|window| window.used + window.forfeited.cast_signed()).sum()
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

/// What clients use.
const METERS: [&str; 6] = ["calls", "bursts", "jobs", "seats", "traffic", "pulses"];

/// What the ledger finds when it compares its own tables, and what it put aside.
pub async fn ledger_with_itself(stage: &Stage) -> Vec<String> {
    let mut differences = vec![];
    match stage.world.ledger.disagreements(None, DISAGREEMENTS_MAX).await {
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

/// Panics in what the programs logged.
pub fn panics(stage: &Stage) -> Vec<String> {
    let mut panics = vec![];
    for program in stage.programs() {
        let logged = program.logged();
        let lines = logged.lines().filter(|line| line.contains("panicked"));
        panics.extend(lines.map(|line| format!("{}: {line}", program.name)));
    }
    panics
}
