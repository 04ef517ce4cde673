//! The way between runs and Redis: messages get lost, repeated, late, and out of order.

use super::{
    event::{Event, Identity},
    world::World,
};
use crate::leases::message::Call;

impl World {
    /// How long the next message takes, in microseconds.
    pub(super) fn way(&mut self) -> u64 {
        let (slow, slow_us, usual_us) = (self.plan.slow, self.plan.slow_us, self.plan.usual_us);
        let most = if !self.quiet && self.share(slow) { slow_us } else { usual_us };
        50 + self.up_to(most)
    }

    /// How often the next message arrives.
    pub(super) fn copies(&mut self) -> usize {
        let (lost, repeated) = (self.plan.lost, self.plan.repeated);
        match () {
            () if self.quiet => 1,
            () if self.share(lost) => 0,
            () if self.share(repeated) => 2,
            () => 1,
        }
    }

    pub(super) fn send(&mut self, to: Identity, call: &Call, key: usize) {
        self.seen.calls += 1;
        for _ in 0..self.copies() {
            let way = self.way();
            self.later(way, Event::CallArrives { to, call: Box::new(call.clone()), key });
        }
    }
}
