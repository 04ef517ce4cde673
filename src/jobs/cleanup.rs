//! `cleanup`: makes room ahead, deletes what is past its time.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;

use super::{
    error::JobError,
    job::{Job, JobContext, JobResult},
    schedule::Schedule,
};
use crate::{domain::invalid::Invalid, ledger::Ledger};

/// The job's name.
pub const NAME: &str = "cleanup";
/// Every hour.
pub const SCHEDULE: &str = "0 * * * *";

/// Most pieces of one table that one run deletes; the next run goes on.
const PIECES_MAX: u32 = 500;

/// How long things are kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Idempotency keys, at least.
    pub usage_keys: Duration,
    /// Ended runs of jobs; the latest of each job stays.
    pub job_runs: Duration,
}

/// The job, due by `pattern`.
pub fn job(
    ledger: Ledger,
    pattern: &str,
    zone: TimeZone,
    retention: Retention,
) -> Result<Job, Invalid> {
    let schedule = Schedule::new(pattern, zone)?;
    let does = "make partitions ahead, forget old keys, events and job runs";
    Ok(Job::new(NAME, does, schedule, move |context| run(ledger.clone(), retention, context)))
}

async fn run(ledger: Ledger, retention: Retention, context: JobContext) -> JobResult {
    ledger.ensure_event_partitions().await?;
    context.check_stop()?;
    let usage_keys = in_pieces(&ledger, &context, Old::Keys(retention.usage_keys)).await?;
    let usage_events = in_pieces(&ledger, &context, Old::Events).await?;
    context.check_stop()?;
    let partitions = ledger.drop_empty_event_partitions().await?;
    // By the real present: a run by hand in a set future must not delete today's history.
    let before = context.real_now.checked_sub(retention.job_runs).unwrap_or(Timestamp::UNIX_EPOCH);
    let job_runs = ledger.purge_job_runs(before).await?;
    Ok(json!({
        "usage_keys": usage_keys,
        "usage_events": usage_events,
        "usage_event_partitions": partitions,
        "job_runs": job_runs,
    }))
}

/// What is deleted piece by piece.
#[derive(Clone, Copy)]
enum Old {
    /// Idempotency keys that are older than this.
    Keys(Duration),
    /// Raw events past their meter's retention.
    Events,
}

/// Deletes until nothing is left, and gives the number of rows.
async fn in_pieces(ledger: &Ledger, context: &JobContext, old: Old) -> Result<u64, JobError> {
    let mut rows = 0;
    for _ in 0..PIECES_MAX {
        context.check_stop()?;
        let purged = match old {
            Old::Keys(retention) => ledger.purge_usage_keys(retention).await?,
            Old::Events => ledger.purge_events().await?,
        };
        if purged == 0 {
            break;
        }
        rows += purged;
    }
    Ok(rows)
}
