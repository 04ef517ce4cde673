//! How far the ledger is behind this sidecar.

use metrics::{Gauge, describe_gauge, gauge};
use tokio::time::Instant;

use crate::journal::position::Position;

/// Shows the lag of one run's flush.
pub(super) struct FlushLag {
    bytes: Gauge,
    seconds: Gauge,
    /// The ledger has all that was acknowledged until then.
    complete_at: Instant,
    /// Where the journal ended at an instant later than that one.
    awaited: Option<(Position, Instant)>,
}

impl FlushLag {
    /// Nothing has been acknowledged before `now`.
    pub(super) fn new(now: Instant) -> Self {
        describe_gauge!(
            "tollgate_flush_lag_bytes",
            "Bytes of the journal that the ledger does not have yet"
        );
        describe_gauge!(
            "tollgate_flush_lag_seconds",
            "Age of the oldest acknowledgement that may not have reached the ledger"
        );
        Self {
            bytes: gauge!("tollgate_flush_lag_bytes"),
            seconds: gauge!("tollgate_flush_lag_seconds"),
            complete_at: now,
            awaited: None,
        }
    }

    /// At `now` the journal ends at `handed_over`, and the ledger has it up to `mark`.
    pub(super) fn show(&mut self, mark: Position, handed_over: Position, now: Instant) {
        if let Some((_, at)) = self.awaited.take_if(|(position, _)| mark >= *position) {
            self.complete_at = at;
        }
        if mark >= handed_over {
            self.complete_at = now;
            self.awaited = None;
        } else {
            self.awaited.get_or_insert((handed_over, now));
        }
        self.bytes.set(lag_bytes(handed_over, mark));
        self.seconds.set(now.saturating_duration_since(self.complete_at).as_secs_f64());
    }
}

/// Bytes of journal that are not flushed; across segments only roughly.
fn lag_bytes(handed_over: Position, mark: Position) -> f64 {
    if handed_over.segment == mark.segment {
        f64::from(handed_over.offset.saturating_sub(mark.offset))
    } else {
        let segments = handed_over.segment.saturating_sub(mark.segment);
        f64::from(segments) * f64::from(64u32 << 20)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(offset: u32) -> Position {
        Position { segment: 1, offset }
    }

    #[test]
    fn the_lag_is_the_age_of_what_was_acknowledged_since_the_ledger_was_complete() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut lag = FlushLag::new(start);
        lag.show(at(0), at(10), after(1));
        assert_eq!((lag.complete_at, lag.awaited), (start, Some((at(10), after(1)))));
        // More comes, and none of it arrives.
        lag.show(at(5), at(20), after(3));
        assert_eq!(lag.complete_at, start);
        // All of the first look has arrived, and not all of the next.
        lag.show(at(12), at(30), after(4));
        assert_eq!((lag.complete_at, lag.awaited), (after(1), Some((at(30), after(4)))));
        lag.show(at(30), at(30), after(5));
        assert_eq!((lag.complete_at, lag.awaited), (after(5), None));
    }
}
