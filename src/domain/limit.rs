//! What a plan allows on a meter.

use serde::{Deserialize, Serialize};

use super::period::Period;

/// What happens at the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Enforcement {
    /// Nothing is admitted beyond the limit.
    Hard,
    /// Admitted into overage, up to the optional hard cap (in base units, ≥ the limit).
    Soft { hard_cap: Option<u64> },
}

/// What happens when the shared counters cannot be reached and nothing is left in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutagePolicy {
    /// Refuse, and say that it is for the outage.
    Deny,
    /// Admit, count it as unbacked and settle it later.
    Allow,
}

/// A plan's limit on one meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Units per window, included in the plan; absent = unlimited (written `-1` on every face).
    pub amount: Option<u64>,
    pub enforcement: Enforcement,
    pub period: Period,
    /// Units beyond `amount` that are free of charge (they do not move a hard limit).
    pub grace: u64,
    /// The limit holds for each subject of the tenant instead of for the tenant.
    pub per_subject: bool,
    pub on_outage: OutagePolicy,
}

impl Limit {
    /// The number that may never be passed: the limit when hard, the cap when soft; `None` when
    /// nothing is ever denied.
    pub fn ceiling(&self) -> Option<u64> {
        match self.enforcement {
            Enforcement::Hard => self.amount,
            Enforcement::Soft { hard_cap } => hard_cap,
        }
    }
}
