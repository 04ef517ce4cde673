//! Which worker runs which tick of which job, and how it ended.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::Value;
use uuid::Uuid;

use super::{error::LedgerError, pool::Ledger};

/// What first started a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartedBy {
    Schedule,
    Hand,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobRunStatus {
    Running,
    Succeeded,
    Failed,
}

/// Who asks for a run, and until when nobody else may have it.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Random; proves at the end that the run was not taken over.
    pub id: Uuid,
    pub worker: &'a str,
    pub now: Timestamp,
    /// Unless renewed by then, the worker is taken for dead.
    pub lease_until: Timestamp,
}

/// A run that a worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedRun {
    pub scheduled_at: Timestamp,
    /// Attempts begun, this one included.
    pub attempt: u32,
    pub started_by: StartedBy,
    pub now_override: Option<Timestamp>,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub enum JobRunEnd<'a> {
    Succeeded {
        summary: &'a Value,
    },
    /// `retry_at`: when it may be tried again; `None` = only by hand.
    Failed {
        error: &'a str,
        retry_at: Option<Timestamp>,
    },
    /// The worker stops; another may go on at once, and the attempt does not count.
    GivenBack,
}

/// One row of the history.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRun {
    pub job: String,
    pub scheduled_at: Timestamp,
    pub status: JobRunStatus,
    pub started_by: StartedBy,
    pub now_override: Option<Timestamp>,
    pub attempt: u32,
    pub worker: String,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    pub retry_at: Option<Timestamp>,
    pub error: Option<String>,
    pub summary: Option<Value>,
}

impl Ledger {
    /// Makes the run of one tick, for whoever comes first: `false` when there is one already.
    pub async fn claim_job_tick(
        &self,
        job: &str,
        run: ClaimedRun,
        claim: Claim<'_>,
    ) -> Result<bool, LedgerError> {
        let made = sqlx::query!(
            "INSERT INTO job_runs (job, scheduled_at, status, started_by, now_override, attempt,
                                   worker, claim, started_at, lease_until)
             VALUES ($1, $2, 'running', $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT DO NOTHING",
            job,
            run.scheduled_at.to_sqlx() as _,
            run.started_by.as_str(),
            run.now_override.map(|at| at.to_sqlx()) as _,
            i32::try_from(run.attempt).unwrap_or(i32::MAX),
            claim.worker,
            claim.id,
            claim.now.to_sqlx() as _,
            claim.lease_until.to_sqlx() as _,
        )
        .execute(self.query("claim_job_tick"))
        .await?
        .rows_affected();
        Ok(made == 1)
    }

    /// When the last run of `job` began that succeeded and worked by the real present.
    pub async fn last_succeeded_job_start(
        &self,
        job: &str,
    ) -> Result<Option<Timestamp>, LedgerError> {
        let row = sqlx::query!(
            "SELECT max(started_at) AS started_at FROM job_runs
             WHERE job = $1 AND status = 'succeeded' AND now_override IS NULL",
            job
        )
        .fetch_one(self.query("last_succeeded_job_start"))
        .await?;
        Ok(row.started_at.map(|at| at.to_jiff()))
    }

    /// Takes over the oldest run of `job` that its worker left behind or that is due to be tried
    /// again, if there is one.
    pub async fn claim_unfinished_job_run(
        &self,
        job: &str,
        claim: Claim<'_>,
    ) -> Result<Option<ClaimedRun>, LedgerError> {
        let row = sqlx::query!(
            "UPDATE job_runs
             SET status = 'running', attempt = attempt + 1, worker = $2, claim = $3,
                 started_at = $4, lease_until = $5, finished_at = NULL, retry_at = NULL
             WHERE (job, scheduled_at) IN (
                 SELECT job, scheduled_at FROM job_runs
                 WHERE job = $1 AND ((status = 'running' AND lease_until <= $4)
                                     OR (status = 'failed' AND retry_at <= $4))
                 ORDER BY scheduled_at
                 LIMIT 1
                 FOR UPDATE SKIP LOCKED)
             RETURNING scheduled_at, attempt, started_by, now_override",
            job,
            claim.worker,
            claim.id,
            claim.now.to_sqlx() as _,
            claim.lease_until.to_sqlx() as _,
        )
        .fetch_optional(self.query("claim_unfinished_job_run"))
        .await?;
        row.map(|row| {
            Ok(ClaimedRun {
                scheduled_at: row.scheduled_at.to_jiff(),
                attempt: u32::try_from(row.attempt).unwrap_or(0),
                started_by: StartedBy::read(&row.started_by, job)?,
                now_override: row.now_override.map(|at| at.to_jiff()),
            })
        })
        .transpose()
    }

