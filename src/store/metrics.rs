//! The store's metrics, registered once.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::error::StoreError;

/// What kind of call it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Lease,
    Close,
    Distinct,
    Rate,
}

const KINDS: [&str; 4] = ["lease", "close", "distinct", "rate"];
const OUTCOMES: [&str; 4] = ["answered", "unreachable", "timeout", "error"];

/// Handles of the store's metrics.
pub(super) struct StoreMetrics {
    calls: [[Counter; OUTCOMES.len()]; KINDS.len()],
    seconds: [Histogram; KINDS.len()],
    /// Connections that serve calls.
    pub connections: Gauge,
    /// Connections that were given up.
    pub connections_lost: Counter,
    /// Calls with an amount of 2^53 or more.
    pub clamped: Counter,
    /// Recall hints received.
    pub hints: Counter,
}

impl StoreMetrics {
    /// Registers the metrics with the recorder that is installed now.
    pub(super) fn register() -> Self {
        describe();
        let calls = |call: &'static str| {
            OUTCOMES.map(|outcome| {
                counter!("tollgate_redis_calls_total", "call" => call, "outcome" => outcome)
            })
        };
        Self {
            calls: KINDS.map(calls),
            seconds: KINDS.map(|call| histogram!("tollgate_redis_call_seconds", "call" => call)),
            connections: gauge!("tollgate_redis_connections"),
            connections_lost: counter!("tollgate_redis_connections_lost_total"),
            clamped: counter!("tollgate_redis_calls_clamped_total"),
            hints: counter!("tollgate_redis_recall_hints_total"),
        }
    }

    /// Counts a call that took `elapsed`.
    pub(super) fn called<T>(&self, kind: Kind, result: &Result<T, StoreError>, elapsed: Duration) {
        let outcome = match result {
            Ok(_) => 0,
            Err(
                StoreError::Unreachable | StoreError::NotServed { .. } | StoreError::Overloaded,
            ) => 1,
            Err(StoreError::Timeout(_)) => 2,
            Err(_) => 3,
        };
        self.calls[kind as usize][outcome].increment(1);
        if outcome != 1 {
            self.seconds[kind as usize].record(elapsed.as_secs_f64());
        }
    }
}

fn describe() {
    metrics::describe_counter!(
        "tollgate_redis_calls_total",
        "Calls to the shared counters, by what became of them; unreachable ones were not sent"
    );
    metrics::describe_histogram!(
        "tollgate_redis_call_seconds",
        metrics::Unit::Seconds,
        "Time from a call to its answer, or to the end of the wait for one"
    );
    metrics::describe_gauge!(
        "tollgate_redis_connections",
        "Connections to Redis that have passed their checks"
    );
    metrics::describe_counter!(
        "tollgate_redis_connections_lost_total",
        "Connections to Redis that broke or were given up"
    );
    metrics::describe_counter!(
        "tollgate_redis_calls_clamped_total",
        "Calls about more than 2^53 units, which count as all there is: meter in a larger base unit"
    );
    metrics::describe_counter!(
        "tollgate_redis_recall_hints_total",
        "Hints received that some sidecar wants what others may have unspent"
    );
}
