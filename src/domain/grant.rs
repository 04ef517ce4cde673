//! Grants: extra allowance on a meter for one tenant, beside its plan's limit.
//!
//! A grant is a counter of its own, named by its label, whose ceiling is the grant's amount. What a
//! plan's limit has no room for is taken from the grants in *burn order*: emergency usage last, else
//! the lowest priority first, then the earliest expiry, then the earliest created. A recurring grant
//! is a counter in each window of its period.

use std::{cmp::Reverse, str::FromStr};

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{
    catalog::{
        allowances::EmergencyRule,
        decimal::Price,
        meters::{MeterDef, Unit},
        prices::UsagePrice,
    },
    ids::{GrantId, MeterName, Subject},
    invalid::Invalid,
    period::Period,
    window::{Window, WindowLabel, WindowSchedule},
};

/// Most grants of one tenant that are in force or to come; a check may have to try all of a meter's.
pub const TENANT_GRANTS_MAX: usize = 100;

/// How a grant comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantKind {
    /// Bought once.
    TopUp,
    /// Given anew in each window of its period.
    Recurring,
    /// Given once, free of charge.
    Promotional,
    /// What was left of a recurring grant's window.
    Rollover,
    /// Asked for by a tenant that had run out, by its plan's rule.
    Emergency,
}

impl GrantKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::TopUp, Self::Recurring, Self::Promotional, Self::Rollover, Self::Emergency];

    /// The name everywhere: ledger, commands, answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TopUp => "top_up",
            Self::Recurring => "recurring",
            Self::Promotional => "promotional",
            Self::Rollover => "rollover",
            Self::Emergency => "emergency",
        }
    }
}

impl FromStr for GrantKind {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            Invalid::new(
                "kind",
                format!("{text:?} is not a kind of grant"),
                "use top_up, recurring or promotional",
            )
        })
    }
}

/// What a grant costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantPrice {
    /// One amount, in major units of the plan's currency.
    Flat(Price),
    /// A price of what is used of it.
    Used {
        price: UsagePrice,
        /// The unit that the rates are per.
        per: Unit,
    },
}

impl GrantPrice {
    /// What is asked for what is used by an emergency rule on one of `meters`.
    pub fn of_rule(rule: &EmergencyRule, meters: &[MeterDef]) -> Self {
        let per = meters.iter().find(|meter| meter.name == rule.meter).map_or_else(
            || Unit { name: "unit".into(), size: 1 },
            |meter| meter.pricing_per(rule.price.per.as_deref()),
        );
        Self::Used { price: rule.price.clone(), per }
    }

    /// What a base unit costs, in major units of the plan's currency, rounded to the last digit that
    /// a decimal has; `None` where units cost differently much.
    pub fn per_unit(&self) -> Option<Decimal> {
        let Self::Used { price, per } = self else { return None };
        let unit = price.rate?.get().checked_div(Decimal::from(per.size))?;
        Some(unit.normalize())
    }
}

/// A grant as enforcement needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub id: GrantId,
    pub kind: GrantKind,
    pub meter: MeterName,
    /// Only for usage of this subject; absent = for all usage of the tenant.
    pub subject: Option<Subject>,
    /// Base units; of a recurring grant, in each window.
    pub amount: u64,
    /// Lower burns first.
    pub priority: u16,
    /// By the tenant's clock.
    pub starts_at: Timestamp,
    /// By the tenant's clock; what is unused lapses. A grant that is revoked ends there.
    pub expires_at: Option<Timestamp>,
    /// Of a recurring grant: the period that `amount` is given anew in.
    pub every: Option<Period>,
    /// It is on a level: what it covers stays counted after its end, until the level goes down.
    pub covers_level: bool,
    /// It was revoked: what is not used of it is taken back from whoever holds it.
    #[serde(default)]
    pub is_revoked: bool,
}

impl Grant {
    /// The key that grants are sorted by: the first burns first.
    pub fn burn_order(&self) -> impl Ord + use<> {
        let is_last = self.kind == GrantKind::Emergency;
        // No expiry is later than any.
        let expiry = Reverse(self.expires_at.map(Reverse));
        (is_last, self.priority, expiry, self.id)
    }

    /// The stretch of the grant that `at` falls into: all of it, or of a recurring one the window of
    /// its period, cut to the grant's own start and end. `None`: it is not in force at `at`.
    pub fn window(&self, schedule: &WindowSchedule, at: Timestamp) -> Option<Window> {
        self.is_in_force(at).then(|| self.stretch(schedule, at))
    }

    /// Whether all or some of it may be used at `at`.
    pub fn is_in_force(&self, at: Timestamp) -> bool {
        self.starts_at <= at && self.expires_at.is_none_or(|end| at < end)
    }

