//! How long a meter counts before it starts again.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::invalid::Invalid;

/// The kind of window that a meter's limit holds in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Period {
    /// A calendar minute in the tenant's zone.
    Minute,
    /// A calendar hour in the tenant's zone.
    Hour,
    /// A calendar day in the tenant's zone.
    Day,
    /// A calendar month in the tenant's zone.
    Month,
    /// The subscription's billing cycle, on its anchor.
    BillingCycle,
    /// A fixed number of seconds, counted from the Unix epoch.
    Interval {
        /// Length in seconds, at least 1.
        seconds: u32,
    },
    /// Never starts again; levels (seats, stored bytes) live here.
    Lifetime,
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Minute => f.write_str("minute"),
            Self::Hour => f.write_str("hour"),
            Self::Day => f.write_str("day"),
            Self::Month => f.write_str("month"),
            Self::BillingCycle => f.write_str("billing_cycle"),
            Self::Interval { seconds } => write!(f, "interval_{seconds}s"),
            Self::Lifetime => f.write_str("lifetime"),
        }
    }
}

impl FromStr for Period {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let unknown = || {
            Invalid::new(
                "period",
                format!("{text:?} is not a period"),
                "use minute, hour, day, month, billing_cycle, lifetime or interval_<n>s",
            )
        };
        Ok(match text {
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "month" => Self::Month,
            "billing_cycle" => Self::BillingCycle,
            "lifetime" => Self::Lifetime,
            _ => {
                let seconds = text
                    .strip_prefix("interval_")
                    .and_then(|rest| rest.strip_suffix('s'))
                    .and_then(|digits| digits.parse().ok())
                    .filter(|seconds| *seconds > 0)
                    .ok_or_else(unknown)?;
                Self::Interval { seconds }
            }
        })
    }
}

impl TryFrom<String> for Period {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}
