//! Runs jobs when they are due: each tick once, whatever the number of workers.
//!
//! - A tick's run is a row with the key (job, scheduled time); who inserts it runs it.
//! - The claim is a lease that the worker renews. A worker that dies leaves the run to whoever finds
//!   the lease over; one that was only slow finds at the end that the run is no longer its own.
//! - Missed ticks: only the latest is run, since every job works through all that is due by then.
//! - A failed attempt is tried again with growing waits, [`ATTEMPTS_MAX`] times in all, unless the
//!   job says that it makes no sense. Then the run has failed for good; the next tick is another.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    attempt::{Attempt, AttemptEnd, lease_end},
    error::JobError,
    job::Job,
};
use crate::{
    clock::Clock,
    ledger::{
        Ledger, LedgerError,
        job_runs::{Claim, ClaimedRun, JobRun, JobRunEnd, StartedBy},
    },
};

/// How often a run is tried, crashes of its worker included.
pub const ATTEMPTS_MAX: u32 = 5;
/// Wait after the first failed attempt; doubles with each further one.
pub const BACKOFF_MIN: SignedDuration = SignedDuration::from_secs(30);
/// Longest sleep between two looks for work: how late a retry or a takeover may be noticed.
const POLL_MAX: Duration = Duration::from_secs(5);

/// Runs the jobs that it is given, as one worker.
#[derive(Debug)]
pub struct Runner {
    ledger: Ledger,
    jobs: Vec<Job>,
    clock: Clock,
    /// Name of this worker in the history.
    worker: String,
}

/// What became of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct RunReport {
    pub job: &'static str,
    pub scheduled_at: Timestamp,
    pub attempt: u32,
    pub outcome: Outcome,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Succeeded {
        summary: serde_json::Value,
    },
    /// `retry_at`: when it is tried again; `None` = only by hand.
    Failed {
        error: String,
        retry_at: Option<Timestamp>,
    },
    /// The worker stops; another goes on.
    GivenBack,
    /// Another worker has taken the run over; what this one did stands, and happened once.
    TakenOver,
}

impl Outcome {
    /// As metrics and logs call it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { retry_at: Some(_), .. } => "retried",
            Self::Failed { retry_at: None, .. } => "failed",
            Self::GivenBack => "given_back",
            Self::TakenOver => "taken_over",
        }
    }
}

/// A run that somebody asks for.
#[derive(Clone, Copy, Debug)]
pub struct HandRun<'a> {
    pub job: &'a str,
    /// The tick that it counts as; absent = a run of its own, named by the real present.
    pub scheduled_at: Option<Timestamp>,
    /// The present to work by; absent = the real one.
    pub now: Option<Timestamp>,
}

/// What a request by hand led to.
#[derive(Clone, Debug, PartialEq)]
pub enum HandRunEnd {
    /// There is no such job.
    UnknownJob,
    /// That tick has a run that is going on or has succeeded: nothing was done.
    AlreadyRun(Box<JobRun>),
    Ran(RunReport),
}

impl Runner {
    /// A worker called `worker` that runs `jobs`.
    pub fn new(ledger: Ledger, jobs: Vec<Job>, clock: Clock, worker: String) -> Self {
        Self { ledger, jobs, clock, worker }
    }

