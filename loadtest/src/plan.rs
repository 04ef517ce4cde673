//! How hard a server is loaded, and for how long.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::target::Target;

/// The load of one run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub target: Target,
    pub connections: usize,
    pub pace: Pace,
    /// What the calls are authorised by.
    pub token: Option<String>,
    /// Answers before this much time has passed are not measured.
    pub warmup: Duration,
    pub measure: Duration,
}

/// When the next request is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As soon as one of so many requests on each connection is answered.
    Closed { in_flight: usize },
    /// So many a second over all connections, whether earlier ones are answered or not, up to
    /// `in_flight_max` on each connection. Latency counts from when a request was due.
    Open { per_second: f64, in_flight_max: usize },
}

/// The part of time that is measured.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub start: Instant,
    pub end: Instant,
}

impl Window {
    /// The window of a run that starts at `now`.
    pub fn of(plan: &Plan, now: Instant) -> Self {
        let start = now + plan.warmup;
        Self { start, end: start + plan.measure }
    }

    fn contains(&self, at: Instant) -> bool {
        self.start <= at && at < self.end
    }
}

/// What was measured, of one connection or of all.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Answers within the window.
    pub answered: u64,
    /// Of those, denials and batches that were taken in part.
    pub denied: u64,
    /// Of those, statuses that are not OK, and answers that could not be read.
    pub failed: u64,
    /// One failure, to show.
    pub failure: Option<String>,
    /// Nanoseconds from send (or due) to answer.
    pub latency_ns: Histogram<u64>,
}

/// How one request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Allowed,
    Denied,
    Failed(String),
}

/// Longest latency that is told apart, nanoseconds.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

impl Tally {
    /// Nothing measured yet.
    pub fn new() -> Self {
        // The bounds are constants that the histogram accepts.
        #[allow(clippy::expect_used)]
        let latency_ns = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("valid bounds");
        Self { answered: 0, denied: 0, failed: 0, failure: None, latency_ns }
    }

    /// Counts one answer, if it came within the window.
    pub fn count(&mut self, window: &Window, due: Instant, now: Instant, end: End) {
        if !window.contains(now) {
            return;
        }
        self.answered += 1;
        match end {
            End::Allowed => {}
            End::Denied => self.denied += 1,
            End::Failed(failure) => {
                self.failed += 1;
                self.failure.get_or_insert(failure);
            }
        }
        let latency_ns = u64::try_from((now - due).as_nanos()).unwrap_or(u64::MAX);
        self.latency_ns.saturating_record(latency_ns);
    }

    /// Adds what another connection measured.
    pub fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.denied += other.denied;
        self.failed += other.failed;
        self.failure = self.failure.take().or(other.failure);
        // Both have the same bounds.
        let _ = self.latency_ns.add(&other.latency_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_within_the_window_count_and_their_latency_is_since_they_were_due() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let window = Window { start: at(100), end: at(200) };
        let mut tally = Tally::new();
        tally.count(&window, at(0), at(99), End::Allowed);
        tally.count(&window, at(50), at(150), End::Denied);
        tally.count(&window, at(150), at(200), End::Failed("late".into()));
        assert_eq!((tally.answered, tally.denied, tally.failed), (1, 1, 0));
        let latency_ms = tally.latency_ns.max() / 1_000_000;
        assert!((100..=101).contains(&latency_ms), "{latency_ms}");
    }
}
