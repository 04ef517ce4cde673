//! The holder's steps where the simulation's driver, which is never in a hurry, sees no difference.

use std::time::Duration;

use uuid::Uuid;

use super::{
    cell::Cell,
    holder::{Holder, LeaseTimes, Step, Surroundings, Waiting},
    message::{Ceiling, Epoch, Recall},
};
use crate::domain::ids::RunId;

#[test]
fn a_return_that_fails_keeps_nobody_waiting() {
    let times = LeaseTimes::default();
    let mut holder = Holder::new(RunId(Uuid::from_u128(1)), times);
    let cell = Cell::new();
    let around = Surroundings {
        epoch: Epoch { number: 1, recovered: true },
        ceiling: Ceiling { units: Some(10), version: 1 },
        now: Duration::from_secs(1),
    };
    assert_eq!(holder.next(&cell, None, &around), Step::Rest { until: None });
    let other = RunId(Uuid::from_u128(2));
    holder.hint(&Recall { ticket: 1, first: Some(other), by: other });
    let one = Some(Waiting { head: 1, total: 1 });
    let Step::Send(call) = holder.next(&cell, one, &around) else { panic!("not sent") };
    assert!(call.closed, "it answers the recall");
    holder.failed(around.now);
    // Sent again and again instead, it would fail for ever while the counters are away.
    assert_eq!(holder.next(&cell, one, &around), Step::Unavailable);
    let until = Some(around.now + times.retry);
    assert_eq!(holder.next(&cell, None, &around), Step::Rest { until });
    let later = Surroundings { now: around.now + times.retry, ..around };
    let Step::Send(call) = holder.next(&cell, None, &later) else { panic!("not sent again") };
    assert!(call.closed, "the recall is still to be answered");
}
