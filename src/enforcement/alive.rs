//! Whether a run's sidecar seems to be alive: it tells the ledger about itself every second, or as
//! often as it flushes.

use std::time::Duration;

use jiff::SignedDuration;

use crate::ledger::runs::Run;

/// A sidecar that was heard of within this time seems to be alive, however often it flushes: it may
/// be slow to try again when Postgres was away.
const ALIVE_WITHIN_MIN: SignedDuration = SignedDuration::from_secs(30);
/// How many flushes a sidecar that is alive may leave out.
const FLUSHES_LEFT_OUT: i32 = 3;

/// For how long a sidecar that flushes every `flush_interval` may be silent.
pub fn alive_within(flush_interval: Duration) -> SignedDuration {
    let flush_interval = SignedDuration::try_from(flush_interval).unwrap_or(SignedDuration::MAX);
    let flushes = flush_interval.checked_mul(FLUSHES_LEFT_OUT).unwrap_or(SignedDuration::MAX);
    flushes.max(ALIVE_WITHIN_MIN)
}

/// Whether an open run was heard of lately.
pub fn seems_alive(run: &Run, alive_within: SignedDuration) -> bool {
    run.closing.is_none() && run.silent_for < alive_within
}

/// How long ago the run was last heard of, in whole seconds.
pub fn ago(run: &Run) -> String {
    let whole = SignedDuration::from_secs(run.silent_for.as_secs().max(0));
    format!("{whole:#}")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::ids::RunId,
        ledger::runs::{ClosedHow, Closing},
    };

    fn silent_for(seconds: i64) -> Run {
        Run {
            run: RunId(Uuid::nil()),
            host: String::new(),
            boot_id: String::new(),
            started_at: Timestamp::UNIX_EPOCH,
            flushed_position: 0,
            mark_at: Timestamp::UNIX_EPOCH,
            heard_at: Timestamp::UNIX_EPOCH,
            silent_for: SignedDuration::from_secs(seconds),
            closing: None,
        }
    }

    #[test]
    fn a_run_that_was_heard_of_lately_seems_alive_until_it_is_closed() {
        let within = alive_within(Duration::from_millis(200));
        assert!(seems_alive(&silent_for(29), within));
        assert!(!seems_alive(&silent_for(30), within));
        assert!(seems_alive(&silent_for(170), alive_within(Duration::from_secs(60))));
        let closing = Closing { at: Timestamp::UNIX_EPOCH, seq: 1, how: ClosedHow::Stopped };
        assert!(!seems_alive(&Run { closing: Some(closing), ..silent_for(1) }, within));
        assert_eq!((ago(&silent_for(63)), ago(&silent_for(-1))), ("1m 3s".into(), "0s".into()));
    }
}
