//! Messages as the scripts' arguments and answers. The order is that of the scripts' headers.

use redis::{FromRedisValue, ScriptInvocation, Value};

use super::{
    distinct::{Admit, DistinctAnswer, DistinctCall},
    error::StoreError,
};
use crate::{
    domain::{
        amount::{AMOUNT_MAX, saturated},
        distinct::DistinctCount,
    },
    leases::message::{
        Answer, Call, Ceiling, CloseAnswer, CloseCall, CloseStep, Counted, Outcome, Totals,
    },
};

pub(super) fn lease_arguments(call: &Call, life: &str, invocation: &mut ScriptInvocation<'_>) {
    let (totals, ceiling, ask) = (call.totals.fitted(), call.ceiling.fitted(), &call.ask);
    invocation
        .arg(life)
        .arg(call.epoch.number)
        .arg(flag(call.epoch.recovered))
        .arg(call.run.to_string())
        .arg(call.sequence)
        .arg(&[totals.granted, totals.returned, totals.consumed, totals.recorded, totals.undone])
        .arg(ceiling.units.map_or(-1, u64::cast_signed))
        .arg(ceiling.version)
        // Beyond 2^53 an ask is refused anyway; it only has to stay readable.
        .arg(&[ask.want, ask.need_to, ask.wanted_to, ask.target])
        .arg(flag(ask.last))
        .arg(flag(call.closed))
        .arg(call.depose.unwrap_or(0))
        .arg(retention_s(call.retention));
    match &call.floor {
        None => invocation.arg(0),
        Some(floor) => {
            invocation
                .arg(1)
                .arg(floor.closed_seq)
                .arg(saturated(floor.base_used))
                .arg(floor.base_forfeited.min(AMOUNT_MAX))
                .arg(floor.ceiling_version);
            for open in floor.open_runs.iter().map(|open| open.fitted()) {
                invocation.arg(open.run.to_string()).arg(open.used).arg(open.undone);
            }
            invocation
        }
    };
}

pub(super) fn close_arguments(call: &CloseCall, life: &str, invocation: &mut ScriptInvocation<'_>) {
    invocation.arg(life).arg(call.epoch).arg(call.run.to_string()).arg(retention_s(call.retention));
    match call.step.fitted() {
        CloseStep::Fence => invocation.arg(&[0_u64; 5]),
        CloseStep::Fold { closed_seq, used, undone, forfeit } => {
            invocation.arg(&[1, closed_seq, used, undone, forfeit])
        }
    };
    invocation.arg(call.folded_through).arg(call.fenced_max);
}

pub(super) fn distinct_arguments(
    call: &DistinctCall,
    life: &str,
    invocation: &mut ScriptInvocation<'_>,
) {
    let (floor, known) = (call.floor.as_deref(), call.known.as_deref());
    let (ceiling, hash) = match call.admit {
        Some(Admit { hash, ceiling }) => (ceiling.cast_signed(), hash),
        None => (-1, 0),
    };
    let estimate = |count: Option<&DistinctCount>| match count {
        Some(count) if !count.is_exact() => count.count().cast_signed(),
        _ => -1,
    };
    let hashes = |count: Option<&DistinctCount>| -> Vec<i64> {
        let hashes = count.and_then(DistinctCount::hashes);
        hashes.map_or_else(Vec::new, |hashes| hashes.map(|hash| hash.cast_signed()).collect())
    };
    let floor_hashes = hashes(floor);
    invocation
        .arg(life)
        .arg(call.epoch.number)
        .arg(flag(call.epoch.recovered))
        .arg(retention_s(call.retention))
        .arg(ceiling)
        .arg(hash.cast_signed())
        .arg(flag(floor.is_some()))
        .arg(estimate(floor))
        .arg(estimate(known))
        .arg(floor_hashes.len())
        .arg(floor_hashes)
        .arg(hashes(known));
}

