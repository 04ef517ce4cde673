//! One attempt of a job: works, keeps its claim alive meanwhile, and stops when it must.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{
    error::JobError,
    job::{Job, JobContext, JobResult},
};
use crate::{
    clock::Clock,
    ledger::{
        Ledger,
        job_runs::{Claim, ClaimedRun},
    },
};

/// How long a worker may be silent before its run is another's.
pub const LEASE: SignedDuration = SignedDuration::from_secs(60);
/// A claim is renewed this often within its lease, so that two failures in a row lose nothing.
const RENEWALS_PER_LEASE: u32 = 4;
/// How long a job may go on after the worker was told to stop, before it is cut off and given back.
const STOP_WAIT_MAX: Duration = Duration::from_secs(10);

/// A claimed run, ready to be worked on.
pub(super) struct Attempt<'a> {
    pub ledger: &'a Ledger,
    pub clock: &'a Clock,
    pub job: &'a Job,
    pub run: ClaimedRun,
    pub claim: Claim<'a>,
}

/// How working on it ended.
#[derive(Debug)]
pub(super) enum AttemptEnd {
    Returned(JobResult),
    /// The worker stops, and the job was not done in time.
    GivenBack,
    /// Another has it, or may have: the lease could not be renewed in time.
    LostClaim,
}

impl Attempt<'_> {
    /// Runs the job to its end, or to the end of its claim. Work that is cut off ends at an await,
    /// where its open transaction is rolled back.
    pub async fn run(&self, stop: &CancellationToken) -> AttemptEnd {
        let real_now = self.clock.now();
        let now = self.run.now_override.unwrap_or(real_now);
        let context = JobContext { now, real_now, stop: stop.clone() };
        let started = Instant::now();
        let work = AssertUnwindSafe(self.job.begin(context)).catch_unwind();
        let end = tokio::select! {
            result = work => AttemptEnd::Returned(result.unwrap_or_else(|panic| Err(panicked(&*panic)))),
            () = self.keep_claim() => AttemptEnd::LostClaim,
            () = stopped_for_long(stop) => AttemptEnd::GivenBack,
        };
        metrics::histogram!("tollgate_job_seconds", "job" => self.job.name)
            .record(started.elapsed().as_secs_f64());
        end
    }

    /// Renews the claim until it is lost.
    async fn keep_claim(&self) {
        let every = LEASE.unsigned_abs() / RENEWALS_PER_LEASE;
        let mut held_until = self.claim.lease_until;
        loop {
            tokio::time::sleep(every).await;
            let now = self.clock.now();
            let claim = Claim { now, lease_until: lease_end(now), ..self.claim };
            match self.renew(claim).await {
                Ok(true) => held_until = claim.lease_until,
                Ok(false) => return,
                Err(error) if self.clock.now() < held_until => {
                    tracing::warn!(job = self.job.name, %error, "cannot renew the claim yet");
                }
                Err(error) => {
                    tracing::error!(job = self.job.name, %error, "the claim could not be renewed");
                    return;
                }
            }
        }
    }

    async fn renew(&self, claim: Claim<'_>) -> Result<bool, crate::ledger::LedgerError> {
        let scheduled_at: Timestamp = self.run.scheduled_at;
        self.ledger.renew_job_run(self.job.name, scheduled_at, claim).await
    }
}

/// The end of a lease that is taken or renewed at `now`.
pub(super) fn lease_end(now: Timestamp) -> Timestamp {
    now.checked_add(LEASE).unwrap_or(Timestamp::MAX)
}

async fn stopped_for_long(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(STOP_WAIT_MAX).await;
}

/// A panic is a defect, but perhaps one of the moment; the bound on attempts holds it in.
fn panicked(panic: &(dyn std::any::Any + Send)) -> JobError {
    let said = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    JobError::Retry(anyhow!("panicked: {}", said.as_deref().unwrap_or("no message")))
}
