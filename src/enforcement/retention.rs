//! How long the shared counters keep a key that nobody uses any more.
//!
//! Redis evicts nothing (`noeviction`), so a key without an expiry stays for good. Whoever is done
//! with a key for now says how long it is to be kept; a call of anybody who still uses it takes that
//! back. So the last one decides, and no key that is in use expires.
//!
//! Real time takes part here only, and never in safety as long as no clock is off by more than
//! [`KEY_RETENTION`]: until then after its window's end a key stays.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::directory::Directory;
use crate::{
    clock::Clock,
    domain::{cell_key::CellKey, period::Period, tenant::Tenant, window::WindowLabel},
};

/// How long the shared counters keep the key of a window that is over. Late usage within this time
/// finds it; later usage has it rebuilt from the ledger.
pub const KEY_RETENTION: Duration = Duration::from_secs(24 * 3_600);

/// How long a key that nobody uses at `real_now` is to be kept; `None` = for good.
///
/// For good stay the counters that never start again, and those of a window that is current on a
/// test clock: it may stand there as long as somebody likes, and what a run holds of the window must
/// not be forgotten meanwhile.
pub fn key_retention(tenant: &Tenant, label: WindowLabel, real_now: Timestamp) -> Option<Duration> {
    let end = end_at_most(tenant, label)?;
    let left = end.duration_since(tenant.now(real_now)).max(SignedDuration::ZERO);
    if tenant.test_clock.is_some() && left.is_positive() {
        return None;
    }
    // Not negative, by the line before.
    Some(left.unsigned_abs() + KEY_RETENTION)
}

/// The window's end; `None` = it has none.
fn end_at_most(tenant: &Tenant, label: WindowLabel) -> Option<Timestamp> {
    match tenant.window_of_label(label) {
        Some(window) => window.end,
        // Made by a schedule that has been replaced: when it ended is not known here, but it was
        // not longer than its period can be.
        None => {
            let length_max = SignedDuration::from_secs(seconds_max(tenant, label.period)?);
            let start = Timestamp::from_second(label.start).unwrap_or(Timestamp::MIN);
            Some(start.checked_add(length_max).unwrap_or(Timestamp::MAX))
        }
    }
}

/// The longest that a window of `period` can be, with a day to spare for zones that change theirs.
fn seconds_max(tenant: &Tenant, period: Period) -> Option<i64> {
    const DAY: i64 = 24 * 3_600;
    Some(match period {
        // A grant that is not known here ended long ago.
        Period::Grant { id } => match tenant.grant(id) {
            Some(grant) => return seconds_max(tenant, grant.every?),
            None => 0,
        },
        Period::Minute => 60,
        Period::Hour => 3_600,
        Period::Day => 2 * DAY,
        Period::Month => 32 * DAY,
        // A yearly one, the longest.
        Period::BillingCycle => 367 * DAY,
        Period::Interval { seconds } => i64::from(seconds),
        Period::Lifetime => return None,
    })
}

/// Tells how long keys are to be kept.
pub struct KeyRetentions {
    pub directory: Arc<Directory>,
    pub clock: Clock,
    /// The counters are in this process, which forgets a key at once when it is told to keep it for
    /// a while only: they are told when a window is over.
    pub is_local: bool,
}

impl KeyRetentions {
    /// How long `key` is to be kept once nobody uses it; `None` = for good, as it is for a tenant
    /// that is not known here.
    pub fn of(&self, key: &CellKey) -> Option<Duration> {
        let tenant = self.directory.tenant_at_hand(&key.tenant)?;
        let retention = key_retention(&tenant, key.label, self.clock.now())?;
        (!self.is_local || retention <= KEY_RETENTION).then_some(retention)
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        tenant::{PlanVersion, Subscription, SubscriptionStatus},
        window::{BillingInterval, WindowSchedule},
    };

    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(time: &str) -> Timestamp {
        format!("2026-03-05T{time}Z").parse().unwrap()
    }

    fn tenant(test_clock: Option<Timestamp>) -> Tenant {
        let schedule = WindowSchedule {
            zone: TimeZone::UTC,
            anchor: "2026-01-01T00:00:00Z".parse().unwrap(),
            interval: BillingInterval::Monthly,
            version: 2,
        };
        let plan = PlanVersion {
            catalog: "hosting".parse().unwrap(),
            plan: "starter".parse().unwrap(),
            version: 1,
        };
        Tenant {
            id: "acme".parse().unwrap(),
            account: "acme".parse().unwrap(),
            subscription: Subscription {
                id: Uuid::nil(),
                plan,
                status: SubscriptionStatus::Active,
                schedule,
                started_at: at("00:00:00"),
            },
            test_clock,
            feature_overrides: vec![],
            version: 1,
            grants: vec![],
            pools: vec![],
        }
    }

    fn label(period: Period, anchor_version: u32) -> WindowLabel {
        let schedule = tenant(None).subscription.schedule;
        WindowLabel { anchor_version, ..schedule.window(period, at("10:00:00")).label }
    }

    #[test]
    fn a_key_stays_through_its_window_and_the_retention_after_it() {
        let hour = label(Period::Hour, 2);
        for (now, kept) in [
            ("09:30:00", HOUR * 3 / 2 + KEY_RETENTION),
            ("10:30:00", HOUR / 2 + KEY_RETENTION),
            ("11:00:00", KEY_RETENTION),
            ("20:00:00", KEY_RETENTION),
        ] {
            assert_eq!(key_retention(&tenant(None), hour, at(now)), Some(kept), "{now}");
        }
    }

    #[test]
    fn a_test_clocks_current_window_and_a_lifetime_stay_for_good() {
        let hour = label(Period::Hour, 2);
        let late = at("23:00:00");
        assert_eq!(key_retention(&tenant(Some(at("10:59:59"))), hour, late), None);
        assert_eq!(key_retention(&tenant(Some(at("11:00:00"))), hour, late), Some(KEY_RETENTION));
        assert_eq!(key_retention(&tenant(None), label(Period::Lifetime, 0), late), None);
    }

    #[test]
    fn a_window_of_a_replaced_schedule_ends_as_late_as_its_period_can() {
        let cycle = label(Period::BillingCycle, 1);
        let kept = key_retention(&tenant(None), cycle, at("10:00:00")).unwrap();
        assert!(kept > HOUR * 24 * 300 && kept < HOUR * 24 * 370, "{kept:?}");
        let hour = label(Period::Hour, 1);
        assert_eq!(
            key_retention(&tenant(None), hour, at("10:30:00")),
            Some(HOUR / 2 + KEY_RETENTION)
        );
    }
}
