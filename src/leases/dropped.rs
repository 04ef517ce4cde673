//! What cells leave behind in their run when they are dropped.
//!
//! What a run tells the key are totals of everything it ever did on it. So when a cell is dropped in
//! mid-window, its totals stay, and a later cell of the same key goes on from them: one that began at
//! zero would be handed, as new escrow, what the run has long spent. Of windows that are over nothing
//! is kept but how far they reach, and no cell is made in them again, whatever a clock that goes
//! backwards says.

use std::{collections::HashMap, hash::Hash};

use jiff::Timestamp;

use crate::domain::{one_seed::OneSeed, window::Window};

/// The window is over, and cells of such were dropped: there will be none in it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past;

/// What the dropped cells of one tenant left, by key.
#[derive(Debug)]
pub struct Dropped<K, T> {
    /// Boxed, so that the places of the map that are empty take little.
    left: HashMap<Box<K>, Box<Left<T>>, OneSeed>,
    /// Latest end of the windows whose cells were dropped because they were over.
    past_to: Timestamp,
}

#[derive(Debug)]
struct Left<T> {
    /// The end of the cell's window, if it has one.
    end: Option<Timestamp>,
    left: T,
}

impl<K: Eq + Hash, T> Dropped<K, T> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { left: HashMap::default(), past_to: Timestamp::MIN }
    }

    /// What a new cell of `key` has to go on from, if there was one before.
    pub fn look(&self, key: &K, window: &Window) -> Result<Option<&T>, Past> {
        match self.left.get(key) {
            Some(kept) => Ok(Some(&kept.left)),
            None if window.end.is_some_and(|end| end <= self.past_to) => Err(Past),
            None => Ok(None),
        }
    }

    /// There is a cell of `key` again.
    pub fn resume(&mut self, key: &K) {
        self.left.remove(key);
        self.shrink();
    }

    /// The cell of `key` is dropped at `now`, the tenant's.
    ///
    /// `end` is that of the cell's window, if it has one.
    pub fn leave(&mut self, key: K, end: Option<Timestamp>, now: Timestamp, left: T) {
        if !self.has_passed(end, now) {
            self.left.insert(Box::new(key), Box::new(Left { end, left }));
        }
    }

    /// Forgets what windows left that are over at `now`, the tenant's.
    pub fn forget_past(&mut self, now: Timestamp) {
        let mut left = std::mem::take(&mut self.left);
        left.retain(|_, kept| !self.has_passed(kept.end, now));
        self.left = left;
        self.shrink();
    }

    /// Keys that left something.
    pub fn len(&self) -> usize {
        self.left.len()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Gives memory back, once most of it is free.
    fn shrink(&mut self) {
        if 4 * self.left.len() <= self.left.capacity() {
            self.left.shrink_to(2 * self.left.len());
        }
    }

    fn has_passed(&mut self, end: Option<Timestamp>, now: Timestamp) -> bool {
        match end {
            Some(end) if end <= now => {
                self.past_to = self.past_to.max(end);
                true
            }
            _ => false,
        }
    }
}

impl<K: Eq + Hash, T> Default for Dropped<K, T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, ToSpan};

    use super::*;
    use crate::domain::{period::Period, window::WindowLabel};

    /// A window of the first minutes ever.
    fn minute(number: i64) -> Window {
        let label = WindowLabel { period: Period::Minute, start: 60 * number, anchor_version: 1 };
        let start = Timestamp::from_second(60 * number).unwrap();
        Window { label, start, end: Some(start + 1.minute()) }
    }

    #[test]
    fn a_cell_of_a_window_that_goes_on_is_resumed_and_of_one_that_is_over_never_made_again() {
        let mut dropped = Dropped::new();
        let (early, late) = (minute(0), minute(1));
        dropped.leave("late", late.end, early.start, 7);
        assert_eq!(dropped.look(&"late", &late), Ok(Some(&7)));
        assert_eq!(dropped.look(&"early", &early), Ok(None));
        dropped.leave("early", early.end, late.start, 3);
        assert_eq!(dropped.look(&"early", &early), Err(Past));
        // Though the clock has gone back.
        assert_eq!(dropped.look(&"other", &early), Err(Past));
        assert_eq!(dropped.look(&"late", &late), Ok(Some(&7)), "what is kept may be resumed");
        dropped.forget_past(late.start + 1.minute());
        assert_eq!(dropped.look(&"late", &late), Err(Past));
        assert!(dropped.is_empty());
    }

    #[test]
    fn a_window_without_an_end_is_never_past() {
        let mut dropped = Dropped::new();
        let endless = Window { end: None, ..minute(0) };
        dropped.leave("seats", endless.end, Timestamp::MAX, 7);
        dropped.forget_past(Timestamp::MAX);
        assert_eq!(dropped.look(&"seats", &endless), Ok(Some(&7)));
        dropped.resume(&"seats");
        assert_eq!(dropped.look(&"seats", &endless), Ok(None));
    }
}
