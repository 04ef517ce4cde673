//! All jobs, as the worker runs them and `tollgate job` lists them.

use std::time::Duration;

use super::{
    cleanup::{self, Retention},
    config::JobsConfig,
    job::Job,
    overages, rollover,
};
use crate::{domain::invalid::Invalid, ledger::Ledger};

const DAY: Duration = Duration::from_secs(86_400);

/// Every job, due by the configured schedules.
pub fn jobs(ledger: &Ledger, config: &JobsConfig) -> Result<Vec<Job>, Invalid> {
    let zone = config.time_zone()?;
    let retention =
        Retention { usage_keys: DAY * config.usage_keys_days, job_runs: DAY * config.history_days };
    Ok(vec![
        overages::job(ledger.clone(), &config.overages, zone.clone())?,
        rollover::job(ledger.clone(), &config.rollover, zone.clone())?,
        cleanup::job(ledger.clone(), &config.cleanup, zone, retention)?,
    ])
}
