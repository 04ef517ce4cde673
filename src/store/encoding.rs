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
        ] => outcome_of(outcome, first.cast_unsigned()).map(|outcome| {
            Answer::Counted(Counted {
                totals: Totals {
                    granted: granted.cast_unsigned(),
                    returned: returned.cast_unsigned(),
                    consumed: consumed.cast_unsigned(),
                    recorded: recorded.cast_unsigned(),
                    undone: undone.cast_unsigned(),
                },
                free,
                used,
                forfeited: forfeited.cast_unsigned(),
                others_outstanding: others_outstanding.cast_unsigned(),
                ceiling: Ceiling {
                    units: u64::try_from(ceiling).ok(),
                    version: version.cast_unsigned(),
                },
                outcome,
                recalled: recalled == 1,
                answered: answered.cast_unsigned(),
            })
        }),
        [1, min] => Some(Answer::NeedFloor { closed_seq_min: min.cast_unsigned() }),
        [2, epoch] => Some(Answer::StaleEpoch { epoch: epoch.cast_unsigned() }),
        [3] => Some(Answer::EpochLost),
        [4] => Some(Answer::Fenced),
        _ => None,
    };
    answer.ok_or_else(|| unreadable("lease.lua", value))
}

pub(super) fn close_answer(value: &Value) -> Result<CloseAnswer, StoreError> {
    match *numbers(value).as_slice() {
        [0, known, taken] => {
            Ok(CloseAnswer::Fenced { taken: (known == 1).then_some(taken.cast_unsigned()) })
        }
        [1] => Ok(CloseAnswer::Folded),
        [2] => Ok(CloseAnswer::Absent),
        [3, epoch] => Ok(CloseAnswer::StaleEpoch { epoch: epoch.cast_unsigned() }),
        [4] => Ok(CloseAnswer::EpochLost),
        _ => Err(unreadable("close.lua", value)),
    }
}

pub(super) fn distinct_answer(value: &Value) -> Result<DistinctAnswer, StoreError> {
    match *numbers(value).as_slice() {
        [0, admitted, count] => {
            Ok(DistinctAnswer::Counted { admitted: admitted == 1, count: count.cast_unsigned() })
        }
        [1, count] => Ok(DistinctAnswer::Recovering { count: count.cast_unsigned() }),
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
