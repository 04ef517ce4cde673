//! A key as it is packed, where one process has very many.
//!
//! Most have one run at most, nobody waits, and nobody was ever closed. Then the running sums follow from
//! the one entry, and are not written. What is mostly nothing comes last: a map of packed values leaves
//! zeros at the end out.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::KeyState;
use crate::{
    domain::ids::RunId,
    leases::{
        entry::{Entries, Entry},
        fences::Fences,
        message::{Ceiling, Totals},
        origin::Origin,
        queue::Queue,
    },
};

const FOUNDED: u8 = 1;
const WITH_CEILING: u8 = 1 << 1;
const LIMITED: u8 = 1 << 2;
const WITH_RUN: u8 = 1 << 3;

/// All that is written of a key. What `marks` says is absent is zero.
#[derive(Serialize, Deserialize)]
pub(super) struct Packed {
    /// [`FOUNDED`], [`WITH_CEILING`], [`LIMITED`], [`WITH_RUN`].
    marks: u8,
    epoch: u64,
    ceiling_units: u64,
    ceiling_version: u64,
    sequence: u64,
    granted: u64,
    consumed: u64,
    recorded: u64,
    /// The run's id as a number: where runs are numbered, it takes a byte at most.
    run: u128,
    /// Of the floor, or of the least acceptable one.
    closed_seq: u64,
    base: i64,
    forfeited: u64,
    returned: u64,
    undone: u64,
    flushed: u64,
    answered: u64,
    several: Option<Several>,
    queue: Queue,
    fences: Fences,
}

/// What is written of a key that has more than one run.
#[derive(Serialize, Deserialize)]
struct Several {
    taken: i64,
    used: i64,
    overflowed: bool,
    holders: u32,
    entries: Vec<(RunId, Entry)>,
}

impl From<KeyState> for Packed {
    fn from(key: KeyState) -> Self {
        let KeyState {
            epoch,
            origin,
            forfeited,
            taken,
            used,
            overflowed,
            holders,
            ceiling,
            queue,
            entries,
            fences,
        } = key;
        let (founded, closed_seq, base) = match origin {
            Origin::Stub { closed_seq_min } => (0, closed_seq_min, 0),
            Origin::Floor { closed_seq, base } => (FOUNDED, closed_seq, base),
        };
        let with_ceiling = ceiling.map_or(0, |_| WITH_CEILING);
        let ceiling = ceiling.unwrap_or(Ceiling { units: None, version: 0 });
        let limited = ceiling.units.map_or(0, |_| LIMITED);
        let (with_run, (run, entry), several) = match entries {
            Entries::One(one) => (WITH_RUN, one, None),
            Entries::Many(entries) => {
                let several = Several { taken, used, overflowed, holders, entries };
                let none = (RunId(Uuid::nil()), Entry::default());
                (0, none, Some(several).filter(|several| !several.entries.is_empty()))
            }
        };
        let Entry { totals, flushed, sequence, answered } = entry;
        let Totals { granted, returned, consumed, recorded, undone } = totals;
        Self {
            marks: founded | with_ceiling | limited | with_run,
            epoch,
            ceiling_units: ceiling.units.unwrap_or(0),
            ceiling_version: ceiling.version,
            sequence,
            granted,
            consumed,
            recorded,
            run: run.0.as_u128(),
            closed_seq,
            base,
            forfeited,
            returned,
            undone,
            flushed,
            answered,
            several,
            queue,
            fences,
        }
    }
}

impl From<Packed> for KeyState {
    fn from(packed: Packed) -> Self {
        let is = |mark| packed.marks & mark != 0;
        let (closed_seq, base) = (packed.closed_seq, packed.base);
        let origin = match is(FOUNDED) {
            true => Origin::Floor { closed_seq, base },
            false => Origin::Stub { closed_seq_min: closed_seq },
        };
        let ceiling = Ceiling {
            units: is(LIMITED).then_some(packed.ceiling_units),
            version: packed.ceiling_version,
        };
        let mut key = Self {
            epoch: packed.epoch,
            origin,
            forfeited: packed.forfeited,
            ceiling: is(WITH_CEILING).then_some(ceiling),
            ..Self::default()
        };
        if is(WITH_RUN) {
            let Packed { granted, returned, consumed, recorded, undone, .. } = packed;
            let totals = Totals { granted, returned, consumed, recorded, undone };
            let Packed { flushed, sequence, answered, .. } = packed;
            let entry = Entry { totals, flushed, sequence, answered };
            key.put(RunId(Uuid::from_u128(packed.run)), entry);
        }
        if let Some(Several { taken, used, overflowed, holders, entries }) = packed.several {
            key = Self { taken, used, overflowed, holders, entries: Entries::Many(entries), ..key };
        }
        Self { queue: packed.queue, fences: packed.fences, ..key }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*, sample::select};

