//! The bound, over all intervals at once.

use super::super::{LAPSE_NS, message::RateTerms};
use crate::domain::rate::RateWindow;

/// Something for which the bound declares a loss: for all intervals that end after it and begin
/// before what was lent then has lapsed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loss {
    pub at_ns: u64,
    pub kind: LossKind,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum LossKind {
    /// The shared state was lost: another burst.
    Forgotten,
    /// The shared clock jumped ahead so far: what was paid off too early, and what was taken for
    /// lapsed too early and paid off before it was spent.
    Ahead { ns: u64 },
}

impl Loss {
    fn ns(self, window: &RateWindow) -> u64 {
        match self.kind {
            LossKind::Forgotten => window.capacity_ns(),
            LossKind::Ahead { ns } => ns + LAPSE_NS.end(),
        }
    }

    /// Until when it may show.
    fn over_ns(self) -> u64 {
        self.at_ns + 2 * LAPSE_NS.end()
    }
}

/// Whether no interval has more than the bound; `admitted` in the order of time.
pub(super) fn check(
    terms: &RateTerms,
    admitted: &[(u64, u32)],
    losses: &[Loss],
) -> Result<(), String> {
    for window in terms.windows.iter() {
        let lost = |is_in: &dyn Fn(&Loss) -> bool| -> i128 {
            losses.iter().filter(|loss| is_in(loss)).map(|loss| i128::from(loss.ns(window))).sum()
        };
        // What costs more than time and losses pay for, as if from the beginning: its least value
        // at any point is where the worst interval begins that ends later.
        let (mut cost_ns, mut least_ns) = (0_i128, i128::MAX);
        for (at_ns, permits) in admitted {
            let at = i128::from(*at_ns);
            let begins = cost_ns - at - lost(&|loss| loss.over_ns() < *at_ns);
            least_ns = least_ns.min(begins);
            cost_ns += i128::from(window.cost_ns(*permits));
            let worst_ns = cost_ns - at - lost(&|loss| loss.at_ns <= *at_ns) - least_ns;
            if worst_ns > i128::from(window.capacity_ns()) {
                return Err(format!(
                    "{worst_ns} ns until {at_ns} in an interval of a capacity of {} ns: {window:?}",
                    window.capacity_ns()
                ));
            }
        }
    }
    Ok(())
}
