//! When a window is closed for billing: everything that was acknowledged in it is in the ledger, and
//! nothing is held in it any more; or that has been waited for long enough. What comes later is in the
//! ledger and in no charge.

use jiff::{SignedDuration, Timestamp};

/// Longest wait for sidecars whose usage has not all reached the ledger.
pub const WAIT_MAX: SignedDuration = SignedDuration::from_secs(3600);
/// How far sidecars may be apart in what they take for the present: clocks that differ, and the
/// time in which a moved test clock reaches them.
pub const CLOCK_SPREAD: SignedDuration = SignedDuration::from_secs(1);

/// What is known about a window that has ended by its tenant's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosingFacts {
    /// The real instant at which the tenant's clock had passed the window's end.
    pub ended_at: Timestamp,
    /// Through when the usage of all open runs is in the ledger, also what settles what they hold;
    /// `None` = no run is open.
    pub oldest_mark: Option<Timestamp>,
    /// The real present.
    pub now: Timestamp,
}

/// Whether a window is closed, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// All that was acknowledged in it is in the ledger.
    ByMarks,
    /// A run's usage may still be missing, but the wait is over.
    ByWait,
    /// Neither yet.
    Open,
}

impl Closing {
    /// As charges and summaries call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ByMarks => "marks",
            Self::ByWait => "wait",
            Self::Open => "open",
        }
    }
}

impl ClosingFacts {
    /// Whether the window is closed, when sidecars are waited for for [`WAIT_MAX`].
    pub fn closing(self) -> Closing {
        self.closing_after(WAIT_MAX)
    }

    /// Whether the window is closed, when sidecars are waited for for `wait_max`.
    pub fn closing_after(self, wait_max: SignedDuration) -> Closing {
        let after = |wait| self.ended_at.checked_add(wait).unwrap_or(Timestamp::MAX);
        // Without an open run nothing is missing, and a new one starts from the present.
        if self.oldest_mark.is_none_or(|mark| mark >= after(CLOCK_SPREAD)) {
            Closing::ByMarks
        } else if self.now >= after(wait_max) {
            Closing::ByWait
        } else {
            Closing::Open
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closing(oldest_mark: Option<&str>, now: &str) -> Closing {
        let at = |text: &str| format!("2026-11-01T{text}Z").parse().unwrap();
        ClosingFacts { ended_at: at("00:00:00"), oldest_mark: oldest_mark.map(at), now: at(now) }
            .closing()
    }

    #[test]
    fn a_window_waits_for_the_marks_of_all_open_runs() {
        assert_eq!(closing(Some("00:00:00.9"), "00:00:05"), Closing::Open);
        assert_eq!(closing(Some("00:00:01"), "00:00:05"), Closing::ByMarks);
        assert_eq!(closing(None, "00:00:00"), Closing::ByMarks);
    }

    #[test]
    fn a_run_that_never_reports_is_waited_for_an_hour() {
        assert_eq!(closing(Some("00:00:00"), "00:59:59.9"), Closing::Open);
        assert_eq!(closing(Some("00:00:00"), "01:00:00"), Closing::ByWait);
    }
}
