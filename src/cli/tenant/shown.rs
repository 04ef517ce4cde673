//! How arguments and answers of the tenant commands are written.

use serde_json::{Value, json};

use crate::{domain::window::BillingInterval, ledger::tenants::ListedTenant};

/// A billing interval as an argument.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum IntervalArg {
    Monthly,
    Yearly,
}

impl From<IntervalArg> for BillingInterval {
    fn from(interval: IntervalArg) -> Self {
        match interval {
            IntervalArg::Monthly => Self::Monthly,
            IntervalArg::Yearly => Self::Yearly,
        }
    }
}

/// A tenant as JSON; times are RFC 3339.
pub(super) fn as_json(listed: &ListedTenant) -> Value {
    let tenant = &listed.tenant;
    let subscription = &tenant.subscription;
    json!({
        "tenant": tenant.id,
        "account": tenant.account,
        "name": listed.name,
        "catalog": subscription.plan.catalog,
        "plan": subscription.plan.plan,
        "plan_version": subscription.plan.version,
        "subscription": subscription.id,
        "status": subscription.status,
        "zone": subscription.schedule.zone.iana_name(),
        "anchor": subscription.schedule.anchor,
        "interval": subscription.schedule.interval,
        "started_at": subscription.started_at,
        "test_clock": tenant.test_clock,
        "created_at": listed.created_at,
        "version": tenant.version,
    })
}

/// A serialisable word (a status, an interval) as plain text.
pub(super) fn word(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(text)) => text,
        _ => String::new(),
    }
}