    use super::*;
    use crate::{
        domain::amount::AMOUNT_MAX,
        leases::message::{Ask, Call, CloseCall, CloseStep, Epoch, Floor, Flushed},
    };

    fn runs() -> impl Strategy<Value = RunId> {
        (0_u128..3).prop_map(|run| RunId(Uuid::from_u128(run)))
    }

    /// Small ones, and what is too much alone or together.
    fn amounts() -> impl Strategy<Value = u64> {
        let much = select(vec![AMOUNT_MAX / 2, AMOUNT_MAX - 1, AMOUNT_MAX, u64::MAX]);
        prop_oneof![4 => 0_u64..20, 1 => much]
    }

    fn floors() -> impl Strategy<Value = Box<Floor>> {
        let open_runs = prop::collection::btree_map(runs(), (amounts(), amounts()), 0..3);
        (0_u64..3, 0_i64..20, amounts(), open_runs).prop_map(
            |(closed_seq, base_used, base_forfeited, open_runs)| {
                let open_runs = open_runs.into_iter();
                let flushed = |(run, (used, undone))| Flushed { run, used, undone };
                let open_runs = open_runs.map(flushed).collect();
                let floor = Floor { closed_seq, base_used, base_forfeited, ..Floor::default() };
                Box::new(Floor { open_runs, ..floor })
            },
        )
    }

    prop_compose! {
        fn calls()(
            run in runs(),
            sequence in 0_u64..20,
            number in 1_u64..3,
            [granted, returned, consumed, recorded, undone] in prop::array::uniform5(amounts()),
            units in option::of(amounts()),
            version in 0_u64..5,
            need in amounts(),
            closed in any::<bool>(),
            floor in option::weighted(0.7, floors()),
        ) -> Call {
            Call {
                run,
                sequence,
                epoch: Epoch { number, recovered: true },
                totals: Totals { granted, returned, consumed, recorded, undone },
                ceiling: Ceiling { units, version },
                ask: Ask { want: 1, need_to: need, wanted_to: need, target: need, last: false },
                closed,
                depose: None,
                retention: None,
                floor,
            }
        }
    }

    fn closings() -> impl Strategy<Value = CloseCall> {
        let fold = (0_u64..4, amounts(), amounts(), amounts());
        let fold = fold.prop_map(|(closed_seq, used, undone, forfeit)| CloseStep::Fold {
            closed_seq,
            used,
            undone,
            forfeit,
        });
        (runs(), prop_oneof![Just(CloseStep::Fence), fold]).prop_map(|(run, step)| CloseCall {
            epoch: 2,
            run,
            step,
            folded_through: 0,
            fenced_max: 1,
            retention: None,
        })
    }

    #[derive(Clone, Debug)]
    enum Step {
        Call(Call),
        Close(CloseCall),
    }

    proptest! {
        #[test]
        fn a_key_is_after_it_was_packed_what_it_was_before(
            steps in prop::collection::vec(
                prop_oneof![3 => calls().prop_map(Step::Call), 1 => closings().prop_map(Step::Close)],
                1..12,
            ),
        ) {
            let mut slot = None;
            for step in steps {
                match step {
                    Step::Call(call) => drop(KeyState::apply(&mut slot, true, &call)),
                    Step::Close(call) => drop(KeyState::close(&mut slot, true, &call)),
                }
                if let Some(key) = &slot {
                    prop_assert_eq!(&KeyState::from(Packed::from(key.clone())), key);
                    let bytes = postcard::to_allocvec(key).unwrap();
                    prop_assert_eq!(&postcard::from_bytes::<KeyState>(&bytes).unwrap(), key);
                }
            }
        }
    }
}
