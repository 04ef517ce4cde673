//! A level (seats, stored bytes) over a period, from what it changed by in each hour.

use jiff::Timestamp;

/// What a level changed by within one hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelChange {
    /// Start of the hour.
    pub hour: Timestamp,
    /// Base units, up or down.
    pub delta: i64,
}

/// A level within a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelOver {
    /// The highest of: what the period began with, and where each of its hours ended.
    pub peak: u64,
    /// Where the period ended.
    pub end: u64,
}

/// The level over `[start, end)`; `changes` are ordered by hour and begin with the level's first.
///
/// An hour belongs to the period in which it starts. Below zero (a decrease that was recorded
/// without its increase) counts as zero for the figure, but is carried on. `None` when the sum does
/// not fit 63 bits.
pub fn level_over(changes: &[LevelChange], start: Timestamp, end: Timestamp) -> Option<LevelOver> {
    let split = changes.partition_point(|change| change.hour < start);
    let (before, rest) = changes.split_at(split);
    let mut level =
        before.iter().try_fold(0i64, |level, change| level.checked_add(change.delta))?;
    let mut peak = level;
    for change in rest.iter().take_while(|change| change.hour < end) {
        level = level.checked_add(change.delta)?;
        peak = peak.max(level);
    }
    let shown = |level: i64| u64::try_from(level).unwrap_or(0);
    Some(LevelOver { peak: shown(peak), end: shown(level) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(parts: &[(&str, i64)]) -> Vec<LevelChange> {
        let change = |(hour, delta): &(&str, i64)| LevelChange { hour: at(hour), delta: *delta };
        parts.iter().map(change).collect()
    }

    fn at(hour: &str) -> Timestamp {
        format!("2026-{hour}:00:00Z").parse().unwrap()
    }

    #[test]
    fn a_level_is_carried_into_the_period_and_its_peak_is_within() {
        let changes = changes(&[("04-20T05", 10), ("05-02T00", 5), ("05-09T00", -12)]);
        let may = level_over(&changes, at("05-01T00"), at("06-01T00")).unwrap();
        assert_eq!(may, LevelOver { peak: 15, end: 3 });
        let june = level_over(&changes, at("06-01T00"), at("07-01T00")).unwrap();
        assert_eq!(june, LevelOver { peak: 3, end: 3 });
    }

    #[test]
    fn what_falls_from_the_first_hour_on_still_began_high() {
        let changes = changes(&[("04-20T05", 10), ("05-01T00", -10)]);
        let may = level_over(&changes, at("05-01T00"), at("06-01T00")).unwrap();
        assert_eq!(may, LevelOver { peak: 10, end: 0 });
    }

    #[test]
    fn the_hour_at_the_end_belongs_to_the_next_period() {
        let changes = changes(&[("05-31T23", 1), ("06-01T00", 100)]);
        let may = level_over(&changes, at("05-01T00"), at("06-01T00")).unwrap();
        assert_eq!(may, LevelOver { peak: 1, end: 1 });
    }

    #[test]
    fn below_zero_is_nothing_owed_and_a_sum_too_large_is_none() {
        let below = changes(&[("05-02T00", -5)]);
        let over = level_over(&below, at("05-01T00"), at("06-01T00")).unwrap();
        assert_eq!(over, LevelOver::default());
        let huge = changes(&[("05-02T00", i64::MAX), ("05-03T00", 1)]);
        assert_eq!(level_over(&huge, at("05-01T00"), at("06-01T00")), None);
    }
}
