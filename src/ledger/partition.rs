//! Partitions by time, made when the first row of their stretch arrives.
//!
//! Rollups are partitioned by event time, and test clocks put events anywhere between
//! [`TIME_MIN`] and [`TIME_END`]: no job can know the partitions to come. A partition is made as a
//! table of its own and then attached, since attaching does not lock out readers and writers.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use jiff::{Timestamp, ToSpan, Zoned, civil::Date, tz::TimeZone};
use sqlx::{AssertSqlSafe, PgConnection};

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

    fn name(self) -> String {
        match self {
            Self::HourlyMonth(at) => format!("usage_hourly_{:04}_{:02}", at.year(), at.month()),
            Self::DailyYear(at) => format!("usage_daily_{:04}", at.year()),
            Self::EventsDay(at) => {
                format!("usage_events_{:04}_{:02}_{:02}", at.year(), at.month(), at.day())
            }
        }
    }

    /// First day and the day after the last.
    fn days(self) -> (Date, Date) {
        match self {
            Self::HourlyMonth(at) => (at, at.saturating_add(1.month())),
            Self::DailyYear(at) => (at, at.saturating_add(1.year())),
            Self::EventsDay(at) => (at, at.saturating_add(1.day())),
        }
    }

    pub(super) async fn create(self, tx: &mut PgConnection) -> Result<(), LedgerError> {
        let (name, parent, (first, end)) = (self.name(), self.parent(), self.days());
        let exists = sqlx::query!("SELECT to_regclass($1) IS NOT NULL AS \"exists!\"", name)
            .fetch_one(&mut *tx)
            .await?;
        if exists.exists {
            return Ok(());
        }
        // Names and dates are made of numbers alone. Rows are updated in place while their hour
        // lasts, and room on their page keeps that from growing the indexes.
        let fill = if matches!(self, Self::EventsDay(_)) { "" } else { " WITH (fillfactor = 80)" };
        let create = format!("CREATE TABLE {name} (LIKE {parent} INCLUDING ALL){fill}");
        let attach = format!(
            "ALTER TABLE {parent} ATTACH PARTITION {name} \
             FOR VALUES FROM ('{first} 00:00:00+00') TO ('{end} 00:00:00+00')"
        );
        sqlx::query(AssertSqlSafe(create)).execute(&mut *tx).await?;
        sqlx::query(AssertSqlSafe(attach)).execute(&mut *tx).await?;
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

    #[test]
    fn a_partition_ends_where_the_next_begins() {
        let at = "2015-12-31T23:59:59Z".parse().unwrap();
        let next = "2016-01-01T00:00:00Z".parse().unwrap();
        for (partition, following) in [
            (Partition::hourly(at), Partition::hourly(next)),
            (Partition::daily(at), Partition::daily(next)),
        ] {
            assert_eq!(partition.days().1, following.days().0);
            assert_ne!(partition.name(), following.name());
        }
        assert_eq!(Partition::hourly(at).name(), "usage_hourly_2015_12");
    }
}
