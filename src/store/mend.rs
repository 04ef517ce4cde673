//! Mending a counter from the ledger: see `scripts/mend.lua`.

use redis::{FromRedisValue, ScriptInvocation, Value};

use super::error::StoreError;
use crate::{
    domain::{
        amount::{AMOUNT_MAX, saturated},
        ids::RunId,
    },
    leases::message::Flushed,
};

/// What a counter is to be brought to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mend {
    /// As the counter was seen; nothing is changed when it has moved since.
    pub seen: FoldedUnits,
    /// Lower than seen only where no run has an entry.
    pub folded: FoldedUnits,
    /// What the ledger has of the open runs: their entries are raised to it.
    pub open_runs: Vec<Flushed>,
}

/// What a counter has of runs that are closed and folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldedUnits {
    pub used: i64,
    pub forfeited: u64,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MendAnswer {
    Mended,
    /// It has moved since it was looked at, or somebody holds something of it.
    Moved,
    /// There is no such counter.
    Absent,
    /// The counters live in another epoch.
    EpochOver,
}

pub(super) fn mend_arguments(
    mend: &Mend,
    epoch: u64,
    life: &str,
    invocation: &mut ScriptInvocation<'_>,
) {
    invocation
        .arg(life)
        .arg(epoch)
        .arg(saturated(mend.seen.used))
        .arg(mend.seen.forfeited.min(AMOUNT_MAX))
        .arg(saturated(mend.folded.used))
        .arg(mend.folded.forfeited.min(AMOUNT_MAX));
    for open in mend.open_runs.iter().map(|open| open.fitted()) {
        let run: RunId = open.run;
        invocation.arg(run.to_string()).arg(open.used).arg(open.undone);
    }
}

pub(super) fn mend_answer(value: &Value) -> Result<MendAnswer, StoreError> {
    match i64::from_redis_value_ref(value) {
        Ok(0) => Ok(MendAnswer::Mended),
        Ok(1) => Ok(MendAnswer::Moved),
        Ok(2) => Ok(MendAnswer::Absent),
        Ok(3 | 4) => Ok(MendAnswer::EpochOver),
        _ => Err(StoreError::Unreadable { script: "mend", answer: format!("{value:?}") }),
    }
}
