//! A backlog: kept from the ledger while it grows, then let go and watched until it is there.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use sqlx::{Postgres, Transaction};

use super::{
    family::family_cpu,
    sidecar::Sidecar,
    stage::{Database, Stage},
};
use crate::process::{cpu_time, resident_bytes};

/// A flush waits for a hold as long as it takes.
pub const PATIENT: [(&str, &str); 2] =
    [("--ledger-lock-timeout-ms", "3600000"), ("--ledger-statement-timeout-ms", "3600000")];
/// How often the ledger and the memory are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long nothing may come to the ledger before something must be wrong.
const STILL_MAX: Duration = Duration::from_secs(120);

/// Keeps the mark of the only open run from moving, and so what it flushes out of the ledger.
pub struct Hold {
    transaction: Transaction<'static, Postgres>,
}

impl Hold {
    pub async fn new(database: &Database) -> anyhow::Result<Self> {
        let mut transaction = database.pool.begin().await?;
        // Weak enough for rows that refer to the run.
        let lock = "SELECT run FROM runs WHERE closed_at IS NULL FOR NO KEY UPDATE";
        let held = sqlx::query(lock).execute(&mut *transaction).await?.rows_affected();
        if held != 1 {
            bail!("{held} runs are open, and not one");
        }
        Ok(Self { transaction })
    }

    pub async fn release(self) -> anyhow::Result<()> {
        Ok(self.transaction.rollback().await?)
    }
}

/// What draining a backlog took.
pub struct Drain {
    pub events: u64,
    pub seconds: f64,
    pub sidecar_cpu: Duration,
    pub postgres_cpu: Duration,
    pub resident: Resident,
}

/// Memory of the sidecar while it drains, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resident {
    pub start: u64,
    pub peak: u64,
    /// The most during the later half of the time, and during the earlier.
    pub later_peak: u64,
    pub earlier_peak: u64,
    pub end: u64,
}

impl Drain {
    pub fn events_per_second(&self) -> f64 {
        self.events as f64 / self.seconds
    }

    pub fn cpu_us_per_event(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / self.events.max(1) as f64
    }
}

impl Resident {
    fn of(samples: &[u64]) -> Option<Self> {
        let (earlier, later) = samples.split_at(samples.len().div_ceil(2));
        let earlier_peak = earlier.iter().copied().max()?;
        let later_peak = later.iter().copied().max().unwrap_or(earlier_peak);
        let peak = earlier_peak.max(later_peak);
        Some(Self {
            start: *samples.first()?,
            peak,
            later_peak,
            earlier_peak,
            end: *samples.last()?,
        })
    }

    /// How much more the later half of a backlog took than the earlier.
    pub fn growth(&self) -> f64 {
        self.later_peak as f64 / self.earlier_peak as f64
    }
}

/// Lets go of `hold` and waits until the ledger counts `expected` events.
pub async fn drain(
    stage: &Stage,
    database: &Database,
    sidecar: &Sidecar,
    hold: Hold,
    expected: u64,
) -> anyhow::Result<Drain> {
    let before = database.events().await?;
    let postgres = stage.postgres_pid()?;
    let mut samples = vec![resident_bytes(sidecar.pid())?];
    let cpu = (cpu_time(sidecar.pid())?, family_cpu(postgres)?);
    let started = Instant::now();
    hold.release().await?;
    let (mut flushed, mut moved) = (before, started);
    while flushed < expected {
        tokio::time::sleep(LOOK).await;
        samples.push(resident_bytes(sidecar.pid())?);
        let events = database.events().await?;
        if events > flushed {
            (flushed, moved) = (events, Instant::now());
        } else if moved.elapsed() > STILL_MAX {
            bail!("{flushed} of {expected} events are in the ledger, and no more come");
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    if flushed > expected {
        bail!("{flushed} events are in the ledger, of {expected} that were recorded");
    }
    Ok(Drain {
        events: expected - before,
        seconds,
        sidecar_cpu: cpu_time(sidecar.pid())? - cpu.0,
        postgres_cpu: family_cpu(postgres)?.saturating_sub(cpu.1),
        resident: Resident::of(&samples).context("no sample of the memory")?,
    })
}

/// Rows that were ever inserted or updated, by table, partitions under their parents. As of the last
/// time that each connection said so: all of it once they are closed.
pub async fn row_writes(database: &Database) -> anyhow::Result<BTreeMap<String, u64>> {
    let writes = r"SELECT regexp_replace(relname::text, '_(p\d+|\d{4}(_\d\d)*)$', '') AS of,
            sum(n_tup_ins + n_tup_upd)::bigint
        FROM pg_stat_user_tables GROUP BY 1";
    let rows: Vec<(String, i64)> = sqlx::query_as(writes).fetch_all(&database.pool).await?;
    Ok(rows.into_iter().map(|(table, writes)| (table, writes.unsigned_abs())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_grows_with_the_backlog_is_seen_in_the_later_half() {
        let resident = Resident::of(&[5, 9, 8, 9, 7]).unwrap();
        assert_eq!(
            resident,
            Resident { start: 5, peak: 9, later_peak: 9, earlier_peak: 9, end: 7 }
        );
        assert!(Resident::of(&[5, 6, 7, 8]).unwrap().growth() > 1.3);
        assert_eq!(Resident::of(&[5]).unwrap().growth(), 1.0);
        assert_eq!(Resident::of(&[]), None);
    }
}
