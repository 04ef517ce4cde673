//! How much of its quotas a tenant has used.

use jiff::Timestamp;

use super::{
    alerts::Alert,
    catalog::meters::Unit,
    grant::GrantKind,
    ids::{GrantId, MeterName, PoolId, Subject, TenantId},
    limit::Enforcement,
    meter::MeterKind,
    window::{Window, WindowLabel},
};

/// Whose usage of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageQuery {
    pub tenant: TenantId,
    /// Empty: every meter of the tenant's plan.
    pub meters: Vec<MeterName>,
    /// Absent: the tenant as a whole, without the limits that hold per subject.
    pub subject: Option<Subject>,
}

/// A tenant's usage in the current windows.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageStatus {
    /// The tenant's instant that this is as of.
    pub as_of: Timestamp,
    /// In the catalog's order.
    pub meters: Vec<MeterStatus>,
    /// Those that stand.
    pub alerts: Vec<Alert>,
}

impl UsageStatus {
    /// What is otherwise than in `earlier`: meters of which something can be told, alerts that were
    /// raised, and those that are resolved now. `None`: nothing.
    pub fn changes_since(&self, earlier: &Self) -> Option<Self> {
        let was = |meter: &MeterStatus| {
            let same = |other: &&MeterStatus| {
                (&other.meter, &other.subject) == (&meter.meter, &meter.subject)
            };
            earlier.meters.iter().find(same).is_some_and(|other| other.tells_as(meter))
        };
        let meters: Vec<_> = self.meters.iter().filter(|meter| !was(meter)).cloned().collect();
        let raised = self.alerts.iter().filter(|alert| !earlier.alerts.contains(alert)).cloned();
        let resolved = earlier
            .alerts
            .iter()
            .filter(|alert| !self.alerts.iter().any(|stands| stands.is_same(alert)))
            .map(|alert| Alert { resolved_at: Some(self.as_of), ..alert.clone() });
        let alerts: Vec<_> = raised.chain(resolved).collect();
        let is_news = !meters.is_empty() || !alerts.is_empty();
        is_news.then_some(Self { as_of: self.as_of, meters, alerts })
    }
}

/// What was used of one meter in its current window, in base units.
#[derive(Clone, Debug, PartialEq)]
pub struct MeterStatus {
    pub meter: MeterName,
    pub subject: Option<Subject>,
    /// The base unit, in the singular.
    pub unit: String,
    /// The unit that people see.
    pub display_unit: Unit,
    pub kind: MeterKind,
    pub enforcement: Enforcement,
    /// `None` = unlimited; the value of a static meter.
    pub limit: Option<u64>,
    /// Settled and unsettled together. Below 0: a level was lowered by more than it had been raised.
    pub used: i64,
    /// Left before the first denial; `None` = no denial ever.
    pub remaining: Option<u64>,
    /// Of `used`, what lies beyond the limit.
    pub overage: u64,
    /// Counted against the limit though nobody used them.
    pub forfeited: u64,
    /// Held by live reservations of this sidecar; not part of `used`.
    pub reserved: u64,
    /// Of `used`, what all sidecars have settled.
    pub settled: i64,
    /// Of `used`, what this sidecar has not settled yet; negative when a level went down.
    pub unsettled: i64,
    /// When `settled` was last read from the shared counters; absent = never.
    pub settled_at: Option<Timestamp>,
    pub window: Window,
    /// The grants in force, in burn order.
    pub grants: Vec<GrantStatus>,
    /// The pool that the tenant draws on instead of on its plan's limit.
    pub pool: Option<PoolStatus>,
}

/// A pool as one of its members sees it, in base units.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolStatus {
    pub id: PoolId,
    pub class: Option<String>,
    /// What the member's class may use in all.
    pub limit: u64,
    /// Of that, what all members have used.
    pub used: u64,
    pub remaining: u64,
    /// When the shared counters last told; absent = of one of the pool's counters, never yet.
    pub settled_at: Option<Timestamp>,
    /// The pool's window.
    pub label: WindowLabel,
    /// Of `limit`, what counts as used though nobody used it.
    pub forfeited: u64,
    /// End of the pool's window.
    pub resets_at: Option<Timestamp>,
    /// What the member itself has used, as of the last flush; absent while the ledger cannot be asked.
    pub member_used: Option<u64>,
}

/// A grant in force and what was used of it, in base units.
#[derive(Clone, Debug, PartialEq)]
pub struct GrantStatus {
    pub id: GrantId,
    pub kind: GrantKind,
    pub subject: Option<Subject>,
    /// Of a recurring grant, in its current window.
    pub amount: u64,
    pub used: u64,
    pub remaining: u64,
    /// Of `amount`, what counts as used though nobody used it.
    pub forfeited: u64,
    /// Of a recurring grant, of its current window.
    pub expires_at: Option<Timestamp>,
}

impl MeterStatus {
    /// Whether both tell the same of what was used; how much of it is settled tells nothing new.
    fn tells_as(&self, other: &Self) -> bool {
        let told =
            |status: &Self| Self { settled: 0, unsettled: 0, settled_at: None, ..status.clone() };
        told(self) == told(other)
    }
}
