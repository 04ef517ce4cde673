//! What one counter's events amount to.

use jiff::{SignedDuration, Timestamp};

use crate::{
    domain::{distinct::DistinctCount, meter::Aggregation, period::Period, usage::UsageEvent},
    journal::tally::Units,
};

const DAY_HOURS: i64 = 24;

/// One counter's events, added up in all the ways that its meter may ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct Total {
    pub aggregation: Aggregation,
    pub events: u64,
    /// Base units; stops at the ends of 64 bits, which takes a thousand largest amounts.
    pub amount_sum: i64,
    pub amount_max: i64,
    /// Time of the latest event: seconds since the Unix epoch, and nanoseconds of the same sign.
    pub last_second: i64,
    pub last_nanosecond: i32,
    /// Amount of the latest event; of several at the same time, the largest.
    pub last_amount: i64,
    /// Present exactly with [`Aggregation::DistinctCount`].
    pub distinct: Option<Box<DistinctCount>>,
    /// When it last changed, by the real clock, seconds since the Unix epoch.
    pub changed_at_second: i64,
}

/// What a total needs of an event.
#[derive(Clone, Copy, Debug)]
pub struct Addend<'e> {
    aggregation: Aggregation,
    amount: i64,
    time: Timestamp,
    distinct_value: Option<&'e str>,
}

impl<'e> Addend<'e> {
    /// Of an event that was read whole.
    pub fn of_event(event: &'e UsageEvent) -> Self {
        let UsageEvent { aggregation, amount, time, .. } = *event;
        Self { aggregation, amount, time, distinct_value: event.distinct_value.as_deref() }
    }

    /// Of one that has nothing but units.
    pub fn of_units(units: &Units) -> Self {
        let Units { ref counter, amount, time } = *units;
        Self { aggregation: counter.aggregation, amount, time, distinct_value: None }
    }
}

impl Total {
    /// A total of `event` alone.
    pub fn of(event: Addend<'_>, now: Timestamp) -> Self {
        let mut total = Self {
            aggregation: event.aggregation,
            events: 0,
            amount_sum: 0,
            amount_max: event.amount,
            last_second: event.time.as_second(),
            last_nanosecond: event.time.subsec_nanosecond(),
            last_amount: event.amount,
            distinct: None,
            changed_at_second: now.as_second(),
        };
        total.add(event, now);
        total
    }

    /// Adds an event.
    pub fn add(&mut self, event: Addend<'_>, now: Timestamp) {
        self.aggregation = event.aggregation;
        self.events += 1;
        self.amount_sum = self.amount_sum.saturating_add(event.amount);
        self.amount_max = self.amount_max.max(event.amount);
        self.see_last(event.time, event.amount);
        if let Some(value) = event.distinct_value {
            self.distinct.get_or_insert_default().insert(value);
        }
        self.changed_at_second = self.changed_at_second.max(now.as_second());
    }

    fn see_last(&mut self, time: Timestamp, amount: i64) {
        let known = (self.last_second, self.last_nanosecond, self.last_amount);
        let latest = known.max((time.as_second(), time.subsec_nanosecond(), amount));
        (self.last_second, self.last_nanosecond, self.last_amount) = latest;
    }

    /// The counter's value, as its meter aggregates.
    pub fn value(&self) -> i64 {
        match self.aggregation {
            Aggregation::Sum => self.amount_sum,
            Aggregation::Count => clamp(self.events),
            Aggregation::Max => self.amount_max,
            Aggregation::Last => self.last_amount,
            Aggregation::DistinctCount => {
                clamp(self.distinct.as_ref().map_or(0, |distinct| distinct.count()))
            }
        }
    }

    /// Units used, as far as escrow is concerned: 0 for meters that are not summed.
    pub fn used(&self) -> i64 {
        match self.aggregation {
            Aggregation::Sum | Aggregation::Count => self.value(),
            Aggregation::Max | Aggregation::Last | Aggregation::DistinctCount => 0,
        }
    }
}

fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The longest that a window of this kind may last; `None` = for ever.
pub fn longest_window(period: Period) -> Option<SignedDuration> {
    Some(match period {
        Period::Minute => SignedDuration::from_mins(1),
        Period::Hour => SignedDuration::from_hours(1),
        // Days and months may begin or end with an hour that is repeated.
        Period::Day => SignedDuration::from_hours(2 * DAY_HOURS),
        Period::Month => SignedDuration::from_hours(32 * DAY_HOURS),
        // The longest billing interval is a year.
        Period::BillingCycle => SignedDuration::from_hours(367 * DAY_HOURS),
        Period::Interval { seconds } => SignedDuration::from_secs(seconds.into()),
        Period::Lifetime | Period::Grant { .. } => return None,
    })
}
