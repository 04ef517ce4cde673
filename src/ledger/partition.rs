//! Partitions by time, made when the first row of their stretch arrives.
//!
//! Rollups are partitioned by event time, and test clocks put events anywhere between
//! [`TIME_MIN`] and [`TIME_END`]: no job can know the partitions to come. Who serves may change no
//! structure: the owner's function `make_partition` does it for them, and nothing else.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use jiff::{Timestamp, Zoned, civil::Date, tz::TimeZone};
use jiff_sqlx::ToSqlx;
use sqlx::PgConnection;

use super::error::LedgerError;

/// Event times before this instant are not kept in rollups.
pub const TIME_MIN: &str = "1970-01-01T00:00:00Z";
/// Event times from this instant on are not kept in rollups; it bounds the number of partitions.
pub const TIME_END: &str = "2100-01-01T00:00:00Z";
const TIME_SECONDS: std::ops::Range<i64> = 0..4_102_444_800;

/// Whether rollups have room for an event at `at`.
pub(super) fn is_in_range(at: Timestamp) -> bool {
    TIME_SECONDS.contains(&at.as_second())
}

/// One partition of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Partition {
    /// A month of `usage_hourly`, by its first day.
    HourlyMonth(Date),
    /// A year of `usage_daily`, by its first day.
    DailyYear(Date),
    /// A day of `usage_events`.
    EventsDay(Date),
}

impl Partition {
    /// The partition of `usage_hourly` for `at`.
    pub(super) fn hourly(at: Timestamp) -> Self {
        Self::HourlyMonth(utc_date(at).first_of_month())
    }

    /// The partition of `usage_daily` for `at`.
    pub(super) fn daily(at: Timestamp) -> Self {
        Self::DailyYear(utc_date(at).first_of_year())
    }

    fn parent(self) -> &'static str {
        match self {
            Self::HourlyMonth(_) => "usage_hourly",
            Self::DailyYear(_) => "usage_daily",
            Self::EventsDay(_) => "usage_events",
        }
    }

    fn first_day(self) -> Date {
        match self {
            Self::HourlyMonth(day) | Self::DailyYear(day) | Self::EventsDay(day) => day,
        }
    }

    /// Makes it unless it is there.
    pub(super) async fn create(self, tx: &mut PgConnection) -> Result<(), LedgerError> {
        let day = self.first_day().to_sqlx();
        sqlx::query!("SELECT make_partition($1, $2)", self.parent(), day as _).execute(tx).await?;
        Ok(())
    }
}

pub(super) fn utc_date(at: Timestamp) -> Date {
    Zoned::new(at, TimeZone::UTC).date()
}

/// Partitions that this process has seen exist. It may be wrong after retention dropped one; a
/// write that then finds none forgets and makes it again.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownPartitions {
    // Guards the set for the moment of a look or an insert.
    known: Arc<Mutex<HashSet<Partition>>>,
}

impl KnownPartitions {
    pub(super) fn missing(&self, wanted: impl IntoIterator<Item = Partition>) -> Vec<Partition> {
        let known = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut missing: Vec<_> = wanted.into_iter().filter(|it| !known.contains(it)).collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    pub(super) fn add(&self, made: Vec<Partition>) {
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).extend(made);
    }

    pub(super) fn forget(&self) {
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_event_times_is_what_its_names_say() {
        let seconds = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
        assert_eq!(TIME_SECONDS, seconds(TIME_MIN)..seconds(TIME_END));
    }
}
