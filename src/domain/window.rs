//! Windows and their labels: which stretch of time a counter belongs to.
//!
//! A label is the window's name everywhere (Redis keys, journal, ledger): its period, its start and
//! the version of the billing anchor. Two windows that could overlap in time never share a label,
//! so moving an anchor or a zone starts a counter of its own.

use std::{fmt, str::FromStr};

use jiff::{
    Span, Timestamp, ToSpan, Zoned,
    civil::{Date, DateTime},
    tz::TimeZone,
};

use super::{bounds::Bounds, invalid::Invalid, period::Period};

/// Names one window of one meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowLabel {
    pub period: Period,
    /// Start of the window, seconds since the Unix epoch; 0 for [`Period::Lifetime`].
    pub start: i64,
    /// Version of the schedule (anchor, zone) that the window was computed with; 0 for
    /// [`Period::Lifetime`].
    pub anchor_version: u32,
}

impl WindowLabel {
    /// Whether it names a grant's time.
    pub fn is_of_grant(&self) -> bool {
        matches!(self.period, Period::Grant { .. })
    }

    /// Whether it names the window without an end that levels are counted in.
    pub fn is_endless(&self) -> bool {
        self.period == Period::Lifetime
    }
}

impl fmt::Display for WindowLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.period, self.start, self.anchor_version)
    }
}

impl FromStr for WindowLabel {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let unreadable = || {
            Invalid::new(
                "window_label",
                format!("{text:?} is not a window label"),
                "use <period>:<start, Unix seconds>:<anchor version>",
            )
        };
        let mut parts = text.split(':');
        let (Some(period), Some(start), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(unreadable());
        };
        Ok(Self {
            period: period.parse()?,
            start: start.parse().map_err(|_| unreadable())?,
            anchor_version: version.parse().map_err(|_| unreadable())?,
        })
    }
}

/// One window: `[start, end)`, end absent when it never ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub label: WindowLabel,
    pub start: Timestamp,
    pub end: Option<Timestamp>,
}

impl Window {
    /// Whether `at` falls into the window.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && self.end.is_none_or(|end| at < end)
    }

    /// The one of this name and time.
    pub fn of(label: WindowLabel, bounds: Bounds) -> Self {
        Self { label, start: bounds.start(), end: bounds.end() }
    }

    /// Its time, without its name.
    pub fn bounds(&self) -> Bounds {
        Bounds::new(self.start, self.end)
    }
}

/// How often a subscription is billed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum BillingInterval {
    Monthly,
    Yearly,
}

impl BillingInterval {
    fn months(self) -> i32 {
        match self {
            Self::Monthly => 1,
            Self::Yearly => 12,
        }
    }
}

/// What a tenant's windows are computed from.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowSchedule {
    /// Zone of the tenant's calendar.
    pub zone: TimeZone,
    /// Instant that billing cycles are counted from.
    pub anchor: Timestamp,
    /// Length of a billing cycle.
    pub interval: BillingInterval,
    /// Grows whenever zone, anchor or interval change.
    pub version: u32,
}

impl WindowSchedule {
    /// The window of `period` that contains `at`.
    ///
    /// Month ends clamp and return: an anchor on the 31st gives 28 February, then 31 March.
    pub fn window(&self, period: Period, at: Timestamp) -> Window {
        let (start, end) = match period {
            Period::Minute => self.on_the_time_line(at, jiff::Unit::Minute, 1.minute()),
            Period::Hour => self.on_the_time_line(at, jiff::Unit::Hour, 1.hour()),
            Period::Day => self.dates(at, self.date(at), 1.day()),
            Period::Month => self.dates(at, self.date(at).first_of_month(), 1.month()),
            Period::BillingCycle => self.billing_cycle(at),
            Period::Interval { seconds } => fixed_interval(at, i64::from(seconds)),
            // A grant's time is the grant's to tell (`Grant::window`); no schedule cuts it.
            Period::Lifetime | Period::Grant { .. } => (Timestamp::UNIX_EPOCH, None),
        };
        // A lifetime depends on no schedule: a level (seats, stored bytes) goes on when an anchor or
        // a zone changes.
        let anchor_version = if period == Period::Lifetime { 0 } else { self.version };
        let label = WindowLabel { period, start: start.as_second(), anchor_version };
        Window { label, start, end }
    }

