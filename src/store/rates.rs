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
        reply(&value, call)
    }
}

fn name(key: &RateKeyName) -> String {
    let RateKeyName { tenant, rate, subject } = key;
    match subject {
        Some(subject) => format!("tgr:{{{tenant}}}:{rate}:{subject}"),
        None => format!("tgr:{{{tenant}}}:{rate}"),
    }
}

fn reply(value: &Value, call: &RateCall) -> Result<RateReply, StoreError> {
    match read(value) {
        Some(RateReply::Granted(granted)) if !granted.answers(call) => None,
        read => read,
    }
    .ok_or_else(|| StoreError::Unreadable { script: "rate.lua", answer: format!("{value:?}") })
}

fn read(value: &Value) -> Option<RateReply> {
    // No figure is negative: whoever took it for a large one would grant it.
    let numbers = Vec::<i64>::from_redis_value_ref(value).unwrap_or_default();
    let numbers: Result<Vec<u64>, _> = numbers.into_iter().map(u64::try_from).collect();
    match numbers.as_deref() {
        Ok([0, granted, met, has_lapsed, debts_ns @ ..]) => Some(RateReply::Granted(Granted {
            granted: *granted,
            met: *met,
            debts_ns: debts_ns.to_vec(),
            has_lapsed: *has_lapsed == 1,
            instead: None,
        })),
        Ok([2, granted, met, has_lapsed, version, windows @ ..])
            if let Some(read) = in_force(windows) =>
        {
            let (windows, debts_ns): (Vec<_>, Vec<_>) = read.into_iter().unzip();
            Some(RateReply::Granted(Granted {
                granted: *granted,
                met: *met,
                debts_ns,
                has_lapsed: *has_lapsed == 1,
                instead: Some(RateTerms { version: *version, windows: windows.into() }),
            }))
        }
        Ok([1]) => Some(RateReply::Overtaken),
        _ => None,
    }
}

/// Windows with their debts in nanoseconds.
fn in_force(numbers: &[u64]) -> Option<Vec<(RateWindow, u64)>> {
    let window = |numbers: &[u64]| match *numbers {
        [period_s, permits, burst, debt_ns] => {
            let period = Duration::from_secs(period_s);
            let window = RateWindow::new(permits.try_into().ok()?, period, burst.try_into().ok()?);
            Some((window, debt_ns))
        }
        _ => None,
    };
    numbers.chunks(4).map(window).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::ids::RunId,
        leases::rate::{
            message::{Ask, AskFor},
            purse::Purse,
        },
    };

    fn number() -> impl Strategy<Value = i64> {
        prop_oneof![
            4 => 0_i64..20,
            1 => Just(i64::MAX),
            1 => Just(1 << 53),
            1 => any::<i64>(),
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        let numbers = proptest::collection::vec(number().prop_map(Value::Int), 0..14);
        prop_oneof![9 => numbers.prop_map(Value::Array), 1 => Just(Value::Nil)]
    }

    proptest! {
        #[test]
        fn whatever_the_script_answers_is_read_or_refused_and_upsets_no_purse(
            values in proptest::collection::vec(value(), 1..6),
            permits in 1_u32..5,
        ) {
            let window = RateWindow::new(1_000, Duration::from_secs(1), 100);
            let terms = RateTerms { version: 1, windows: [window].into() };
            let mut purse = Purse::new(RunId(Uuid::nil()), terms, 0);
            let ask = Ask { permits, how: AskFor::Keeping };
            for (second, value) in (1..).zip(values) {
                let now_ns = second * 1_000_000_000;
                let Some(call) = purse.call(vec![ask], now_ns) else { continue };
                match reply(&value, &call) {
                    Ok(RateReply::Granted(granted)) => purse.answered(&call, &granted, now_ns),
                    Ok(RateReply::Overtaken) | Err(_) => purse.failed(now_ns),
                }
                let _ = (purse.offhand(ask, now_ns), purse.standings(now_ns));
                let _ = (purse.look(permits, now_ns), purse.is_unused(now_ns));
            }
        }
    }
}