    /// Takes the run of one tick that failed or was left behind, and counts its attempts anew:
    /// somebody asks for it by hand. `None` when it is running, has succeeded or does not exist.
    pub async fn claim_failed_job_run(
        &self,
        job: &str,
        run: ClaimedRun,
        claim: Claim<'_>,
    ) -> Result<Option<ClaimedRun>, LedgerError> {
        let row = sqlx::query!(
            "UPDATE job_runs
             SET status = 'running', attempt = $3, now_override = $4, worker = $5, claim = $6,
                 started_at = $7, lease_until = $8, finished_at = NULL, retry_at = NULL
             WHERE job = $1 AND scheduled_at = $2
               AND (status = 'failed' OR (status = 'running' AND lease_until <= $7))
             RETURNING started_by",
            job,
            run.scheduled_at.to_sqlx() as _,
            i32::try_from(run.attempt).unwrap_or(i32::MAX),
            run.now_override.map(|at| at.to_sqlx()) as _,
            claim.worker,
            claim.id,
            claim.now.to_sqlx() as _,
            claim.lease_until.to_sqlx() as _,
        )
        .fetch_optional(self.query("claim_failed_job_run"))
        .await?;
        row.map(|row| Ok(ClaimedRun { started_by: StartedBy::read(&row.started_by, job)?, ..run }))
            .transpose()
    }

    /// Keeps a run for longer; `false` when it is no longer this claim's.
    pub async fn renew_job_run(
        &self,
        job: &str,
        scheduled_at: Timestamp,
        claim: Claim<'_>,
    ) -> Result<bool, LedgerError> {
        let renewed = sqlx::query!(
            "UPDATE job_runs SET lease_until = $4
             WHERE job = $1 AND scheduled_at = $2 AND claim = $3 AND status = 'running'",
            job,
            scheduled_at.to_sqlx() as _,
            claim.id,
            claim.lease_until.to_sqlx() as _,
        )
        .execute(self.query("renew_job_run"))
        .await?
        .rows_affected();
        Ok(renewed == 1)
    }

    /// Ends an attempt; `false` when the run is no longer this claim's, and nothing was changed.
    pub async fn finish_job_run(
        &self,
        job: &str,
        scheduled_at: Timestamp,
        claim: Claim<'_>,
        end: JobRunEnd<'_>,
    ) -> Result<bool, LedgerError> {
        let (status, error, retry_at, summary, not_counted) = match end {
            JobRunEnd::Succeeded { summary } => ("succeeded", None, None, Some(summary), 0),
            JobRunEnd::Failed { error, retry_at } => ("failed", Some(error), retry_at, None, 0),
            JobRunEnd::GivenBack => {
                ("failed", Some("the worker stopped"), Some(claim.now), None, 1)
            }
        };
        let finished = sqlx::query!(
            "UPDATE job_runs
             SET status = $4, finished_at = $5, error = $6, retry_at = $7, summary = $8,
                 attempt = attempt - $9
             WHERE job = $1 AND scheduled_at = $2 AND claim = $3 AND status = 'running'",
            job,
            scheduled_at.to_sqlx() as _,
            claim.id,
            status,
            claim.now.to_sqlx() as _,
            error,
            retry_at.map(|at| at.to_sqlx()) as _,
            summary,
            not_counted,
        )
        .execute(self.query("finish_job_run"))
        .await?
        .rows_affected();
        Ok(finished == 1)
    }