    /// The jobs, in the order they were given.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// Runs jobs as they fall due until `stop` is cancelled; then waits for the attempts that are
    /// going on to end or to be given back. Each job has its own loop, so a long one holds none up.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut loops = JoinSet::new();
        for index in 0..self.jobs.len() {
            let (runner, stop) = (Arc::clone(&self), stop.clone());
            loops.spawn(async move { runner.run_job(&runner.jobs[index], &stop).await });
        }
        while loops.join_next().await.is_some() {}
    }

    async fn run_job(&self, job: &Job, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let wait = match self.step(job, stop).await {
                Ok(Some(_)) => continue,
                Ok(None) => self.until_next_look(job),
                Err(error) => {
                    tracing::warn!(job = job.name, %error, "cannot look for due runs");
                    POLL_MAX
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    fn until_next_look(&self, job: &Job) -> Duration {
        let now = self.clock.now();
        let tick = job.schedule.next_tick(now).map(|tick| tick.duration_since(now));
        tick.and_then(|wait| Duration::try_from(wait).ok()).map_or(POLL_MAX, |w| w.min(POLL_MAX))
    }

    /// Runs one attempt of `job`, if one is due by the clock: first what was left unfinished, then
    /// the latest tick. `None` = nothing is due.
    pub async fn step(
        &self,
        job: &Job,
        stop: &CancellationToken,
    ) -> Result<Option<RunReport>, LedgerError> {
        let claim = self.claim();
        if let Some(run) = self.ledger.claim_unfinished_job_run(job.name, claim).await? {
            return self.attempt(job, run, claim, stop).await.map(Some);
        }
        let Some(tick) = job.schedule.last_tick(claim.now) else { return Ok(None) };
        let run = ClaimedRun {
            scheduled_at: tick,
            attempt: 1,
            started_by: StartedBy::Schedule,
            now_override: None,
        };
        if !self.ledger.claim_job_tick(job.name, run, claim).await? {
            return Ok(None);
        }
        self.attempt(job, run, claim, stop).await.map(Some)
    }

    /// Runs one attempt by hand. A tick that has failed is tried anew.
    pub async fn run_by_hand(
        &self,
        asked: HandRun<'_>,
        stop: &CancellationToken,
    ) -> Result<HandRunEnd, LedgerError> {
        let Some(job) = self.jobs.iter().find(|job| job.name == asked.job) else {
            return Ok(HandRunEnd::UnknownJob);
        };
        let claim = self.claim();
        let run = ClaimedRun {
            scheduled_at: stored(asked.scheduled_at.unwrap_or(claim.now)),
            attempt: 1,
            started_by: StartedBy::Hand,
            now_override: asked.now.map(stored),
        };
        if self.ledger.claim_job_tick(job.name, run, claim).await? {
            return Ok(HandRunEnd::Ran(self.attempt(job, run, claim, stop).await?));
        }
        if let Some(again) = self.ledger.claim_failed_job_run(job.name, run, claim).await? {
            return Ok(HandRunEnd::Ran(self.attempt(job, again, claim, stop).await?));
        }
        let existing = self.ledger.job_run(job.name, run.scheduled_at).await?;
        Ok(existing.map_or(HandRunEnd::UnknownJob, |run| HandRunEnd::AlreadyRun(Box::new(run))))
    }

    async fn attempt(
        &self,
        job: &Job,
        run: ClaimedRun,
        claim: Claim<'_>,
        stop: &CancellationToken,
    ) -> Result<RunReport, LedgerError> {
        tracing::info!(
            job = job.name, scheduled_at = %run.scheduled_at, attempt = run.attempt, "job started"
        );
        let attempt = Attempt { ledger: &self.ledger, clock: &self.clock, job, run, claim };
        let ended = if run.attempt > ATTEMPTS_MAX {
            let died = anyhow::anyhow!("its worker was lost {ATTEMPTS_MAX} times");
            AttemptEnd::Returned(Err(JobError::Fail(died)))
        } else {
            attempt.run(stop).await
        };
        let now = self.clock.now();
        let outcome = outcome_of(ended, run.attempt, now);
        let still_ours = match &outcome {
            Outcome::TakenOver => true,
            Outcome::Succeeded { summary } => {
                self.finish(&attempt, now, JobRunEnd::Succeeded { summary }).await?
            }
            Outcome::Failed { error, retry_at } => {
                let end = JobRunEnd::Failed { error, retry_at: *retry_at };
                self.finish(&attempt, now, end).await?
            }
            Outcome::GivenBack => self.finish(&attempt, now, JobRunEnd::GivenBack).await?,
        };
        let outcome = if still_ours { outcome } else { Outcome::TakenOver };
        observe(job, &run, &outcome, now);
        let (job, scheduled_at) = (job.name, run.scheduled_at);
        Ok(RunReport { job, scheduled_at, attempt: run.attempt, outcome })
    }

    async fn finish(
        &self,
        attempt: &Attempt<'_>,
        now: Timestamp,
        end: JobRunEnd<'_>,
    ) -> Result<bool, LedgerError> {
        let claim = Claim { now, ..attempt.claim };
        self.ledger.finish_job_run(attempt.job.name, attempt.run.scheduled_at, claim, end).await
    }

    fn claim(&self) -> Claim<'_> {
        let now = stored(self.clock.now());
        Claim { id: Uuid::new_v4(), worker: &self.worker, now, lease_until: lease_end(now) }
    }
}

fn outcome_of(ended: AttemptEnd, attempt: u32, now: Timestamp) -> Outcome {
    match ended {
        AttemptEnd::LostClaim => Outcome::TakenOver,
        AttemptEnd::GivenBack | AttemptEnd::Returned(Err(JobError::Stopped)) => Outcome::GivenBack,
        AttemptEnd::Returned(Ok(summary)) => Outcome::Succeeded { summary },
        AttemptEnd::Returned(Err(error @ JobError::Fail(_))) => {
            Outcome::Failed { error: error.to_string(), retry_at: None }
        }
        AttemptEnd::Returned(Err(error @ JobError::Retry(_))) => {
            let wait = BACKOFF_MIN * 2i32.pow(attempt.clamp(1, ATTEMPTS_MAX) - 1);
            let retry_at =
                (attempt < ATTEMPTS_MAX).then(|| now.checked_add(wait).unwrap_or(Timestamp::MAX));
            Outcome::Failed { error: error.to_string(), retry_at }
        }
    }
}

/// Postgres keeps microseconds; a key must read back as it was written.
fn stored(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

fn observe(job: &Job, run: &ClaimedRun, outcome: &Outcome, now: Timestamp) {
    let labels = [("job", job.name), ("outcome", outcome.as_str())];
    metrics::counter!("tollgate_job_runs_total", &labels).increment(1);
    let (name, scheduled_at, attempt) = (job.name, run.scheduled_at, run.attempt);
    match outcome {
        Outcome::Succeeded { summary } => {
            metrics::gauge!("tollgate_job_last_success_timestamp_seconds", "job" => name)
                .set(now.as_second() as f64);
            tracing::info!(job = name, %scheduled_at, attempt, %summary, "job succeeded");
        }
        Outcome::Failed { error, retry_at: Some(retry_at) } => {
            tracing::warn!(job = name, %scheduled_at, attempt, error, %retry_at, "job will retry");
        }
        Outcome::Failed { error, retry_at: None } => {
            tracing::error!(job = name, %scheduled_at, attempt, error, "job failed");
        }
        Outcome::GivenBack => tracing::info!(job = name, %scheduled_at, "job given back"),
        Outcome::TakenOver => {
            tracing::warn!(job = name, %scheduled_at, attempt, "job was taken over by another");
        }
    }
}

/// Describes this module's metrics.
pub fn describe_metrics() {
    metrics::describe_counter!(
        "tollgate_job_runs_total",
        "Attempts of jobs by outcome: succeeded, retried, failed, given_back, taken_over"
    );
    metrics::describe_histogram!("tollgate_job_seconds", "How long an attempt of a job took");
    metrics::describe_gauge!(
        "tollgate_job_last_success_timestamp_seconds",
        "When a job last succeeded in this process, Unix seconds"
    );
    metrics::describe_counter!("tollgate_charges_total", "Charges of more than 0, by kind");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(attempt: u32) -> Outcome {
        let error = JobError::Retry(anyhow::anyhow!("away"));
        outcome_of(AttemptEnd::Returned(Err(error)), attempt, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn waits_double_and_end_with_the_last_attempt() {
        let waits: Vec<_> = (1..=ATTEMPTS_MAX)
            .map(|attempt| match failed(attempt) {
                Outcome::Failed { retry_at, .. } => retry_at.map(Timestamp::as_second),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(waits, [Some(30), Some(60), Some(120), Some(240), None]);
    }

    #[test]
    fn what_makes_no_sense_to_retry_is_not() {
        let error = JobError::Fail(anyhow::anyhow!("no such plan").context("pricing"));
        let outcome = outcome_of(AttemptEnd::Returned(Err(error)), 1, Timestamp::UNIX_EPOCH);
        let expected =
            Outcome::Failed { error: "pricing: no such plan".to_owned(), retry_at: None };
        assert_eq!(outcome, expected);
    }
}
