//! What billing needs to know of tenants: whose clock they follow, and under which terms they were
//! when.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use uuid::Uuid;

use super::{cell_rows::read_column, error::LedgerError, pool::Ledger};
use crate::domain::{
    ids::{AccountId, CatalogName, PlanName, TenantId},
    tenant::PlanVersion,
    window::{BillingInterval, WindowSchedule},
};

/// A tenant with everything it ever subscribed to.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscriber {
    pub tenant: TenantId,
    pub account: AccountId,
    pub test_clock: Option<TestClock>,
    /// In the order in which they came into force; never empty.
    pub terms: Vec<Terms>,
}

/// An account's own present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestClock {
    /// Where it stands.
    pub at: Timestamp,
    /// When it was put there, real time.
    pub set_at: Timestamp,
}

/// One state of a subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    pub subscription: Uuid,
    /// Since when, by the tenant's clock.
    pub effective_at: Timestamp,
    pub plan: PlanVersion,
    pub schedule: WindowSchedule,
}

impl Subscriber {
    /// The terms in force at `at`; before the first ones those, since usage may be recorded for a
    /// time before a tenant was created here.
    pub fn terms_at(&self, at: Timestamp) -> Option<&Terms> {
        let in_force = self.terms.iter().rev().find(|terms| terms.effective_at <= at);
        in_force.or(self.terms.first())
    }

    /// The terms that what ends at `end` is charged by: those in force in its last moment.
    pub fn terms_until(&self, end: Timestamp) -> Option<&Terms> {
        self.terms_at(end.checked_sub(SignedDuration::from_micros(1)).unwrap_or(end))
    }

    /// When another schedule came into force after `version`.
    pub fn schedule_replaced_at(&self, version: u32) -> Option<Timestamp> {
        let last = self.terms.iter().rposition(|terms| terms.schedule.version == version)?;
        self.terms.get(last + 1).map(|terms| terms.effective_at)
    }

    /// The schedule of `version`, by which a window label names its windows.
    pub fn schedule_version(&self, version: u32) -> Option<&WindowSchedule> {
        let terms = self.terms.iter().rev().find(|terms| terms.schedule.version == version);
        terms.map(|terms| &terms.schedule)
    }
}

impl Ledger {
    /// The tenants after `after`, in order, at most `limit`.
    pub async fn subscribers_after(
        &self,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Vec<Subscriber>, LedgerError> {
        self.subscribers_of(None, after, limit).await
    }

    /// One tenant; `None` when there is none of that name.
    pub async fn subscriber(&self, tenant: &TenantId) -> Result<Option<Subscriber>, LedgerError> {
        Ok(self.subscribers_of(Some(tenant), None, 1).await?.pop())
    }

    async fn subscribers_of(
        &self,
        tenant: Option<&TenantId>,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Vec<Subscriber>, LedgerError> {
        let rows = sqlx::query_as!(
            Row,
            "SELECT t.tenant, t.account, a.test_clock, a.clock_set_at, h.subscription,
                    h.effective_at, h.catalog, h.plan, h.plan_version, h.zone, h.anchor,
                    h.billing_interval, h.anchor_version
             FROM (SELECT tenant, account FROM tenants
                   WHERE tenant > $1 AND ($3::text IS NULL OR tenant = $3)
                     AND EXISTS (SELECT 1 FROM subscription_history s
                                 WHERE s.tenant = tenants.tenant)
                   ORDER BY tenant LIMIT $2) AS t
             JOIN accounts AS a USING (account)
             JOIN subscription_history AS h USING (tenant)
             ORDER BY t.tenant, h.effective_at, h.change_version",
            after.map_or("", TenantId::as_str),
            i64::from(limit),
            tenant.map(TenantId::as_str),
        )
        .fetch_all(self.query("subscribers_after"))
        .await?;
        let mut subscribers: Vec<Subscriber> = Vec::new();
        for row in rows {
            let terms = row.terms()?;
            match subscribers.last_mut() {
                Some(last) if last.tenant.as_str() == row.tenant => last.terms.push(terms),
                _ => subscribers.push(row.subscriber(terms)?),
            }
        }
        Ok(subscribers)
    }
}

struct Row {
    tenant: String,
    account: String,
    test_clock: Option<jiff_sqlx::Timestamp>,
    clock_set_at: Option<jiff_sqlx::Timestamp>,
    subscription: Uuid,
    effective_at: jiff_sqlx::Timestamp,
    catalog: String,
    plan: String,
    plan_version: i32,
    zone: String,
    anchor: jiff_sqlx::Timestamp,
    billing_interval: String,
    anchor_version: i32,
}

impl Row {
    fn subscriber(&self, first: Terms) -> Result<Subscriber, LedgerError> {
        let clock = self.test_clock.zip(self.clock_set_at);
        Ok(Subscriber {
            tenant: self.read("tenant", &self.tenant, TenantId::new(&self.tenant))?,
            account: self.read("account", &self.account, AccountId::new(&self.account))?,
            test_clock: clock
                .map(|(at, set_at)| TestClock { at: at.to_jiff(), set_at: set_at.to_jiff() }),
            terms: vec![first],
        })
    }

    fn terms(&self) -> Result<Terms, LedgerError> {
        let interval = match self.billing_interval.as_str() {
            "monthly" => Ok(BillingInterval::Monthly),
            "yearly" => Ok(BillingInterval::Yearly),
            _ => Err("not an interval that this version knows"),
        };
        let version = |column, value: i32| self.read(column, &value.to_string(), value.try_into());
        Ok(Terms {
            subscription: self.subscription,
            effective_at: self.effective_at.to_jiff(),
            plan: PlanVersion {
                catalog: self.read("catalog", &self.catalog, CatalogName::new(&self.catalog))?,
                plan: self.read("plan", &self.plan, PlanName::new(&self.plan))?,
                version: version("plan_version", self.plan_version)?,
            },
            schedule: WindowSchedule {
                zone: self.read("zone", &self.zone, TimeZone::get(&self.zone))?,
                anchor: self.anchor.to_jiff(),
                interval: self.read("billing_interval", &self.billing_interval, interval)?,
                version: version("anchor_version", self.anchor_version)?,
            },
        })
    }

    fn read<T, E: std::fmt::Display>(
        &self,
        column: &'static str,
        value: &str,
        read: Result<T, E>,
    ) -> Result<T, LedgerError> {
        read_column("subscription_history", column, &self.tenant, value, read)
    }
}
