//! When a job is due: a cron pattern in a zone, asked for its ticks around an instant.

use std::{fmt, str::FromStr};

use croner::Cron;
use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};

use crate::domain::invalid::Invalid;

/// A cron pattern of five fields (minute, hour, day of month, month, day of week) in a zone.
///
/// On the day that a clock goes forward, a tick within the skipped hour comes as soon as the hour is
/// over; on the day that it goes back, a fixed time comes once.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

impl Schedule {
    /// Reads a cron pattern; the error names the pattern.
    pub fn new(pattern: &str, zone: TimeZone) -> Result<Self, Invalid> {
        let cron = Cron::from_str(pattern).map_err(|error| {
            Invalid::new(
                "schedule",
                format!("{pattern:?} is not a cron pattern ({error})"),
                "give five fields: minute, hour, day of month, month, day of week, as in \
                 \"0 2 1 * *\"",
            )
        })?;
        Ok(Self { cron, zone })
    }

    /// The latest tick at or before `now`; `None` when the pattern never matched before.
    pub fn last_tick(&self, now: Timestamp) -> Option<Timestamp> {
        let whole = Timestamp::from_second(now.as_second()).ok()?;
        // Before the epoch `as_second` rounds up; one second back never skips a tick that is due.
        let whole = if whole > now { whole - SignedDuration::from_secs(1) } else { whole };
        let tick = self.cron.find_previous_occurrence(&self.local(whole), true).ok()?;
        Some(tick.timestamp())
    }

    /// The first tick after `now`; `None` when the pattern never matches again.
    pub fn next_tick(&self, now: Timestamp) -> Option<Timestamp> {
        let tick = self.cron.find_next_occurrence(&self.local(now), false).ok()?;
        Some(tick.timestamp())
    }

    /// The zone that the pattern is read in, by its IANA name.
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    fn local(&self, at: Timestamp) -> Zoned {
        at.to_zoned(self.zone.clone())
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cron.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn utc(pattern: &str) -> Schedule {
        Schedule::new(pattern, TimeZone::UTC).unwrap()
    }

    #[test]
    fn the_first_of_the_month_at_two_is_due_from_that_second_on() {
        let monthly = utc("0 2 1 * *");
        let tick = at("2026-11-01T02:00:00Z");
        assert_eq!(monthly.last_tick(tick), Some(tick));
        assert_eq!(monthly.last_tick(at("2026-11-01T02:00:00.5Z")), Some(tick));
        assert_eq!(
            monthly.last_tick(at("2026-11-01T01:59:59.999Z")),
            Some(at("2026-10-01T02:00:00Z"))
        );
        assert_eq!(monthly.next_tick(tick), Some(at("2026-12-01T02:00:00Z")));
    }

    #[test]
    fn a_zone_moves_the_tick_with_its_summer_time() {
        let london = TimeZone::get("Europe/London").unwrap();
        let daily = Schedule::new("0 9 * * *", london).unwrap();
        assert_eq!(daily.last_tick(at("2026-07-01T12:00:00Z")), Some(at("2026-07-01T08:00:00Z")));
        assert_eq!(daily.last_tick(at("2026-12-01T12:00:00Z")), Some(at("2026-12-01T09:00:00Z")));
        assert_eq!(daily.zone_name(), "Europe/London");
    }

    #[test]
    fn a_time_that_the_clock_repeats_is_one_tick() {
        let london = TimeZone::get("Europe/London").unwrap();
        let night = Schedule::new("30 1 * * *", london).unwrap();
        let first = night.next_tick(at("2026-10-24T12:00:00Z")).unwrap();
        let second = night.next_tick(first).unwrap();
        assert_eq!(first, at("2026-10-25T00:30:00Z"));
        assert_eq!(second, at("2026-10-26T01:30:00Z"));
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_a_remedy() {
        let error = Schedule::new("every monday", TimeZone::UTC).unwrap_err();
        assert_eq!(error.field, "schedule");
        assert!(error.problem.contains("every monday"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn ticks_around_an_instant_are_neighbours(
            second in 946_684_800i64..4_000_000_000, millis in 0i64..1000,
            pattern in proptest::sample::select(vec![
                "0 2 1 * *", "0 * * * *", "*/5 * * * *", "0 3 * * SUN", "0 9 * * *", "0 */6 * * *",
            ]),
            zone in proptest::sample::select(vec!["UTC", "Europe/London", "America/St_Johns"]),
        ) {
            let schedule = Schedule::new(pattern, TimeZone::get(zone).unwrap()).unwrap();
            let now = Timestamp::from_millisecond(second * 1000 + millis).unwrap();
            let (last, next) = (schedule.last_tick(now).unwrap(), schedule.next_tick(now).unwrap());
            proptest::prop_assert!(last <= now && now < next, "{last} {now} {next}");
            proptest::prop_assert_eq!(schedule.next_tick(last), Some(next));
            proptest::prop_assert_eq!(schedule.last_tick(next), Some(next));
        }
    }
}
