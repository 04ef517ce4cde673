//! Whether this process should be sent work, and why not.

use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

use crate::clock::Clock;

/// The reason of a condition of which nothing is known yet.
const STARTING: &str = "starting";
/// The reason of a condition whose part is gone.
const STOPPED: &str = "stopped";

/// How one condition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// All is well.
    Ok,
    /// Work is served, but on a fallback that lasts: shown, and no reason to send work elsewhere.
    Degraded,
    /// Work should go elsewhere.
    Failed,
}

/// One condition, as `/readyz` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConditionReport {
    pub name: &'static str,
    pub status: Status,
    /// Why it is not `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the status last changed.
    pub since: Timestamp,
}

/// All conditions of this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadinessReport {
    /// Whether no condition has failed.
    pub ready: bool,
    /// Whether a task of this process has died, which only a restart mends.
    pub dead: bool,
    /// Whose report this is: its process id on its machine.
    pub process: u32,
    pub conditions: Vec<ConditionReport>,
}

/// The conditions of one process. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct Readiness {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clock: Clock,
    /// Guards the list as a whole; held for a few instructions, never across an await.
    state: Mutex<State>,
    ready: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    conditions: Vec<ConditionReport>,
    dead: bool,
}

/// One condition, in the hands of the part that knows how it stands. A part that goes away fails
/// its condition: nobody knows any more.
#[derive(Debug)]
pub struct Condition {
    readiness: Readiness,
    name: &'static str,
}

impl Readiness {
    /// No conditions yet, which counts as ready: register every condition before work is let in.
    pub fn new(clock: Clock) -> Self {
        let (ready, _) = watch::channel(true);
        Self { inner: Arc::new(Inner { clock, state: Mutex::default(), ready }) }
    }

    /// Registers a condition, failed until its holder says otherwise. A name that is registered
    /// again (a part was started anew) is the same condition.
    pub fn condition(&self, name: &'static str) -> Condition {
        let condition = Condition { readiness: self.clone(), name };
        condition.fail(STARTING);
        condition
    }

    /// How everything stands now, in the order of registration.
    pub fn report(&self) -> ReadinessReport {
        let state = self.state();
        ReadinessReport {
            ready: is_ready(&state),
            dead: state.dead,
            process: std::process::id(),
            conditions: state.conditions.clone(),
        }
    }

    /// Follows whether the process is ready.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.inner.ready.subscribe()
    }

    /// Notes that a task has died: the process is not ready again before it is restarted.
    pub(super) fn mark_dead(&self, name: &'static str, reason: String) {
        self.state().dead = true;
        self.set(name, Status::Failed, Some(reason));
    }

    fn set(&self, name: &'static str, status: Status, reason: Option<String>) {
        let since = self.inner.clock.now();
        let mut state = self.state();
        match state.conditions.iter_mut().find(|known| known.name == name) {
            Some(known) => {
                if known.status != status {
                    known.since = since;
                    let was_starting = known.reason.as_deref() == Some(STARTING);
                    log_change(name, status, reason.as_deref(), was_starting);
                }
                (known.status, known.reason) = (status, reason);
            }
            None => state.conditions.push(ConditionReport { name, status, reason, since }),
        }
        metrics::gauge!("tollgate_condition_status", "condition" => name)
            .set(f64::from(status as u8));
        let ready = is_ready(&state);
        // Under the lock, so that the last value sent is the last one found.
        self.inner.ready.send_if_modified(|known| std::mem::replace(known, ready) != ready);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Condition {
    /// All is well.
    pub fn ok(&self) {
        self.readiness.set(self.name, Status::Ok, None);
    }

    /// Work is served on a fallback, for `reason`.
    pub fn degrade(&self, reason: impl Into<String>) {
        self.readiness.set(self.name, Status::Degraded, Some(reason.into()));
    }

    /// Work should go elsewhere, for `reason`.
    pub fn fail(&self, reason: impl Into<String>) {
        self.readiness.set(self.name, Status::Failed, Some(reason.into()));
    }
}

impl Drop for Condition {
    fn drop(&mut self) {
        self.fail(STOPPED);
    }
}

fn is_ready(state: &State) -> bool {
    !state.dead && state.conditions.iter().all(|condition| condition.status != Status::Failed)
}

/// Where every condition begins, and where it ends, is no news to worry about: what is wrong then is
/// told by the part that finds it.
fn log_change(condition: &str, status: Status, reason: Option<&str>, was_starting: bool) {
    match status {
        _ if reason == Some(STOPPED) => tracing::debug!(condition, "condition has stopped"),
        Status::Degraded if was_starting => {
            tracing::info!(condition, reason, "condition is degraded as yet");
        }
        Status::Ok => tracing::info!(condition, "condition is well"),
        Status::Degraded => tracing::warn!(condition, reason, "condition is degraded"),
        Status::Failed => tracing::warn!(condition, reason, "condition has failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readiness() -> Readiness {
        Readiness::new(Clock::manual(Timestamp::UNIX_EPOCH))
    }

    #[test]
    fn a_process_is_ready_once_every_condition_is_known_not_to_fail() {
        let readiness = readiness();
        let (journal, redis) = (readiness.condition("journal"), readiness.condition("redis"));
        assert!(!readiness.report().ready, "nothing is known yet");
        journal.ok();
        assert!(!*readiness.subscribe().borrow());
        redis.degrade("cannot be reached; spending what is held");
        assert!(*readiness.subscribe().borrow());
        let report = readiness.report();
        assert!(report.ready);
        assert_eq!(report.conditions[1].status, Status::Degraded);
        assert!(report.conditions[1].reason.as_ref().unwrap().contains("cannot be reached"));
    }

    #[test]
    fn a_condition_whose_holder_is_gone_has_failed() {
        let readiness = readiness();
        let journal = readiness.condition("journal");
        journal.ok();
        drop(journal);
        assert!(!readiness.report().ready);
    }

    #[test]
    fn since_tells_when_the_status_changed_and_not_when_it_was_last_said() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let readiness = Readiness::new(clock.clone());
        let redis = readiness.condition("redis");
        redis.ok();
        clock.set(Timestamp::from_second(5).unwrap());
        redis.ok();
        assert_eq!(readiness.report().conditions[0].since, Timestamp::UNIX_EPOCH);
        redis.degrade("slow");
        assert_eq!(readiness.report().conditions[0].since.as_second(), 5);
    }

    #[test]
    fn a_dead_process_is_not_ready_whatever_its_conditions_say() {
        let readiness = readiness();
        readiness.condition("flusher").ok();
        readiness.mark_dead("task", "flusher ended".into());
        let task = readiness.condition("task");
        task.ok();
        assert!(readiness.report().dead);
        assert!(!readiness.report().ready);
    }
}
