//! What is told to a key for a run that has died, by whoever has all of its journal: what it used, and
//! then that what it did not use comes back. Ordinary calls of that run, in two steps because only
//! the key knows what the run was granted.
//!
//! It is what the run itself would say if it stopped in good order, and as harmless: totals merge by
//! maximum, nothing is asked for, and the run's closing replaces all of it by what the ledger has. It
//! takes part in I1, because what is given back can be granted anew: who gives back has to know
//! *everything* that the run consumed under the key.
//!
//! The run itself had counted more, and undone it again: usage that its journal refused, of which
//! nobody knows but the key. What the key knows to be undone beyond what the ledger does is that, so
//! that as much is said to be consumed. Without it the key would undo what was never counted.

use super::message::{Ask, Call, Ceiling, Counted, Epoch, Totals};
use crate::domain::{amount::AMOUNT_MAX, ids::RunId};

/// Later than any call that the run has sent: one that is still on its way is granted nothing after
/// this, and changes nothing of what is told here.
const TELLS: u64 = AMOUNT_MAX - 1;
const GIVES_BACK: u64 = AMOUNT_MAX;

/// Tells what the run `consumed`, `recorded`, and what was `undone` of it; the other totals are 0.
pub fn tell(run: RunId, epoch: Epoch, used: Totals) -> Call {
    let Totals { consumed, recorded, undone, .. } = used;
    Call {
        run,
        sequence: TELLS,
        epoch,
        totals: Totals { granted: 0, returned: 0, consumed, recorded, undone },
        // Older than any that is in force.
        ceiling: Ceiling { units: None, version: 0 },
        ask: Ask::default(),
        closed: false,
        depose: None,
        retention: None,
        floor: None,
    }
}

/// Gives back what is not used of all that the key says was granted; `None`: nothing is left.
/// `told` is what [`tell`] has told, and `counted` how the key stands since.
pub fn give_back(told: &Call, counted: &Counted) -> Option<Call> {
    let granted = counted.totals.granted;
    let refused = counted.totals.undone.saturating_sub(told.totals.undone);
    let consumed = told.totals.consumed.saturating_add(refused);
    let returned = granted.saturating_sub(consumed);
    (returned > counted.totals.returned || consumed > counted.totals.consumed).then(|| Call {
        sequence: GIVES_BACK,
        totals: Totals { granted, returned, consumed, ..told.totals },
        closed: true,
        ..told.clone()
    })
}

/// Whether a call with this number is one of these, and none of the run itself.
pub(super) fn is_by_heir(sequence: u64) -> bool {
    sequence >= TELLS
}

/// Whether the call is what [`tell`] makes.
#[cfg(test)]
pub(super) fn is_telling(call: &Call) -> bool {
    call.sequence == TELLS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::leases::{
        key::KeyState,
        message::{Answer, Floor},
    };

    const EPOCH: Epoch = Epoch { number: 1, recovered: true };
    const LIMIT: u64 = 1_000;

    fn run(number: u128) -> RunId {
        RunId(Uuid::from_u128(number))
    }

    /// A call that asks for `need` more than was `granted`.
    fn asks(number: u128, sequence: u64, totals: Totals, need: u64) -> Call {
        let to = totals.granted + need;
        Call {
            sequence,
            totals,
            ceiling: Ceiling { units: Some(LIMIT), version: 7 },
            ask: Ask { want: sequence, need_to: to, wanted_to: to, target: to, last: true },
            floor: Some(Box::new(Floor::default())),
            ..tell(run(number), EPOCH, totals)
        }
    }

    fn counted(slot: &mut Option<KeyState>, call: &Call) -> Counted {
        match KeyState::apply(slot, true, call).0 {
            Answer::Counted(counted) => counted,
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn all_that_a_dead_run_did_not_use_is_free_and_no_more(
            granted in 1..=LIMIT,
            used_percent in 0..=100_u64,
            settled_percent in 0..=100_u64,
            recorded in 0..50_u64,
            refused_percent in 0..=100_u64,
            refused_late in 0..50_u64,
            comes_between in proptest::bool::ANY,
            undone in 0..20_u64,
            heard_percent in 0..=100_u64,
            times in 1..3_usize,
        ) {
            let consumed = granted * used_percent / 100;
            // What the journal refused was taken from what was granted all the same, and what the
            // ledger has undone the run may have heard of.
            let undone = undone.min(consumed);
            let refused = (granted - consumed) * refused_percent / 100;
            let heard = (undone * heard_percent / 100).min(consumed * settled_percent / 100);
            let mut slot = None;
            counted(&mut slot, &asks(1, 1, Totals::default(), granted));
            let settled = Totals {
                granted,
                consumed: consumed * settled_percent / 100 + refused,
                undone: heard + refused,
                ..Totals::default()
            };
            counted(&mut slot, &asks(1, 2, settled, 0));
            // Sent before the run died, and still on its way, when the journal had refused more.
            let totals = Totals {
                consumed: settled.consumed + refused_late,
                undone: settled.undone + refused_late,
                ..settled
            };
            let late = asks(1, 3, totals, 1);

            let used = Totals { consumed, recorded, undone, ..Totals::default() };
            for _ in 0..times {
                let told = tell(run(1), EPOCH, used);
                let stands = counted(&mut slot, &told);
                if comes_between {
                    counted(&mut slot, &late);
                }
                if let Some(back) = give_back(&told, &stands) {
                    counted(&mut slot, &back);
                }
            }
            counted(&mut slot, &late);

            let counts = (consumed + recorded - undone).cast_signed();
            let stands = counted(&mut slot, &asks(2, 1, Totals::default(), 0));
            // What both have undone cannot be told apart before the closing: too much counts, if anything.
            let unclear = refused.min(undone - heard).cast_signed();
            prop_assert!((counts..=counts + unclear).contains(&stands.used), "{stands:?}");
            prop_assert_eq!(stands.others_outstanding, 0);
            prop_assert_eq!(stands.free, LIMIT.cast_signed() - stands.used);
            let free = stands.free.max(0).cast_unsigned();
            prop_assert_eq!(stands.ceiling.units, Some(LIMIT), "the ceiling in force stays");
            prop_assert_eq!(counted(&mut slot, &asks(2, 2, Totals::default(), free + 1)).totals.granted, 0);
            let all = counted(&mut slot, &asks(2, 3, Totals::default(), free));
            prop_assert_eq!(all.totals.granted, free);
        }
    }
}