    /// The run of one tick, if there is one.
    pub async fn job_run(
        &self,
        job: &str,
        scheduled_at: Timestamp,
    ) -> Result<Option<JobRun>, LedgerError> {
        let row = sqlx::query_as!(
            Row,
            "SELECT job, scheduled_at, status, started_by, now_override, attempt, worker,
                    started_at, finished_at, retry_at, error, summary
             FROM job_runs WHERE job = $1 AND scheduled_at = $2",
            job,
            scheduled_at.to_sqlx() as _,
        )
        .fetch_optional(self.query("job_run"))
        .await?;
        row.map(JobRun::try_from).transpose()
    }

    /// The latest runs, of one job or of all, the latest tick first; at most `limit`.
    pub async fn job_history(
        &self,
        job: Option<&str>,
        limit: u32,
    ) -> Result<Vec<JobRun>, LedgerError> {
        let rows = sqlx::query_as!(
            Row,
            "SELECT job, scheduled_at, status, started_by, now_override, attempt, worker,
                    started_at, finished_at, retry_at, error, summary
             FROM job_runs WHERE $1::text IS NULL OR job = $1
             ORDER BY scheduled_at DESC, job
             LIMIT $2",
            job,
            i64::from(limit),
        )
        .fetch_all(self.query("job_history"))
        .await?;
        rows.into_iter().map(JobRun::try_from).collect()
    }

    /// Deletes what ended before `before`, except each job's latest tick, which keeps that tick
    /// from being run again. Gives the number of deleted runs.
    pub async fn purge_job_runs(&self, before: Timestamp) -> Result<u64, LedgerError> {
        let purged = sqlx::query!(
            "DELETE FROM job_runs AS old
             WHERE finished_at < $1 AND retry_at IS NULL
               AND EXISTS (SELECT 1 FROM job_runs AS newer
                           WHERE newer.job = old.job AND newer.scheduled_at > old.scheduled_at
                             AND newer.started_by = 'schedule')",
            before.to_sqlx() as _,
        )
        .execute(self.query("purge_job_runs"))
        .await?;
        Ok(purged.rows_affected())
    }
}

impl StartedBy {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Hand => "hand",
        }
    }

    fn read(text: &str, job: &str) -> Result<Self, LedgerError> {
        match text {
            "schedule" => Ok(Self::Schedule),
            "hand" => Ok(Self::Hand),
            _ => Err(corrupt("started_by", job, text)),
        }
    }
}

impl JobRunStatus {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }

    fn read(text: &str, job: &str) -> Result<Self, LedgerError> {
        match text {
            "running" => Ok(Self::Running),
            "succeeded" => Ok(Self::Succeeded),
            "failed" => Ok(Self::Failed),
            _ => Err(corrupt("status", job, text)),
        }
    }
}

fn corrupt(column: &'static str, job: &str, value: &str) -> LedgerError {
    LedgerError::Corrupt {
        table: "job_runs",
        column,
        key: job.to_owned(),
        value: value.to_owned(),
        problem: "not a word that this version knows".to_owned(),
    }
}

struct Row {
    job: String,
    scheduled_at: jiff_sqlx::Timestamp,
    status: String,
    started_by: String,
    now_override: Option<jiff_sqlx::Timestamp>,
    attempt: i32,
    worker: String,
    started_at: jiff_sqlx::Timestamp,
    finished_at: Option<jiff_sqlx::Timestamp>,
    retry_at: Option<jiff_sqlx::Timestamp>,
    error: Option<String>,
    summary: Option<Value>,
}

impl TryFrom<Row> for JobRun {
    type Error = LedgerError;

    fn try_from(row: Row) -> Result<Self, LedgerError> {
        Ok(Self {
            status: JobRunStatus::read(&row.status, &row.job)?,
            started_by: StartedBy::read(&row.started_by, &row.job)?,
            scheduled_at: row.scheduled_at.to_jiff(),
            now_override: row.now_override.map(|at| at.to_jiff()),
            attempt: u32::try_from(row.attempt).unwrap_or(0),
            worker: row.worker,
            started_at: row.started_at.to_jiff(),
            finished_at: row.finished_at.map(|at| at.to_jiff()),
            retry_at: row.retry_at.map(|at| at.to_jiff()),
            error: row.error,
            summary: row.summary,
            job: row.job,
        })
    }
}
