//! Usage alerts: the thresholds of a limit, and which of them usage has reached.

use jiff::Timestamp;
use rust_decimal::Decimal;

use super::{
    catalog::{decimal::Percent, policies::AlertPolicy},
    ids::{MeterName, Subject},
};

/// What an alert tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertKind {
    /// A threshold below the limit was reached.
    ApproachingLimit,
    /// The limit was reached.
    LimitExceeded,
}

impl AlertKind {
    /// The kind of a threshold.
    pub fn of(threshold: Percent) -> Self {
        match threshold.get() < Decimal::ONE_HUNDRED {
            true => Self::ApproachingLimit,
            false => Self::LimitExceeded,
        }
    }

    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApproachingLimit => "approaching_limit",
            Self::LimitExceeded => "limit_exceeded",
        }
    }

    /// What the tenant can do about it, in the catalog's words.
    pub fn recommended_action(self, policy: &AlertPolicy) -> Option<&str> {
        match self {
            Self::ApproachingLimit => policy.approaching_action.as_deref(),
            Self::LimitExceeded => policy.exceeded_action.as_deref(),
        }
    }
}

/// Whether `used` units reach `threshold` of `limit`: used / limit ≥ threshold / 100, exactly. Nothing
/// used reaches nothing; without a limit there is nothing to come near to.
pub fn is_reached(threshold: Percent, used: i64, limit: Option<u64>) -> bool {
    let Some(limit) = limit else { return false };
    // Units stay below 2^53 and percentages have 4 decimals: both products fit into 96 bits.
    used > 0 && Decimal::from(used) * Decimal::ONE_HUNDRED >= threshold.get() * Decimal::from(limit)
}

/// An alert that stands, or that stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    pub meter: MeterName,
    pub subject: Option<Subject>,
    pub threshold: Percent,
    /// By the tenant's clock; absent while nobody has noted it.
    pub raised_at: Option<Timestamp>,
    /// By the tenant's clock; absent = it stands.
    pub resolved_at: Option<Timestamp>,
    /// What the tenant can do about it, in words for people.
    pub recommended_action: Option<String>,
}

impl Alert {
    /// Whether both tell the same, whenever it was noted.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.meter, &self.subject, self.threshold)
            == (&other.meter, &other.subject, other.threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percent(text: &str) -> Percent {
        text.parse().unwrap()
    }

    #[test]
    fn a_threshold_is_reached_at_its_very_unit() {
        assert!(!is_reached(percent("80"), 79, Some(100)));
        assert!(is_reached(percent("80"), 80, Some(100)));
        assert!(!is_reached(percent("99.5"), 198, Some(199)));
        assert!(is_reached(percent("99.5"), 199, Some(199)));
        let limit = (1 << 53) - 1;
        assert!(!is_reached(percent("100"), limit - 1, Some(limit.cast_unsigned())));
        assert!(is_reached(percent("100"), limit, Some(limit.cast_unsigned())));
    }

    #[test]
    fn nothing_used_and_no_limit_reach_nothing() {
        assert!(!is_reached(percent("0"), 0, Some(0)));
        assert!(!is_reached(percent("100"), 0, Some(0)));
        assert!(is_reached(percent("100"), 1, Some(0)), "recorded beyond a limit of nothing");
        assert!(!is_reached(percent("80"), -5, Some(10)));
        assert!(!is_reached(percent("1"), 1_000, None));
    }

    #[test]
    fn a_hundred_percent_is_the_limit_itself() {
        assert_eq!(AlertKind::of(percent("99.9999")), AlertKind::ApproachingLimit);
        assert_eq!(AlertKind::of(percent("100")), AlertKind::LimitExceeded);
    }
}
