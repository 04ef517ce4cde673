//! A value that is held for a moment by very many.
//!
//! Who holds something is counted, and the count of what all requests hold is written to by every core
//! with each of them. Here each lane has a count of its own, and the value counts the lanes.

use std::{ops::Deref, sync::Arc};

use super::Lanes;

/// A value to be held.
#[derive(Debug)]
pub struct Shares<T> {
    value: Arc<T>,
    lanes: Lanes<Share<T>>,
}

impl<T> Shares<T> {
    /// Of what others hold, too.
    pub fn new(value: Arc<T>) -> Self {
        let lanes = Lanes::of(|| Share(Arc::new(Apart(value.clone()))));
        Self { value, lanes }
    }

    /// One more holder.
    #[inline]
    pub fn share(&self) -> Share<T> {
        self.lanes.own().clone()
    }
}

impl<T> Deref for Shares<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.value
    }
}

/// What holds the value. A copy of it is counted with those of its lane.
#[derive(Debug)]
pub struct Share<T>(Arc<Apart<T>>);

/// The counts of who shares it lie before it, and with it on no cache lines of others.
#[derive(Debug)]
#[repr(align(128))]
struct Apart<T>(Arc<T>);

impl<T> Clone for Share<T> {
    #[inline]
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Share<T> {
    type Target = T;

    fn deref(&self) -> &T {
        let Apart(value) = &*self.0;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_lanes_are_counted_on_the_same_cache_lines() {
        let shares = Shares::new(Arc::new(7));
        let mut places: Vec<_> =
            shares.lanes.all().map(|Share(share)| Arc::as_ptr(share).addr()).collect();
        places.sort_unstable();
        let apart = size_of::<Apart<i32>>();
        assert!(apart >= 128 && places.windows(2).all(|two| two[1] - two[0] >= 2 * apart));
    }

    #[test]
    fn the_value_lives_as_long_as_any_share_of_it() {
        let value = Arc::new(7);
        let seen = Arc::downgrade(&value);
        let shares = Shares::new(value);
        let (share, other) = (shares.share(), shares.share());
        drop((shares, other));
        assert_eq!((*share, seen.strong_count()), (7, 1));
        drop(share);
        assert!(seen.upgrade().is_none());
    }
}
