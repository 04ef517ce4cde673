//! What cells leave behind in their run when they are dropped.
//!
//! What a run tells the key are totals of everything it ever did on it. So when a cell is dropped in
//! mid-window, its totals stay, and a later cell of the same key goes on from them: one that began at
//! zero would be handed, as new escrow, what the run has long spent. Of windows that are over nothing
//! is kept but how far they reach, and no cell is made in them again, whatever a clock that goes
//! backwards says.

use jiff::Timestamp;

use crate::domain::window::Window;

/// The window is over, and cells of such were dropped: there will be none in it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past;

/// How far the windows reach that are over and of which nothing is kept: their latest end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PastTo(Timestamp);

impl Default for PastTo {
    /// There is none yet.
    fn default() -> Self {
        Self(Timestamp::MIN)
    }
}

impl PastTo {
    /// Nothing is kept of a window that ends at `end`, if it ends and is over at `now`; whether it is.
    pub fn pass(&mut self, end: Option<Timestamp>, now: Timestamp) -> bool {
        match end.filter(|end| *end <= now) {
            Some(end) => {
                self.0 = self.0.max(end);
                true
            }
            None => false,
        }
    }

    /// What a new cell in `window` has to go on from: what was `left` by the one before, if anything
    /// was.
    pub fn look<T>(self, left: Option<T>, window: &Window) -> Result<Option<T>, Past> {
        match left {
            None if window.end.is_some_and(|end| end <= self.0) => Err(Past),
            left => Ok(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;
    use crate::domain::{period::Period, window::WindowLabel};

    /// A window of the first minutes ever.
    fn minute(number: i64) -> Window {
        let label = WindowLabel { period: Period::Minute, start: 60 * number, anchor_version: 1 };
        let start = Timestamp::from_second(60 * number).unwrap();
        Window { label, start, end: Some(start + 1.minute()) }
    }

    #[test]
    fn no_cell_is_made_in_a_window_that_is_over_unless_what_it_goes_on_from_is_kept() {
        let mut past_to = PastTo::default();
        let (early, late) = (minute(0), minute(1));
        assert!(!past_to.pass(early.end, early.start));
        assert_eq!(past_to.look::<u64>(None, &early), Ok(None));
        assert!(past_to.pass(early.end, late.start));
        assert_eq!(past_to.look::<u64>(None, &early), Err(Past));
        assert_eq!(past_to.look(Some(7), &early), Ok(Some(7)));
        assert_eq!(past_to.look::<u64>(None, &late), Ok(None));
        // Of one that was over before.
        assert!(past_to.pass(minute(-1).end, late.start));
        assert_eq!(past_to.look::<u64>(None, &early), Err(Past));
    }

    #[test]
    fn a_window_without_an_end_is_never_past() {
        let mut past_to = PastTo::default();
        let endless = Window { end: None, ..minute(0) };
        assert!(!past_to.pass(endless.end, Timestamp::MAX));
        assert!(past_to.pass(Some(Timestamp::MAX), Timestamp::MAX));
        assert_eq!(past_to.look::<u64>(None, &endless), Ok(None));
    }
}
