//! When a window begins and ends.

use jiff::Timestamp;

/// The time of a window whose label is kept elsewhere: `[start, end)`.
///
/// There is one in each counter: it takes 24 bytes, where two times, of which one may be absent,
/// take 40.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    start_second: i64,
    /// [`ENDLESS`]: it never ends.
    end_second: i64,
    /// Of the start, with the sign of its seconds.
    start_nanosecond: i32,
    /// As `start_nanosecond`, of the end.
    end_nanosecond: i32,
}

/// No time has so many seconds.
const ENDLESS: i64 = i64::MAX;
/// Whatever was taken apart can be put together.
const TAKEN_APART: &str = "these are the parts of a time";

impl Bounds {
    /// From `start` on, before `end`; for ever without one.
    pub fn new(start: Timestamp, end: Option<Timestamp>) -> Self {
        let (start_second, start_nanosecond) = parts(start);
        let (end_second, end_nanosecond) = end.map_or((ENDLESS, 0), parts);
        Self { start_second, end_second, start_nanosecond, end_nanosecond }
    }

    /// The first instant in it.
    pub fn start(&self) -> Timestamp {
        whole(self.start_second, self.start_nanosecond)
    }

    /// The first instant after it; absent when it never ends.
    #[inline]
    pub fn end(&self) -> Option<Timestamp> {
        (self.end_second != ENDLESS).then(|| whole(self.end_second, self.end_nanosecond))
    }

    /// Whether `at` falls into it.
    #[inline]
    pub fn contains(&self, at: Timestamp) -> bool {
        (self.start_second, self.start_nanosecond) <= parts(at) && !self.is_over(at)
    }

    /// Whether it has ended at `now`.
    #[inline]
    pub fn is_over(&self, now: Timestamp) -> bool {
        (self.end_second, self.end_nanosecond) <= parts(now)
    }
}

/// Parts that are in the order of the times.
#[inline]
fn parts(time: Timestamp) -> (i64, i32) {
    (time.as_second(), time.subsec_nanosecond())
}

#[inline]
fn whole(second: i64, nanosecond: i32) -> Timestamp {
    Timestamp::new(second, nanosecond).expect(TAKEN_APART)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn times() -> impl Strategy<Value = Timestamp> {
        // Around the epoch signs change; far from it are the ends of what there is.
        let nanoseconds = prop_oneof![-2_000_000_000_i128..2_000_000_000, any::<i128>()];
        nanoseconds.prop_map(|at| {
            let (min, max) = (Timestamp::MIN.as_nanosecond(), Timestamp::MAX.as_nanosecond());
            Timestamp::from_nanosecond(at.clamp(min, max)).unwrap()
        })
    }

    proptest! {
        #[test]
        fn bounds_are_what_they_were_made_of(
            start in times(),
            end in prop::option::of(times()),
            at in times(),
        ) {
            let bounds = Bounds::new(start, end);
            prop_assert_eq!((bounds.start(), bounds.end()), (start, end));
            prop_assert_eq!(bounds.contains(at), start <= at && end.is_none_or(|end| at < end));
            prop_assert_eq!(bounds.is_over(at), end.is_some_and(|end| end <= at));
        }
    }
}
