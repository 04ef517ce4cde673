//! How long a meter counts before it starts again.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{ids::GrantId, invalid::Invalid};

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
    /// A grant's own time. Only labels have it: no catalog can name it.
    Grant {
        /// Whose time.
        id: GrantId,
    },
}

impl Period {
    /// How it is displayed, where there is only one of its kind.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::BillingCycle => "billing_cycle",
            Self::Lifetime => "lifetime",
            Self::Interval { .. } | Self::Grant { .. } => return None,
        })
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interval { seconds } => write!(f, "interval_{seconds}s"),
            Self::Grant { id } => id.fmt(f),
            fixed => f.write_str(fixed.name().unwrap_or_default()),
        }
    }
}

impl FromStr for Period {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Ok(match text {
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "month" => Self::Month,
            "billing_cycle" => Self::BillingCycle,
            "lifetime" => Self::Lifetime,
            _ if text.starts_with("grant_") => Self::Grant { id: text.parse()? },
            _ => {
                let seconds = text
                    .strip_prefix("interval_")
                    .and_then(|rest| rest.strip_suffix('s'))
                    .and_then(|digits| digits.parse().ok())
                    .filter(|seconds| *seconds > 0)
                    .ok_or_else(|| unknown(text))?;
                Self::Interval { seconds }
            }
        })
    }
}

fn unknown(text: &str) -> Invalid {
    Invalid::new(
        "period",
        format!("{text:?} is not a period"),
        "use minute, hour, day, month, billing_cycle, lifetime or interval_<n>s",
    )
}

impl TryFrom<String> for Period {
    type Error = Invalid;
    /// The period of a limit, as files write it.
    fn try_from(text: String) -> Result<Self, Invalid> {
        match text.parse() {
            Ok(Self::Grant { .. }) => Err(unknown(&text)),
            parsed => parsed,
        }
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}
