//! Rates in Redis.
//!
//! A rate is one hash, `tgr:{tenant}:rate[:subject]`:
//!
//! | field | what |
//! | --- | --- |
//! | `t` | when the debts were reckoned, microseconds of Redis' clock |
//! | `v` | the tenant's version that the windows in force are of |
//! | `w<period in seconds>` | a window: `permits burst interval debt in_force`; nanoseconds, 1 or 0 |
//! | `r<run>` | what a run holds: `sequence spent granted lapses` |
//!
//! It expires a second after all is paid off. Unlike counters, rates belong to no epoch: a Redis
//! that lost its data begins them anew, and none has to wait for the ledger to say so.

use std::time::Duration;

use redis::{FromRedisValue, Value};

use super::{error::StoreError, metrics::Kind, redis_counters::RedisCounters};
use crate::{
    domain::rate::{RateKeyName, RateWindow},
    leases::rate::message::{AskFor, Granted, RateCall, RateReply, RateTerms},
};

impl RedisCounters {
    /// Sends a call to the rate. `at_us` sets the time, for tests; absent, it is Redis' own.
    pub async fn rate(
        &self,
        key: &RateKeyName,
        call: &RateCall,
        at_us: Option<u64>,
    ) -> Result<RateReply, StoreError> {
        let mut invocation = self.shared.rate.prepare_invoke();
        invocation
            .key(name(key))
            .arg(call.run.to_string())
            .arg(&[call.sequence, call.granted, call.spent, call.lapse_us, call.ahead])
            .arg(call.terms.version)
            .arg(call.terms.windows.len());
        for window in call.terms.windows.iter() {
            let (permits, burst) = (window.permits.into(), window.burst.into());
            invocation.arg(&[window.period.as_secs(), permits, burst, window.interval_ns()]);
        }
        invocation.arg(call.asks.len());
        for ask in &call.asks {
            invocation.arg(ask.permits).arg(u8::from(ask.how == AskFor::Keeping));
        }
        if let Some(at_us) = at_us {
            invocation.arg(at_us);
        }
        let value: Value = self
            .shared
            .connections
            .call_any(Kind::Rate, async |connection| invocation.invoke_async(connection).await)
            .await?;
        reply(&value)
    }
}

fn name(key: &RateKeyName) -> String {
    let RateKeyName { tenant, rate, subject } = key;
    match subject {
        Some(subject) => format!("tgr:{{{tenant}}}:{rate}:{subject}"),
        None => format!("tgr:{{{tenant}}}:{rate}"),
    }
}

fn reply(value: &Value) -> Result<RateReply, StoreError> {
    let numbers = Vec::<i64>::from_redis_value_ref(value).unwrap_or_default();
    match numbers.as_slice() {
        [0, granted, met, has_lapsed, debts_ns @ ..] => Ok(RateReply::Granted(Granted {
            granted: granted.cast_unsigned(),
            met: met.cast_unsigned(),
            debts_ns: debts_ns.iter().map(|debt| debt.cast_unsigned()).collect(),
            has_lapsed: *has_lapsed == 1,
            instead: None,
        })),
        [2, granted, met, has_lapsed, version, windows @ ..]
            if let Some(read) = in_force(windows) =>
        {
            let (windows, debts_ns): (Vec<_>, Vec<_>) = read.into_iter().unzip();
            let version = version.cast_unsigned();
            Ok(RateReply::Granted(Granted {
                granted: granted.cast_unsigned(),
                met: met.cast_unsigned(),
                debts_ns,
                has_lapsed: *has_lapsed == 1,
                instead: Some(RateTerms { version, windows: windows.into() }),
            }))
        }
        [1] => Ok(RateReply::Overtaken),
        _ => Err(StoreError::Unreadable { script: "rate.lua", answer: format!("{value:?}") }),
    }
}

/// Windows with their debts in nanoseconds.
fn in_force(numbers: &[i64]) -> Option<Vec<(RateWindow, u64)>> {
    let window = |numbers: &[i64]| match *numbers {
        [period_s, permits, burst, debt_ns] => {
            let period = Duration::from_secs(period_s.try_into().ok()?);
            let window = RateWindow::new(permits.try_into().ok()?, period, burst.try_into().ok()?);
            Some((window, debt_ns.cast_unsigned()))
        }
        _ => None,
    };
    numbers.chunks(4).map(window).collect()
}
