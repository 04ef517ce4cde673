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
        let lanes = Lanes::of(|| Share(Arc::new(value.clone())));
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

/// What holds the value. A copy of it is counted where it is.
#[derive(Debug)]
#[allow(clippy::redundant_allocation)] // The outer one is what is counted apart.
pub struct Share<T>(Arc<Arc<T>>);

impl<T> Clone for Share<T> {
    #[inline]
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Share<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
