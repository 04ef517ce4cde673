//! A counter in the hands of one who only looks at it.

use std::{ops::Deref, sync::Arc};

use crate::enforcement::counter::Counter;

/// Keeps a counter in memory, and not from being dropped where it is found.
#[derive(Debug)]
pub(super) struct Onlooker(Arc<Counter>);

impl Onlooker {
    /// Of `counter`, while nobody drops it: see [`super::counters::Counters::onlooker`].
    pub fn new(counter: Arc<Counter>) -> Self {
        counter.onlookers.join();
        Self(counter)
    }
}

impl Deref for Onlooker {
    type Target = Counter;

    #[inline]
    fn deref(&self) -> &Counter {
        &self.0
    }
}

impl Drop for Onlooker {
    fn drop(&mut self) {
        // Its share in the counter ends after this.
        self.0.onlookers.leave();
    }
}
