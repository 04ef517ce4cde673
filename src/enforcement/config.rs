//! Settings of the engine.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::background::drift::DriftTimes;
use crate::domain::{invalid::Invalid, reservation::HOLD_S_MAX, usage::Durability};

/// How long a request that is on its way over several counters may stand in queues, beside the recall
/// waits.
const SPLIT_QUEUE_MAX: Duration = Duration::from_secs(2);
/// What one call to the shared counters may take: who looks waits so long at least.
const LOOK_WAIT_MIN: Duration = Duration::from_millis(250);

/// How checks are answered and usage is taken in.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EnforcementConfig {
    /// What an acknowledgement survives unless the call says otherwise: sync, written or memory.
    #[schemars(with = "String")]
    pub durability: Durability,
    /// Longest wait for other sidecars to hand back unspent escrow before a denial, milliseconds.
    pub recall_wait_ms: u64,
    /// How often consumed totals are settled with the shared counters, milliseconds.
    pub settle_interval_ms: u64,
    /// How long a denial is repeated from memory, milliseconds; at most 1000.
    pub denial_cache_ms: u64,
    /// Idempotency keys remembered for first answers.
    pub repeats_max: usize,
    /// Subjects counted at a time for one tenant and meter.
    pub subjects_max: usize,
    /// Subjects that rates are kept for at a time, for one tenant. One whose rate is wholly free
    /// again needs no room; beyond the bound a new one is denied.
    pub rate_subjects_max: usize,
    /// Subjects that rates are kept for at a time, for all tenants together; beyond it, likewise.
    pub rate_subjects_total_max: usize,
    /// Reservations kept at a time.
    pub reservations_max: usize,
    /// How long a reservation holds unless the call says otherwise, seconds.
    pub reservation_ttl_s: u64,
    /// The longest hold that a call may ask for, seconds.
    pub reservation_ttl_s_max: u64,
    /// How far in the past an event's time may lie, days.
    pub event_age_days_max: u32,
    /// How far in the future an event's time may lie, seconds.
    pub event_ahead_s_max: u32,
    /// Slow-path decisions in flight at a time; more are refused as overload.
    pub slow_path_max: usize,
    /// Streams that watch a tenant's usage at a time; more are refused as overload.
    pub watchers_max: usize,
    /// How often the journal is flushed to the ledger when little happens, milliseconds.
    pub flush_interval_ms: u64,
    /// A counter that is not used for so long returns its escrow and is forgotten, seconds.
    pub counter_idle_s: u64,
    /// How often changed tenants and plans are looked for, milliseconds; at most 500.
    pub change_poll_ms: u64,
    /// How often some of the shared counters are compared with the ledger, milliseconds.
    pub drift_interval_ms: u64,
}

impl Default for EnforcementConfig {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            recall_wait_ms: 20,
            settle_interval_ms: 1_000,
            denial_cache_ms: 1_000,
            repeats_max: 262_144,
            subjects_max: 10_000,
            rate_subjects_max: 100_000,
            rate_subjects_total_max: 1_000_000,
            reservations_max: 100_000,
            reservation_ttl_s: 60,
            reservation_ttl_s_max: 3_600,
            event_age_days_max: 35,
            event_ahead_s_max: 300,
            slow_path_max: 10_000,
            watchers_max: 1_000,
            flush_interval_ms: 200,
            counter_idle_s: 600,
            change_poll_ms: 250,
            drift_interval_ms: 10_000,
        }
    }
}

impl EnforcementConfig {
    /// The recall wait as a duration.
    pub fn recall_wait(&self) -> Duration {
        Duration::from_millis(self.recall_wait_ms)
    }

    /// How long who only looks waits for the shared counters, and for the ledger.
    pub fn look_wait(&self) -> Duration {
        LOOK_WAIT_MIN.max(self.recall_wait())
    }

    /// The longest that a request may be on its way over several counters: each is waited for once
    /// as if it were alone, and some are asked twice.
    pub fn split_wait(&self) -> Duration {
        SPLIT_QUEUE_MAX + 4 * self.recall_wait()
    }

    /// How long a denial is repeated from memory.
    pub fn denial_cache(&self) -> Duration {
        Duration::from_millis(self.denial_cache_ms)
    }

    /// How often changes are looked for.
    pub fn change_poll(&self) -> Duration {
        Duration::from_millis(self.change_poll_ms)
    }

    /// How long a counter is kept unused.
    pub fn counter_idle(&self) -> Duration {
        Duration::from_secs(self.counter_idle_s)
    }

    /// How shared counters are compared with the ledger: what was used is in both after a
    /// settlement and a flush, and some tries of each.
    pub fn drift_times(&self) -> DriftTimes {
        DriftTimes {
            interval: Duration::from_millis(self.drift_interval_ms),
            patience: 5 * (self.settle_interval() + self.flush_interval()),
        }
    }

    /// How often the journal is flushed.
    pub fn flush_interval(&self) -> Duration {
        Duration::from_millis(self.flush_interval_ms)
    }

    /// Checks the settings against their bounds.
    pub fn check(&self) -> Result<(), Invalid> {
        let bounds = [
            ("recall_wait_ms", self.recall_wait_ms, 1, 10_000),
            ("settle_interval_ms", self.settle_interval_ms, 10, 60_000),
            ("denial_cache_ms", self.denial_cache_ms, 0, 1_000),
            ("repeats_max", self.repeats_max as u64, 2, 100_000_000),
            ("subjects_max", self.subjects_max as u64, 1, 10_000_000),
            ("rate_subjects_max", self.rate_subjects_max as u64, 1, 100_000_000),
            ("rate_subjects_total_max", self.rate_subjects_total_max as u64, 1, 100_000_000),
            ("reservations_max", self.reservations_max as u64, 1, 100_000_000),
            ("reservation_ttl_s", self.reservation_ttl_s, 1, self.reservation_ttl_s_max),
            ("reservation_ttl_s_max", self.reservation_ttl_s_max, 1, HOLD_S_MAX),
            ("event_age_days_max", u64::from(self.event_age_days_max), 1, 3_650),
            ("event_ahead_s_max", u64::from(self.event_ahead_s_max), 0, 86_400),
            ("slow_path_max", self.slow_path_max as u64, 1, 10_000_000),
            ("watchers_max", self.watchers_max as u64, 1, 1_000_000),
            ("flush_interval_ms", self.flush_interval_ms, 1, 60_000),
            ("counter_idle_s", self.counter_idle_s, 1, 86_400),
            ("change_poll_ms", self.change_poll_ms, 10, 500),
            ("drift_interval_ms", self.drift_interval_ms, 10, 3_600_000),
        ];
        for (field, value, min, max) in bounds {
            if !(min..=max).contains(&value) {
                return Err(Invalid::new(
                    field,
                    format!("is out of range ({value})"),
                    format!("use {min} to {max}"),
                ));
            }
        }
        Ok(())
    }

    /// The settlement interval as a duration.
    pub fn settle_interval(&self) -> Duration {
        Duration::from_millis(self.settle_interval_ms)
    }
}
