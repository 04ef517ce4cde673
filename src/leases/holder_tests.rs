//! The holder's steps where the simulation's driver, which is never in a hurry, sees no difference.

use std::time::Duration;

use uuid::Uuid;

use super::{
    cell::Cell,
    holder::{Denial, Holder, HolderSeed, LeaseTimes, Step, Surroundings, Waiting},
    key::KeyState,
    message::{Answer, Call, Ceiling, Epoch, Floor, Recall},
};
use crate::domain::ids::RunId;

/// What the holders of a run of this number are handed.
fn seed(run: u128) -> HolderSeed {
    HolderSeed { run: RunId(Uuid::from_u128(run)), times: LeaseTimes::default() }
}

#[test]
fn a_return_that_fails_keeps_nobody_waiting() {
    let times = LeaseTimes::default();
    let (seed, mut holder) = (seed(1), Holder::new());
    let cell = Cell::new();
    let around = Surroundings {
        epoch: Epoch { number: 1, recovered: true },
        ceiling: Ceiling { units: Some(10), version: 1 },
        now: Duration::from_secs(1),
    };
    assert_eq!(holder.next(&seed, &cell, None, &around), Step::Rest { until: None });
    let other = RunId(Uuid::from_u128(2));
    holder.hint(seed.run, &Recall { ticket: 1, first: Some(other), by: other });
    let one = Some(Waiting { head: 1, total: 1 });
    let Step::Send(call) = holder.next(&seed, &cell, one, &around) else { panic!("not sent") };
    assert!(call.closed, "it answers the recall");
    holder.failed(&seed, around.now);
    // Sent again and again instead, it would fail for ever while the counters are away.
    assert_eq!(holder.next(&seed, &cell, one, &around), Step::Unavailable);
    let until = Some(around.now + times.retry);
    assert_eq!(holder.next(&seed, &cell, None, &around), Step::Rest { until });
    let later = Surroundings { now: around.now + times.retry, ..around };
    let Step::Send(call) = holder.next(&seed, &cell, None, &later) else {
        panic!("not sent again")
    };
    assert!(call.closed, "the recall is still to be answered");
}

#[test]
fn what_was_used_beyond_the_ceiling_is_not_said_to_remain() {
    let around = Surroundings {
        epoch: Epoch { number: 1, recovered: true },
        ceiling: Ceiling { units: Some(10), version: 1 },
        now: Duration::from_secs(1),
    };
    let mut key = None;
    let mut ask = |call: &Call| {
        let call = Call { floor: Some(Box::new(Floor::default())), ..call.clone() };
        KeyState::apply(&mut key, true, &call).0
    };
    let mut holders = [1, 2].map(|run| (seed(run), Holder::new(), Cell::new()));
    let [(seed, holder, cell), (other_seed, other, others)] = &mut holders;
    // The other holds 8, and 5 more are recorded after the fact: 3 beyond what is free.
    let eight = Some(Waiting { head: 8, total: 8 });
    let Step::Send(call) = other.next(other_seed, others, eight, &around) else {
        panic!("not sent")
    };
    let answer = ask(&call);
    other.answered(other_seed, others, &call, &answer, around.now);
    assert_eq!(others.available(), 8);
    cell.record(5);
    let ten = Some(Waiting { head: 10, total: 10 });
    // Twice: what is beyond the ceiling is a recall, too, which it answers before all else.
    for _ in 0..2 {
        let Step::Send(call) = holder.next(seed, cell, ten, &around) else { panic!("not sent") };
        let answer = ask(&call);
        let Answer::Counted(counted) = &answer else { panic!("{answer:?}") };
        assert_eq!((counted.free, counted.others_outstanding), (-3, 8));
        holder.answered(seed, cell, &call, &answer, around.now);
    }
    let denied = Step::Deny { why: Denial::Exhausted, remaining: 5, at_hand: 0 };
    assert_eq!(holder.next(seed, cell, ten, &around), denied);
}

#[test]
fn of_a_failure_nothing_is_kept_once_a_call_is_answered() {
    let times = LeaseTimes::default();
    let (seed, mut holder, cell) = (seed(1), Holder::new(), Cell::new());
    let around = Surroundings {
        epoch: Epoch { number: 1, recovered: true },
        ceiling: Ceiling { units: Some(10), version: 1 },
        now: Duration::from_secs(1),
    };
    assert!(holder.passing.is_nothing());
    cell.record(5);
    let Step::Send(_) = holder.next(&seed, &cell, None, &around) else { panic!("not sent") };
    holder.failed(&seed, around.now);
    let until = Some(around.now + times.retry);
    assert_eq!(holder.next(&seed, &cell, None, &around), Step::Rest { until });
    let around = Surroundings { now: around.now + times.retry, ..around };
    let Step::Send(call) = holder.next(&seed, &cell, None, &around) else {
        panic!("not sent again")
    };
    let call = Call { floor: Some(Box::new(Floor::default())), ..*call };
    let answer = KeyState::apply(&mut None, true, &call).0;
    holder.answered(&seed, &cell, &call, &answer, around.now);
    assert!(holder.passing.is_nothing(), "{:?}", holder.passing);
    assert_eq!(holder.next(&seed, &cell, None, &around), Step::Rest { until: None });
}

/// Its answer is of counters that may be lost by now, and a floor of the next ones may have been read
/// before what the cell counted was flushed.
#[test]
fn a_cell_that_parts_while_a_call_is_under_way_calls_once_more() {
    let around = Surroundings {
        epoch: Epoch { number: 1, recovered: true },
        ceiling: Ceiling { units: Some(10), version: 1 },
        now: Duration::from_secs(1),
    };
    let (seed, mut holder, cell) = (seed(1), Holder::new(), Cell::new());
    let mut key = None;
    let mut ask = |call: &Call| {
        let call = Call { floor: Some(Box::new(Floor::default())), ..call.clone() };
        KeyState::apply(&mut key, true, &call).0
    };
    cell.record(5);
    let Step::Send(call) = holder.next(&seed, &cell, None, &around) else { panic!("not sent") };
    holder.part(None);
    holder.answered(&seed, &cell, &call, &ask(&call), around.now);
    assert!(holder.is_settled(&cell));
    let Step::Send(call) = holder.next(&seed, &cell, None, &around) else { panic!("it just goes") };
    holder.answered(&seed, &cell, &call, &ask(&call), around.now);
    assert_eq!(holder.next(&seed, &cell, None, &around), Step::Retired);
}
