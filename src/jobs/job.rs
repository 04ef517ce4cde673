//! One scheduled job: its name, when it is due, and what it does.

use std::fmt;

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{error::JobError, schedule::Schedule};

/// What a job is told about the attempt that it is.
#[derive(Clone, Debug)]
pub struct JobContext {
    /// The present to work by: the real one, or the one set for a run by hand.
    pub now: Timestamp,
    /// The real present, where the two have to be told apart.
    pub real_now: Timestamp,
    /// Cancelled when the worker stops: finish what is begun, then return [`JobError::Stopped`].
    pub stop: CancellationToken,
}

impl JobContext {
    /// To be asked between two steps of a job.
    pub fn check_stop(&self) -> Result<(), JobError> {
        if self.stop.is_cancelled() { Err(JobError::Stopped) } else { Ok(()) }
    }
}

/// What an attempt gives: a summary for the history, or why there is none.
pub type JobResult = Result<Value, JobError>;

type Body = Box<dyn Fn(JobContext) -> BoxFuture<'static, JobResult> + Send + Sync>;

/// A job. Its effects have natural keys, so that an attempt too many changes nothing.
pub struct Job {
    pub name: &'static str,
    /// One line for people.
    pub does: &'static str,
    pub schedule: Schedule,
    body: Body,
}

impl Job {
    /// A job whose every attempt calls `body`.
    pub fn new<F>(
        name: &'static str,
        does: &'static str,
        schedule: Schedule,
        body: impl Fn(JobContext) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = JobResult> + Send + 'static,
    {
        Self { name, does, schedule, body: Box::new(move |context| Box::pin(body(context))) }
    }

    /// Begins one attempt.
    pub fn begin(&self, context: JobContext) -> BoxFuture<'static, JobResult> {
        (self.body)(context)
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("name", &self.name).field("schedule", &self.schedule).finish()
    }
}