    /// The window that `label` names, if this schedule's version made it.
    pub fn window_of_label(&self, label: WindowLabel) -> Option<Window> {
        if label.is_of_grant() {
            return None;
        }
        let start = Timestamp::from_second(label.start).ok()?;
        let window = self.window(label.period, start);
        (window.label == label).then_some(window)
    }

    fn date(&self, at: Timestamp) -> Date {
        at.to_zoned(self.zone.clone()).date()
    }

    /// The stretch of whole days that `at` is in: from the first instant of the date `first` to
    /// that of the one `length` later.
    ///
    /// Clocks that are put back across midnight have the end of a day twice. It is the next day's
    /// the second time, for a day that has begun goes on.
    fn dates(&self, at: Timestamp, first: Date, length: Span) -> (Timestamp, Option<Timestamp>) {
        let begins = |date: Date| self.instant(date.at(0, 0, 0, 0));
        let Ok(next) = first.checked_add(length) else { return (begins(first), None) };
        match begins(next) {
            end if end > at => (begins(first), Some(end)),
            start => (start, next.checked_add(length).ok().map(begins)),
        }
    }

    /// Hours and minutes are cut on the time line, so that a repeated hour (the clock going back) is
    /// two windows and not one that starts before the other.
    fn on_the_time_line(
        &self,
        at: Timestamp,
        unit: jiff::Unit,
        length: Span,
    ) -> (Timestamp, Option<Timestamp>) {
        let local = at.to_zoned(self.zone.clone());
        let into_unit = match unit {
            jiff::Unit::Hour => i64::from(local.minute()) * 60 + i64::from(local.second()),
            _ => i64::from(local.second()),
        };
        let start = Timestamp::from_second(local.timestamp().as_second() - into_unit)
            .map_or(Timestamp::MIN, |start| start);
        let end = start.checked_add(length).ok();
        (self.not_before_change(start, &local), end.map(|end| self.not_after_change(end, &local)))
    }

    /// A clock that changes by half an hour begins another hour there: `start`, or the change
    /// between it and `local`.
    fn not_before_change(&self, start: Timestamp, local: &Zoned) -> Timestamp {
        if self.zone.to_offset(start) == local.offset() {
            return start;
        }
        let at = local.timestamp();
        let after = at.checked_add(1.nanosecond()).unwrap_or(at);
        let change = self.zone.preceding(after).next();
        change.map_or(start, |change| change.timestamp().max(start))
    }

    /// As [`Self::not_before_change`]: `end`, or the change between `local` and it.
    fn not_after_change(&self, end: Timestamp, local: &Zoned) -> Timestamp {
        let last = end.checked_sub(1.nanosecond()).unwrap_or(end);
        if self.zone.to_offset(last) == local.offset() {
            return end;
        }
        let change = self.zone.following(local.timestamp()).next();
        change.map_or(end, |change| change.timestamp().min(end))
    }

    /// Cycle *n* starts *n* intervals after the anchor's local date and time, each counted from the
    /// anchor itself and not from the cycle before, so that a clamped month end returns.
    fn billing_cycle(&self, at: Timestamp) -> (Timestamp, Option<Timestamp>) {
        let anchor = self.anchor.to_zoned(self.zone.clone()).datetime();
        let local = at.to_zoned(self.zone.clone()).datetime();
        let months_between = (i32::from(local.year()) - i32::from(anchor.year())) * 12
            + i32::from(local.month())
            - i32::from(anchor.month());
        let mut cycle = months_between.div_euclid(self.interval.months());
        while self.cycle_start(anchor, cycle) > at {
            cycle -= 1;
        }
        while self.cycle_start(anchor, cycle + 1) <= at {
            cycle += 1;
        }
        (self.cycle_start(anchor, cycle), Some(self.cycle_start(anchor, cycle + 1)))
    }

