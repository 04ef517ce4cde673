//! What happens often is told seldom.

use std::{sync::Mutex, time::Duration};

use tokio::time::Instant;

/// How often the same thing is told.
const TOLD_INTERVAL: Duration = Duration::from_secs(60);

/// Something that is told at most once in [`TOLD_INTERVAL`], however often it happens.
#[derive(Debug, Default)]
pub struct Seldom {
    /// Guards when it was last told, and how often it has happened since.
    last: Mutex<(Option<Instant>, u64)>,
}

impl Seldom {
    /// Notes that it has happened at `now`: how often since it was last told, when it is to be told
    /// again.
    pub fn due(&self, now: Instant) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        last.1 += 1;
        if last.0.is_some_and(|told| now.duration_since(told) < TOLD_INTERVAL) {
            return None;
        }
        last.0 = Some(now);
        Some(std::mem::take(&mut last.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_often_is_told_seldom_and_counted() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.due(start), Some(1));
        for _ in 0..99 {
            assert_eq!(seldom.due(start + Duration::from_secs(1)), None);
        }
        assert_eq!(seldom.due(start + TOLD_INTERVAL), Some(100));
    }
}
