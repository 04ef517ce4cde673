//! A total as it is kept in memory: there is one for each counter of the last weeks.

use serde::{Deserialize, Serialize};

use super::total::Total;
use crate::domain::{meter::Aggregation, window::WindowLabel};

const SECOND_NANOSECONDS: i128 = 1_000_000_000;

/// The numbers of a total, each told by what it is beyond others that are near it, so that it takes few
/// bytes. What is zero where all amounts are the same comes last.
///
/// All differences wrap around: what is put together is what was taken apart, however large it is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PackedTotal {
    aggregation: Aggregation,
    events: u64,
    /// Of the latest event, since the start that the window's label has.
    last_nanosecond: i128,
    last_amount: i64,
    /// After the second of the latest event.
    changed_after_s: i64,
    /// Beyond as many events of the latest amount.
    sum_beyond: i64,
    max_beyond: i64,
}

impl PackedTotal {
    /// A total of the window with that label. It must not know distinct values.
    pub fn of(total: &Total, label: WindowLabel) -> Self {
        let Total { aggregation, events, last_amount, last_second, .. } = *total;
        let last = nanoseconds(last_second) + i128::from(total.last_nanosecond);
        Self {
            aggregation,
            events,
            last_nanosecond: last - nanoseconds(label.start),
            last_amount,
            changed_after_s: total.changed_at_second.wrapping_sub(last_second),
            sum_beyond: total.amount_sum.wrapping_sub(all_alike(events, last_amount)),
            max_beyond: total.amount_max.wrapping_sub(last_amount),
        }
    }

    /// The total, of the window with that label.
    pub fn total(&self, label: WindowLabel) -> Total {
        let Self { aggregation, events, last_amount, .. } = *self;
        let last = nanoseconds(label.start) + self.last_nanosecond;
        // Both have the sign of the whole, and both were as long before.
        let last_second = (last / SECOND_NANOSECONDS) as i64;
        let last_nanosecond = (last % SECOND_NANOSECONDS) as i32;
        Total {
            aggregation,
            events,
            amount_sum: all_alike(events, last_amount).wrapping_add(self.sum_beyond),
            amount_max: last_amount.wrapping_add(self.max_beyond),
            last_second,
            last_nanosecond,
            last_amount,
            distinct: None,
            changed_at_second: last_second.wrapping_add(self.changed_after_s),
        }
    }
}

fn nanoseconds(seconds: i64) -> i128 {
    i128::from(seconds) * SECOND_NANOSECONDS
}

fn all_alike(events: u64, amount: i64) -> i64 {
    events.cast_signed().wrapping_mul(amount)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::{prelude::*, sample::select};

    use super::*;
    use crate::domain::period::Period;

    proptest! {
        #[test]
        fn a_total_is_after_it_was_packed_what_it_was_before(
            aggregation in select(vec![Aggregation::Sum, Aggregation::Max, Aggregation::Last]),
            (events, amount_sum, amount_max) in any::<(u64, i64, i64)>(),
            (last_amount, changed_at_second, start) in any::<(i64, i64, i64)>(),
            last in prop_oneof![-2_000_000_000_i128..2_000_000_000, any::<i128>()],
        ) {
            let (least, most) = (Timestamp::MIN.as_nanosecond(), Timestamp::MAX.as_nanosecond());
            let last = Timestamp::from_nanosecond(last.clamp(least, most)).unwrap();
            let label = WindowLabel { period: Period::Day, start, anchor_version: 1 };
            let total = Total {
                aggregation,
                events,
                amount_sum,
                amount_max,
                last_second: last.as_second(),
                last_nanosecond: last.subsec_nanosecond(),
                last_amount,
                distinct: None,
                changed_at_second,
            };
            prop_assert_eq!(PackedTotal::of(&total, label).total(label), total);
        }
    }
}
