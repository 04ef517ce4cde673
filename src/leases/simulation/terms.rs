//! What the tenant may do, and which counter its usage belongs to: the plan's limits, its grants, and
//! the windows that they hold in.
//!
//! A microsecond of the world is a millisecond on the wall, so that windows of seconds end in it.

use std::sync::LazyLock;

use jiff::{Timestamp, tz::TimeZone};

use super::plan::Plan;
use crate::{
    domain::{
        period::Period,
        window::{BillingInterval, Window, WindowSchedule},
    },
    leases::message::Ceiling,
};

/// What the wall's clocks show when the world begins, without being wrong: some time in 2026.
const BEGIN_MS: i64 = 1_790_000_000_000;

/// What a clock shows that is `skew_ms` ahead.
pub(super) fn wall(now_us: u64, skew_ms: i64) -> Timestamp {
    let ms = BEGIN_MS + now_us.cast_signed() + skew_ms;
    Timestamp::from_millisecond(ms).expect("no clock is off by centuries")
}

/// One version of the tenant's plan data.
#[derive(Clone)]
pub(super) struct Terms {
    pub version: u64,
    schedule: WindowSchedule,
    period: Period,
    /// Of the meters, then of the grants, one for each meter.
    pub limits: Vec<u64>,
    meters: usize,
}

impl Terms {
    pub(super) fn new(plan: &Plan, limits: Vec<u64>) -> Self {
        static ZONE: LazyLock<TimeZone> = LazyLock::new(|| TimeZone::UTC);
        let period = match u32::try_from(plan.window_s) {
            Ok(0) | Err(_) => Period::Lifetime,
            Ok(seconds) => Period::Interval { seconds },
        };
        let schedule = WindowSchedule {
            zone: ZONE.clone(),
            anchor: wall(0, 0),
            interval: BillingInterval::Monthly,
            version: 1,
        };
        Self { version: 1, schedule, period, limits, meters: plan.keys as usize }
    }

    /// The window that usage of a limit belongs to at `at`. A grant's time is longer than the world.
    pub(super) fn window(&self, limit: usize, at: Timestamp) -> Window {
        let period = if limit < self.meters { self.period } else { Period::Lifetime };
        self.schedule.window(period, at)
    }

    pub(super) fn ceiling(&self, limit: usize) -> Ceiling {
        Ceiling { units: Some(self.limits[limit]), version: self.version }
    }

    /// What is tried next where a limit has no room.
    pub(super) fn covering(&self, limit: usize) -> Option<usize> {
        let next = limit + self.meters;
        (next < self.limits.len()).then_some(next)
    }

    /// Begins its windows anew.
    pub(super) fn reset(&mut self) {
        self.schedule.version += 1;
    }
}

/// A counter: one limit in one window.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub limit: usize,
    pub window: Window,
}