    fn cycle_start(&self, anchor: DateTime, cycle: i32) -> Timestamp {
        let months = Span::new().months(cycle.saturating_mul(self.interval.months()));
        match anchor.checked_add(months) {
            Ok(local) => self.instant(local),
            Err(_) if cycle < 0 => Timestamp::MIN,
            Err(_) => Timestamp::MAX,
        }
    }

    fn instant(&self, local: DateTime) -> Timestamp {
        // `Compatible` disambiguation: a skipped local time moves forward, a repeated one is the
        // first. Only datetimes at the very ends of jiff's range can fail.
        self.zone.to_ambiguous_zoned(local).compatible().map_or(Timestamp::MAX, |z| z.timestamp())
    }
}

fn fixed_interval(at: Timestamp, seconds: i64) -> (Timestamp, Option<Timestamp>) {
    let start = at.as_second().div_euclid(seconds) * seconds;
    (
        Timestamp::from_second(start).map_or(Timestamp::MIN, |start| start),
        Timestamp::from_second(start + seconds).ok(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(anchor: &str, zone: &str, interval: BillingInterval) -> WindowSchedule {
        WindowSchedule {
            zone: TimeZone::get(zone).unwrap(),
            anchor: anchor.parse().unwrap(),
            interval,
            version: 1,
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_monthly_cycle_on_the_31st_clamps_and_returns() {
        let schedule = schedule("2026-01-31T00:00:00Z", "UTC", BillingInterval::Monthly);
        let february = schedule.window(Period::BillingCycle, at("2026-03-01T00:00:00Z"));
        assert_eq!(february.start, at("2026-02-28T00:00:00Z"));
        assert_eq!(february.end, Some(at("2026-03-31T00:00:00Z")));
    }

    #[test]
    fn a_yearly_cycle_on_29_february_clamps_in_common_years() {
        let schedule = schedule("2024-02-29T12:00:00Z", "UTC", BillingInterval::Yearly);
        let window = schedule.window(Period::BillingCycle, at("2025-02-28T12:00:00Z"));
        assert_eq!(window.start, at("2025-02-28T12:00:00Z"));
        assert_eq!(window.end, Some(at("2026-02-28T12:00:00Z")));
    }

    #[test]
    fn a_day_is_the_tenants_day_also_when_it_has_25_hours() {
        let schedule = schedule("2026-01-01T00:00:00Z", "Europe/London", BillingInterval::Monthly);
        let day = schedule.window(Period::Day, at("2026-10-25T12:00:00Z"));
        assert_eq!(day.start, at("2026-10-24T23:00:00Z"));
        assert_eq!(day.end, Some(at("2026-10-26T00:00:00Z")));
    }

    #[test]
    fn a_clock_that_changes_by_half_an_hour_cuts_the_hour_in_two() {
        let zone = "Australia/Lord_Howe";
        let schedule = schedule("2026-01-01T00:00:00Z", zone, BillingInterval::Monthly);
        // On 5 April 2026 at 15:00 UTC of the 4th, 02:00 becomes 01:30.
        let before = schedule.window(Period::Hour, at("2026-04-04T14:59:59Z"));
        let after = schedule.window(Period::Hour, at("2026-04-04T15:00:00Z"));
        assert_eq!(before.end, Some(at("2026-04-04T15:00:00Z")));
        assert_eq!(after.start, at("2026-04-04T15:00:00Z"));
        assert_eq!(after.end, Some(at("2026-04-04T15:30:00Z")));
    }

    #[test]
    fn a_cycle_before_the_anchor_is_found_too() {
        let schedule = schedule("2026-06-15T00:00:00Z", "UTC", BillingInterval::Monthly);
        let window = schedule.window(Period::BillingCycle, at("2015-05-17T00:00:00Z"));
        assert_eq!(window.start, at("2015-05-15T00:00:00Z"));
        assert!(window.contains(at("2015-05-17T00:00:00Z")));
    }

    #[test]
    fn a_lifetime_goes_on_when_the_anchor_moves() {
        let schedule = schedule("2026-06-15T00:00:00Z", "UTC", BillingInterval::Monthly);
        let moved = WindowSchedule { version: 2, ..schedule.clone() };
        let label =
            |of: &WindowSchedule, period| of.window(period, at("2026-07-01T00:00:00Z")).label;
        assert_eq!(label(&schedule, Period::Lifetime), label(&moved, Period::Lifetime));
        assert_ne!(label(&schedule, Period::Day), label(&moved, Period::Day));
    }

    #[test]
    fn a_label_reads_back_as_it_was_written() {
        let schedule = schedule("2026-06-15T00:00:00Z", "UTC", BillingInterval::Monthly);
        for period in [
            Period::Minute,
            Period::Hour,
            Period::Day,
            Period::Month,
            Period::BillingCycle,
            Period::Interval { seconds: 900 },
            Period::Lifetime,
        ] {
            let window = schedule.window(period, at("2026-11-21T05:00:30Z"));
            assert_eq!(window.label.to_string().parse(), Ok(window.label));
            assert_eq!(schedule.window_of_label(window.label), Some(window));
        }
    }

    proptest::proptest! {
        #[test]
        fn windows_tile_the_time_line(
            anchor in 0i64..4_000_000_000,
            second in 0i64..4_000_000_000,
            zone in proptest::sample::select(vec!["UTC", "Europe/London", "America/St_Johns",
                "Australia/Lord_Howe", "Pacific/Apia"]),
            period in proptest::sample::select(vec![Period::Minute, Period::Hour, Period::Day,
                Period::Month, Period::BillingCycle, Period::Interval { seconds: 7 }]),
        ) {
            let schedule = WindowSchedule {
                zone: TimeZone::get(zone).unwrap(),
                anchor: Timestamp::from_second(anchor).unwrap(),
                interval: BillingInterval::Monthly,
                version: 1,
            };
            let now = Timestamp::from_second(second).unwrap();
            let window = schedule.window(period, now);
            proptest::prop_assert!(window.contains(now), "{window:?} {now}");
            let end = window.end.unwrap();
            let next = schedule.window(period, end);
            proptest::prop_assert_eq!(next.start, end);
            let last = end.checked_sub(1.nanosecond()).unwrap();
            proptest::prop_assert_eq!(schedule.window(period, last), window);
        }

        #[test]
        fn a_cycle_starts_on_the_anchors_day_or_on_the_last_one_of_a_shorter_month(
            (year, month, day) in (2000i16..2040, 1i8..=12, 27i8..=31),
            hour in 0i8..24,
            second in 0i64..4_000_000_000,
            zone in proptest::sample::select(vec!["UTC", "Asia/Kolkata", "America/Phoenix"]),
            interval in proptest::sample::select(
                vec![BillingInterval::Monthly, BillingInterval::Yearly]),
        ) {
            // Zones without clock changes in these years: the local hour is the anchor's too.
            let zone = TimeZone::get(zone).unwrap();
            let first = jiff::civil::date(year, month, 1);
            let day = day.min(first.days_in_month());
            let anchor = first.with().day(day).build().unwrap().at(hour, 0, 0, 0);
            let anchor = anchor.to_zoned(zone.clone()).unwrap();
            let schedule =
                WindowSchedule { zone, anchor: anchor.timestamp(), interval, version: 1 };
            let window =
                schedule.window(Period::BillingCycle, Timestamp::from_second(second).unwrap());
            for start in [window.start, window.end.unwrap()] {
                let start = start.to_zoned(schedule.zone.clone());
                proptest::prop_assert_eq!(start.day(), day.min(start.days_in_month()));
                proptest::prop_assert_eq!(start.hour(), hour);
                if interval == BillingInterval::Yearly {
                    proptest::prop_assert_eq!(start.month(), month);
                }
            }
        }
    }
}