pub(super) fn lease_answer(value: &Value) -> Result<Answer, StoreError> {
    let numbers = numbers(value);
    let answer = match *numbers.as_slice() {
        [
            0,
            granted,
            returned,
            consumed,
            recorded,
            undone,
            free,
            used,
            forfeited,
            others_outstanding,
            ceiling,
            version,
            outcome,
            first,
            recalled,
            answered,
        ] => counted(
            [granted, returned, consumed, recorded, undone, forfeited, others_outstanding],
            Ceiling { units: u64::try_from(ceiling).ok(), version: version.cast_unsigned() },
            (outcome, first),
        )
        .map(|counted| {
            let answered = answered.cast_unsigned();
            Answer::Counted(Counted { free, used, recalled: recalled == 1, answered, ..counted })
        }),
        [1, min] => Some(Answer::NeedFloor { closed_seq_min: min.cast_unsigned() }),
        [2, epoch] => Some(Answer::StaleEpoch { epoch: epoch.cast_unsigned() }),
        [3] => Some(Answer::EpochLost),
        [4] => Some(Answer::Fenced),
        _ => None,
    };
    answer.ok_or_else(|| unreadable("lease.lua", value))
}

/// `None` where an amount is negative: whoever took it for a large one would grant it.
fn counted(amounts: [i64; 7], ceiling: Ceiling, outcome: (i64, i64)) -> Option<Counted> {
    if amounts.iter().any(|amount| *amount < 0) {
        return None;
    }
    let [granted, returned, consumed, recorded, undone, forfeited, others_outstanding] =
        amounts.map(i64::cast_unsigned);
    Some(Counted {
        totals: Totals { granted, returned, consumed, recorded, undone },
        free: 0,
        used: 0,
        forfeited,
        others_outstanding,
        ceiling,
        outcome: outcome_of(outcome.0, outcome.1.cast_unsigned())?,
        recalled: false,
        answered: 0,
    })
}

pub(super) fn close_answer(value: &Value) -> Result<CloseAnswer, StoreError> {
    match *numbers(value).as_slice() {
        [0, known, taken] if taken >= 0 => {
            Ok(CloseAnswer::Fenced { taken: (known == 1).then_some(taken.cast_unsigned()) })
        }
        [1] => Ok(CloseAnswer::Folded),
        [2] => Ok(CloseAnswer::Absent),
        [3, epoch] => Ok(CloseAnswer::StaleEpoch { epoch: epoch.cast_unsigned() }),
        [4] => Ok(CloseAnswer::EpochLost),
        [5] => Ok(CloseAnswer::Crowded),
        _ => Err(unreadable("close.lua", value)),
    }
}

pub(super) fn distinct_answer(value: &Value) -> Result<DistinctAnswer, StoreError> {
    match *numbers(value).as_slice() {
        [0, admitted, count] if count >= 0 => {
            Ok(DistinctAnswer::Counted { admitted: admitted == 1, count: count.cast_unsigned() })
        }
        [1, count] if count >= 0 => Ok(DistinctAnswer::Recovering { count: count.cast_unsigned() }),
        [2] => Ok(DistinctAnswer::NeedFloor),
        [3, epoch] => Ok(DistinctAnswer::StaleEpoch { epoch: epoch.cast_unsigned() }),
        [4] => Ok(DistinctAnswer::EpochLost),
        _ => Err(unreadable("distinct.lua", value)),
    }
}

fn outcome_of(outcome: i64, first: u64) -> Option<Outcome> {
    Some(match outcome {
        0 => Outcome::Met,
        1 => Outcome::First,
        2 => Outcome::Behind { first },
        3 => Outcome::Refused,
        4 => Outcome::Recovering,
        5 => Outcome::Overtaken,
        _ => return None,
    })
}

fn flag(flag: bool) -> u8 {
    u8::from(flag)
}

/// Whole seconds, rounded up; −1 for none.
fn retention_s(retention: Option<std::time::Duration>) -> i64 {
    let seconds = |retention: std::time::Duration| {
        i64::try_from(retention.as_millis().div_ceil(1000).max(1)).unwrap_or(i64::MAX)
    };
    retention.map_or(-1, seconds)
}

