//! Where events fall into: their hour, and the values that they are grouped by. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::domain::{cell_key::CellKey, usage::UsageEvent};

const HOUR_SECONDS: i64 = 3_600;
const DAY_SECONDS: i64 = 86_400;

/// The values of a meter's group-by properties; a property that the event lacks is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupValues(BTreeMap<String, String>);

impl GroupValues {
    fn of(event: &UsageEvent) -> Self {
        let value = |name: &String| Some((name.clone(), event.properties.get(name)?.to_owned()));
        Self(event.group_by.iter().filter_map(value).collect())
    }

    /// As the columns named group_values have them: an object of strings.
    pub(super) fn to_json(&self) -> Value {
        let text = |(name, value): (&String, &String)| (name.clone(), Value::from(value.as_str()));
        Value::Object(self.0.iter().map(text).collect())
    }
}

/// Where a rollup row lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    pub key: CellKey,
    /// Start of the hour or day, UTC.
    pub start: Timestamp,
    pub group_values: GroupValues,
}

impl Slot {
    /// The hour of `event`.
    pub fn of(event: &UsageEvent) -> Self {
        Self {
            key: event.key.clone(),
            start: floor_to(event.time, HOUR_SECONDS),
            group_values: GroupValues::of(event),
        }
    }

    pub(super) fn day(&self) -> Self {
        Self { start: floor_to(self.start, DAY_SECONDS), ..self.clone() }
    }
}

/// The start of the stretch of `seconds` (counted from the epoch) that `at` falls into.
fn floor_to(at: Timestamp, seconds: i64) -> Timestamp {
    let start = at.as_second().div_euclid(seconds) * seconds;
    // Only an instant within a day of the earliest that jiff knows has no such start.
    Timestamp::from_second(start).unwrap_or(Timestamp::MIN)
}

/// The instant as Postgres keeps it: in whole microseconds, rounded down. Comparing anything finer
/// would let the order of flushes decide which of two events is the last.
pub fn floor_to_microsecond(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_nanosecond().div_euclid(1_000) as i64).unwrap_or(at)
}
