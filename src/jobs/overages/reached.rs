//! What the charges that were made show of how far the job has come.

use jiff::{SignedDuration, Timestamp};

use super::charge::KIND;
use crate::ledger::charges::Charge;

/// How long after a window was written to a run surely sees it: a flush commits later than it says,
/// and clocks differ.
const SEEN_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// How far the job has come with a tenant, as the charges show that it has made. Each charge says of the
/// run that made it that windows which ended no later were closed for it, too.
#[derive(Clone, Debug, Default)]
pub(super) struct Reached {
    /// The end of a charged period, and when the run began that charged it: those that no other one has
    /// both of later.
    latest: Vec<(Timestamp, Timestamp)>,
}

impl Reached {
    pub(super) fn add(&mut self, charge: &Charge) {
        let began = charge.explanation["closed_at"].as_str().and_then(|at| at.parse().ok());
        let (Some(began), KIND) = (began, charge.kind.as_str()) else { return };
        self.note(charge.period_end, began);
    }

    fn note(&mut self, end: Timestamp, began: Timestamp) {
        if !self.has(end, began) {
            self.latest.retain(|(other_end, other_at)| *other_end > end || *other_at > began);
            self.latest.push((end, began));
        }
    }

    /// Whether a run has seen a window that ended at `end` and was last written to at `changed_at`.
    pub(super) fn is_past(&self, end: Timestamp, changed_at: Timestamp) -> bool {
        self.has(end, changed_at.checked_add(SEEN_AFTER).unwrap_or(Timestamp::MAX))
    }

    fn has(&self, end: Timestamp, began: Timestamp) -> bool {
        self.latest.iter().any(|(reached, at)| *reached >= end && *at >= began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_shows_how_far_the_job_has_come_with_all_that_was_there() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut reached = Reached::default();
        for (end, began) in [(10, 100), (20, 90), (5, 80), (20, 110)] {
            reached.note(at(end), at(began));
        }
        assert_eq!(reached.latest, [(at(20), at(110))]);
        assert!(reached.is_past(at(20), at(50)) && reached.is_past(at(3), at(0)));
        assert!(!reached.is_past(at(21), at(0)), "it ended later");
        assert!(!reached.is_past(at(20), at(51)), "its usage may have come later");
    }
}
