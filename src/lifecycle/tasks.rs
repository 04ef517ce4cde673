//! The tasks that carry a process: each has a token that stops it and somebody who notices its end.

use std::{
    collections::BTreeMap,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::FutureExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::readiness::Readiness;

/// Tasks that are stopped together.
#[derive(Clone, Debug)]
pub struct TaskGroup {
    stop: CancellationToken,
    tracker: TaskTracker,
    readiness: Readiness,
    running: Arc<Running>,
}

/// How many tasks run under each name; guarded for a few instructions, never across an await.
#[derive(Debug, Default)]
struct Running(Mutex<BTreeMap<&'static str, usize>>);

/// Tasks that did not end in time and were left behind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("still running after {waited:?}: {}", names.join(", "))]
pub struct StillRunning {
    pub names: Vec<&'static str>,
    pub waited: Duration,
}

impl TaskGroup {
    /// An empty group, whose dead take `readiness` with them.
    pub fn new(readiness: Readiness) -> Self {
        Self {
            stop: CancellationToken::new(),
            tracker: TaskTracker::new(),
            readiness,
            running: Arc::default(),
        }
    }

    /// Cancelled when the group is to stop.
    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task that runs until the group stops: `task` is given the token to heed. When it
    /// ends before that, however it ends, the process is no longer ready.
    pub fn run<F, E>(&self, name: &'static str, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        let work = AssertUnwindSafe(task(self.token())).catch_unwind();
        let (stop, readiness) = (self.token(), self.readiness.clone());
        let running = self.running.clone();
        running.started(name);
        self.tracker.spawn(async move {
            let death = match work.await {
                Ok(Ok(())) if stop.is_cancelled() => None,
                Ok(Ok(())) => Some("ended by itself".to_owned()),
                Ok(Err(error)) => Some(format!("failed: {error}")),
                Err(panic) => Some(format!("panicked: {}", panic_message(panic.as_ref()))),
            };
            if let Some(reason) = death {
                tracing::error!(task = name, reason, "a task has died");
                metrics::counter!("tollgate_tasks_died_total", "task" => name).increment(1);
                readiness.mark_dead(name, format!("task {reason}"));
            }
            running.ended(name);
        });
    }

    /// Asks all tasks to stop and waits for them, at most `wait_max`.
    pub async fn stop(&self, wait_max: Duration) -> Result<(), StillRunning> {
        self.stop.cancel();
        self.tracker.close();
        match tokio::time::timeout(wait_max, self.tracker.wait()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(StillRunning { names: self.running.names(), waited: wait_max }),
        }
    }
}

impl Running {
    fn started(&self, name: &'static str) {
        *self.lock().entry(name).or_default() += 1;
    }

    fn ended(&self, name: &'static str) {
        let mut running = self.lock();
        if let Some(count) = running.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                running.remove(name);
            }
        }
    }

    fn names(&self) -> Vec<&'static str> {
        self.lock().keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, usize>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::clock::Clock;

    fn group() -> (TaskGroup, Readiness) {
        let readiness = Readiness::new(Clock::System);
        (TaskGroup::new(readiness.clone()), readiness)
    }

    async fn until_stopped(stop: CancellationToken) -> Result<(), Infallible> {
        stop.cancelled().await;
        Ok(())
    }

    #[tokio::test]
    async fn a_task_that_heeds_its_token_leaves_readiness_alone() {
        let (group, readiness) = group();
        group.run("patient", until_stopped);
        assert_eq!(group.stop(Duration::from_secs(10)).await, Ok(()));
        assert!(!readiness.report().dead);
    }

    #[tokio::test]
    async fn a_task_that_ends_early_fails_or_panics_takes_readiness_with_it() {
        for (how, expected) in [
            ("return", "ended by itself"),
            ("fail", "failed: no disk"),
            ("panic", "panicked: oops"),
        ] {
            let (group, readiness) = group();
            group.run("fragile", move |_| async move {
                match how {
                    "return" => Ok(()),
                    "fail" => Err("no disk"),
                    _ => panic!("oops"),
                }
            });
            readiness.subscribe().wait_for(|ready| !ready).await.unwrap();
            let report = readiness.report();
            assert!(report.dead, "{how}");
            let reason = report.conditions[0].reason.clone().unwrap();
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[tokio::test]
    async fn a_task_that_does_not_stop_in_time_is_named() {
        let (group, _) = group();
        group.run("patient", until_stopped);
        group.run("deaf", |_| std::future::pending::<Result<(), Infallible>>());
        let error = group.stop(Duration::from_millis(30)).await.unwrap_err();
        assert_eq!(error.names, ["deaf"]);
        assert_eq!(error.to_string(), "still running after 30ms: deaf");
    }
}
