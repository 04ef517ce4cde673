//! Charges beside what they follow from, as reports have it.

use super::difference::{Difference, Figure, Leg, Standing};
use crate::jobs::overages::recheck::{ChargeFinding, ChargeProblem};

/// What a finding says.
pub fn difference(finding: ChargeFinding) -> Difference {
    let ChargeFinding { key, kind, problem } = finding;
    let standing = match problem.is_difference() {
        true => Standing::Differs,
        false => Standing::Expected,
    };
    let (what, expected, found) = match problem {
        ChargeProblem::OwnFacts { charged, facts } => {
            let facts = facts.map_or_else(|| "unreadable".to_owned(), |money| money.to_string());
            (
                "does not follow from its own facts",
                Figure::new("its facts", facts),
                charged.to_string(),
            )
        }
        ChargeProblem::Differs { charged, recomputed } => {
            let of = "rollups and plan";
            ("does not follow from the usage", Figure::new(of, recomputed), charged.to_string())
        }
        ChargeProblem::LateUsage { charged, recomputed } => {
            let of = "rollups and plan";
            ("usage came after it was made", Figure::new(of, recomputed), charged.to_string())
        }
        ChargeProblem::Superfluous { charged } => {
            let expected = Figure::new("rollups and plan", "nothing to charge");
            ("is for nothing", expected, charged.to_string())
        }
        ChargeProblem::Missing { due } => {
            let expected = Figure::new("rollups and plan", due.amount);
            ("is missing", expected, "none".to_owned())
        }
        ChargeProblem::LeftOut { due } => {
            let expected = Figure::new("rollups and plan", due.amount);
            ("is missing, and no run of the job makes it any more", expected, "none".to_owned())
        }
        ChargeProblem::Due { due } => {
            let expected = Figure::new("rollups and plan", due.amount);
            ("is due at the job's next run", expected, "none".to_owned())
        }
        ChargeProblem::Unknown { why } => {
            ("cannot be computed again", Figure::new("this version", why), "a charge".to_owned())
        }
    };
    Difference {
        leg: Leg::Charges,
        place: key.into(),
        what: format!("charge {kind}: {what}"),
        expected,
        found: Figure::new("charges", found),
        standing,
        mending: None,
    }
}
