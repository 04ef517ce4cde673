//! A histogram that threads record in beside each other, in as much memory as its buckets take.
//!
//! The exporter's own keeps every sample until somebody scrapes.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::HistogramFn;

use crate::lanes::Lanes;

/// Upper bounds of the buckets at most; beyond them a lane's counts would not be a fixed array.
pub const BOUNDS_MAX: usize = 20;

/// Samples by bucket.
#[derive(Debug)]
pub struct BucketHistogram {
    /// Upper bounds, inclusive and ascending, [`BOUNDS_MAX`] at most.
    bounds: &'static [f64],
    lanes: Lanes<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    /// Samples of each bucket by itself; those above all bounds come after the last.
    counts: [AtomicU64; BOUNDS_MAX + 1],
    /// The bits of a floating-point number.
    sum: AtomicU64,
}

/// What a histogram holds at a moment.
#[derive(Debug, PartialEq)]
pub struct Snapshot {
    /// Samples up to each bound.
    pub cumulative: Vec<(f64, u64)>,
    /// All samples, those above all bounds included.
    pub count: u64,
    pub sum: f64,
}

impl BucketHistogram {
    /// No samples, in buckets up to `bounds`.
    pub fn new(bounds: &'static [f64]) -> Self {
        debug_assert!(bounds.len() <= BOUNDS_MAX && bounds.is_sorted());
        Self { bounds, lanes: Lanes::default() }
    }

    /// All samples until now. Never more in a bucket than in the next, and never less than in an
    /// earlier snapshot; the sum may be behind or ahead by what is being recorded.
    pub fn snapshot(&self) -> Snapshot {
        let of_bucket = |bucket: usize| -> u64 {
            self.lanes.all().map(|lane| lane.counts[bucket].load(Ordering::Relaxed)).sum()
        };
        let mut count = 0;
        let mut up_to = |bucket| {
            count += of_bucket(bucket);
            count
        };
        let cumulative =
            self.bounds.iter().enumerate().map(|(bucket, bound)| (*bound, up_to(bucket))).collect();
        let count = up_to(self.bounds.len());
        let sums = self.lanes.all().map(|lane| f64::from_bits(lane.sum.load(Ordering::Relaxed)));
        Snapshot { cumulative, count, sum: sums.sum() }
    }
}

impl HistogramFn for BucketHistogram {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        let lane = self.lanes.own();
        lane.counts[bucket].fetch_add(count as u64, Ordering::Relaxed);
        let values = value * count as f64;
        let add = |sum| Some((f64::from_bits(sum) + values).to_bits());
        // It gives up only when it is told to, which it is not.
        let _ = lane.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_counts_in_every_bucket_whose_bound_it_does_not_pass() {
        let histogram = BucketHistogram::new(&[1.0, 2.0, 4.0]);
        for value in [0.5, 1.0, 1.5, 4.0, 9.0] {
            histogram.record(value);
        }
        let cumulative = vec![(1.0, 2), (2.0, 3), (4.0, 4)];
        assert_eq!(histogram.snapshot(), Snapshot { cumulative, count: 5, sum: 16.0 });
    }

    #[test]
    fn many_of_one_value_count_as_often_as_they_are() {
        let histogram = BucketHistogram::new(&[1.0, 2.0]);
        histogram.record_many(1.5, 3);
        let cumulative = vec![(1.0, 0), (2.0, 3)];
        assert_eq!(histogram.snapshot(), Snapshot { cumulative, count: 3, sum: 4.5 });
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let histogram = BucketHistogram::new(&[1.0]);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1_000).for_each(|_| histogram.record(2.0)));
            }
        });
        let snapshot = histogram.snapshot();
        assert_eq!((snapshot.cumulative[0].1, snapshot.count), (0, 8_000));
        assert_eq!(snapshot.sum, 16_000.0);
    }
}