fn numbers(value: &Value) -> Vec<i64> {
    Vec::<i64>::from_redis_value_ref(value).unwrap_or_default()
}

fn unreadable(script: &'static str, answer: &Value) -> StoreError {
    StoreError::Unreadable { script, answer: format!("{answer:?}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::ids::RunId,
        leases::{
            cell::Cell,
            holder::{Holder, HolderSeed, LeaseTimes, Step, Surroundings, Waiting},
            message::Epoch,
        },
    };

    /// Numbers at and around all that may overflow.
    fn number() -> impl Strategy<Value = i64> {
        let near = |at: i64| (-2_i64..=2).prop_map(move |off| at.saturating_add(off));
        prop_oneof![
            0_i64..20,
            near(0),
            near(AMOUNT_MAX.cast_signed()),
            near(i64::MAX),
            near(i64::MIN),
            any::<i64>(),
        ]
    }

    /// What a script that is not ours, or a proxy, may answer.
    fn value() -> impl Strategy<Value = Value> {
        let numbers = |most| proptest::collection::vec(number().prop_map(Value::Int), 0..=most);
        let text = proptest::collection::vec(any::<u8>(), 0..20).prop_map(Value::BulkString);
        let leaf = prop_oneof![
            number().prop_map(Value::Int),
            text,
            Just(Value::Nil),
            any::<f64>().prop_map(Value::Double),
        ];
        let nested = leaf.prop_recursive(3, 20, 5, |inner| {
            proptest::collection::vec(inner, 0..5).prop_map(Value::Array)
        });
        prop_oneof![4 => numbers(17).prop_map(Value::Array), 1 => nested]
    }

    /// Of a lease, or nearly so.
    fn lease_value() -> impl Strategy<Value = Value> {
        let fields = proptest::collection::vec(number(), 15);
        (fields, 0..7_i64).prop_map(|(mut fields, outcome)| {
            fields.insert(0, 0);
            fields[12] = outcome;
            Value::Array(fields.into_iter().map(Value::Int).collect())
        })
    }

    proptest! {
        #[test]
        fn whatever_a_script_answers_is_read_or_refused(value in value()) {
            let _ = lease_answer(&value);
            let _ = close_answer(&value);
            let _ = distinct_answer(&value);
        }

        #[test]
        fn no_answer_that_can_be_read_upsets_a_holder(
            values in proptest::collection::vec(lease_value(), 1..6),
            wanted in 1_u64..50,
        ) {
            let run = RunId(Uuid::nil());
            let seed = HolderSeed { run, times: LeaseTimes::default() };
            let (cell, mut holder) = (Cell::new(), Holder::new());
            let ceiling = Ceiling { units: Some(10), version: 1 };
            let epoch = Epoch { number: 1, recovered: true };
            let waiting = Some(Waiting { head: wanted, total: wanted });
            for (second, value) in (0..).zip(values) {
                let now = Duration::from_secs(second);
                let around = Surroundings { epoch, ceiling, now };
                let Step::Send(call) = holder.next(&seed, &cell, waiting, &around) else { continue };
                match lease_answer(&value) {
                    Ok(answer) => {
                        if let Answer::Counted(counted) = &answer {
                            let amounts = counted.totals;
                            prop_assert!(i64::try_from(amounts.granted).is_ok(), "{amounts:?}");
                        }
                        holder.answered(&seed, &cell, &call, &answer, now);
                    }
                    Err(_) => holder.failed(&seed, now),
                }
                let _ = (holder.unsettled(&cell), holder.outstanding(&cell), cell.used());
            }
        }
    }

    #[test]
    fn an_answer_that_grants_less_than_nothing_is_refused() {
        let mut fields = [0; 16];
        assert!(lease_answer(&Value::Array(fields.map(Value::Int).to_vec())).is_ok());
        fields[1] = -1;
        assert!(lease_answer(&Value::Array(fields.map(Value::Int).to_vec())).is_err());
    }
}