    /// As [`Grant::window`], whether or not it is in force at `at`.
    pub fn stretch(&self, schedule: &WindowSchedule, at: Timestamp) -> Window {
        let period = Period::Grant { id: self.id };
        let Some(every) = self.every else {
            let start = self.starts_at;
            let label = WindowLabel { period, start: start.as_second(), anchor_version: 0 };
            // What covers a level outlasts the grant: the counter is needed until the level is down.
            let end = self.expires_at.filter(|_| !self.covers_level);
            return Window { label, start, end };
        };
        let of_period = schedule.window(every, at);
        // The label keeps the period's own start, and no version of the schedule: it stays the name of
        // the window whatever the grant's own start is, and a schedule that changes does not give
        // the grant anew for a period that goes on.
        let label = WindowLabel { period, start: of_period.label.start, anchor_version: 0 };
        let end = match (of_period.end, self.expires_at) {
            (Some(window), Some(grant)) => Some(window.min(grant)),
            (window, grant) => window.or(grant),
        };
        Window { label, start: of_period.start.max(self.starts_at), end }
    }

    /// The window that `label` names, if it is one of this grant's under `schedule`.
    pub fn window_of_label(&self, schedule: &WindowSchedule, label: WindowLabel) -> Option<Window> {
        let start = Timestamp::from_second(label.start).ok()?;
        let window = self.stretch(schedule, start);
        (window.label == label).then_some(window)
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::domain::window::BillingInterval;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn grant(id: u64, kind: GrantKind, priority: u16, expires_at: Option<&str>) -> Grant {
        Grant {
            id: GrantId(id),
            kind,
            meter: MeterName::new("calls").unwrap(),
            subject: None,
            amount: 10,
            priority,
            starts_at: at("2026-03-05T10:00:00Z"),
            expires_at: expires_at.map(at),
            every: None,
            covers_level: false,
            is_revoked: false,
        }
    }

    fn schedule() -> WindowSchedule {
        WindowSchedule {
            zone: TimeZone::UTC,
            anchor: at("2026-01-01T00:00:00Z"),
            interval: BillingInterval::Monthly,
            version: 3,
        }
    }

    #[test]
    fn grants_burn_by_priority_then_expiry_then_age_and_emergency_usage_last() {
        let (may, june) = (Some("2026-05-01T00:00:00Z"), Some("2026-06-01T00:00:00Z"));
        let mut grants = [
            grant(1, GrantKind::Emergency, 0, may),
            grant(2, GrantKind::TopUp, 5, None),
            grant(3, GrantKind::TopUp, 5, june),
            grant(4, GrantKind::Promotional, 5, may),
            grant(5, GrantKind::Recurring, 1, None),
            grant(6, GrantKind::TopUp, 5, may),
        ];
        grants.sort_by_key(Grant::burn_order);
        assert_eq!(grants.each_ref().map(|grant| grant.id.0), [5, 4, 6, 3, 2, 1]);
    }

    #[test]
    fn a_grant_is_in_force_from_its_start_to_the_instant_of_its_expiry() {
        let grant = grant(7, GrantKind::TopUp, 0, Some("2026-03-06T10:00:00Z"));
        let window = |time| grant.window(&schedule(), at(time));
        assert_eq!(window("2026-03-05T09:59:59.999999Z"), None);
        assert_eq!(window("2026-03-06T10:00:00Z"), None);
        let first = window("2026-03-05T10:00:00Z").unwrap();
        assert_eq!(window("2026-03-06T09:59:59.999999Z"), Some(first));
        assert_eq!(grant.window_of_label(&schedule(), first.label), Some(first));
        assert_eq!(first.label.to_string().parse(), Ok(first.label));
    }

    #[test]
    fn a_recurring_grant_has_a_window_in_each_period_within_its_own_time() {
        let mut grant = grant(7, GrantKind::Recurring, 0, Some("2026-05-15T00:00:00Z"));
        grant.every = Some(Period::Month);
        let window = |time| grant.window(&schedule(), at(time)).unwrap();
        let (march, april, may) = (
            window("2026-03-31T00:00:00Z"),
            window("2026-04-01T00:00:00Z"),
            window("2026-05-01T00:00:00Z"),
        );
        assert_eq!(march.start, grant.starts_at);
        assert_eq!((march.end, april.start), (Some(april.start), at("2026-04-01T00:00:00Z")));
        assert_eq!(may.end, grant.expires_at);
        for window in [march, april, may] {
            assert_eq!(grant.window_of_label(&schedule(), window.label), Some(window));
        }
        assert_ne!(march.label, april.label);
    }
}
