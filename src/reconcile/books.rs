//! The ledger beside itself: totals, rollups, raw events, grants and pools of one owner.

use jiff::{SignedDuration, Timestamp};

use super::difference::{Difference, Figure, Leg, Place, Standing};
use crate::{
    domain::{cell_key::CellKey, ids::TenantId},
    jobs::{error::JobError, overages::plans::Plans},
    ledger::{
        Ledger,
        reconcile::{Disagreement, EventHour, Scope},
        subscribers::Subscriber,
    },
};

/// Events that reach the ledger later than they happened, or are dated ahead, are deleted at another
/// time than their hour says: hours so near to the bound are left out.
const RETENTION_SPREAD: SignedDuration = SignedDuration::from_hours(24);

/// Where windows disagree with their hours, days and runs, at most `count_max`.
pub async fn totals(
    ledger: &Ledger,
    owner: &TenantId,
    scope: &Scope,
    count_max: u32,
) -> Result<Vec<Difference>, JobError> {
    let found = ledger.disagreements(&scope.of(owner), count_max).await?;
    let mut differences: Vec<_> = found.into_iter().map(of_parts).collect();
    if let Some(pool) = owner.pool().filter(|pool| TenantId::of_pool(*pool, None) == *owner) {
        for window in ledger.pool_windows(pool, scope, count_max).await? {
            let place = Place {
                tenant: owner.clone(),
                meter: Some(window.meter),
                subject: None,
                window: Some(window.label),
            };
            differences.push(Difference {
                leg: Leg::Totals,
                place,
                what: "units used of the pool".to_owned(),
                expected: Figure::new("pool_usage", window.members),
                found: Figure::new("window_totals", window.counters),
                standing: Standing::Differs,
                mending: None,
            });
        }
    }
    // What covers usage has windows of its own, so these are compared over all of them only.
    if owner.pool().is_none() && scope.label.is_none() && scope.since.is_none() {
        for covered in ledger.covered_units(owner, scope.meter.as_ref()).await? {
            let tenant = owner.clone();
            let (meter, subject, window) = (Some(covered.meter), None, None);
            differences.push(Difference {
                leg: Leg::Totals,
                place: Place { tenant, meter, subject, window },
                what: "units that grants and pools covered".to_owned(),
                expected: Figure::new("usage_hourly", covered.hours),
                found: Figure::new("window_totals and pool_usage", covered.covering),
                standing: Standing::Differs,
                mending: None,
            });
        }
    }
    Ok(differences)
}

fn of_parts(found: Disagreement) -> Difference {
    let Disagreement { key, parts, window, sum_of_parts } = found;
    Difference {
        leg: Leg::Totals,
        place: key.into(),
        what: parts.column().to_owned(),
        expected: Figure::new(parts.table(), sum_of_parts),
        found: Figure::new("window_totals", window),
        standing: Standing::Differs,
        mending: None,
    }
}

/// Where hours disagree with the raw events of the meters that keep them, at most `count_max` of each
/// meter. `now` is the real present.
pub async fn events(
    ledger: &Ledger,
    plans: &mut Plans,
    subscriber: &Subscriber,
    scope: &Scope,
    now: Timestamp,
    count_max: u32,
) -> Result<Vec<Difference>, JobError> {
    let tenant = &subscriber.tenant;
    let mut differences = Vec::new();
    let Some(listed) = ledger.tenant(tenant).await? else { return Ok(differences) };
    for (meter, days) in kept_meters(ledger, plans, subscriber).await? {
        if scope.meter.as_ref().is_some_and(|wanted| *wanted != meter) {
            continue;
        }
        let complete_from = complete_from(days, now, listed.created_at, subscriber);
        let hours = ledger.event_hours(tenant, &meter, scope, complete_from, count_max).await?;
        for found in hours {
            let EventHour { subject, label, hour, summed, kept } = found;
            let key = CellKey { tenant: tenant.clone(), meter: meter.clone(), subject, label };
            let shown = |(events, amounts): (i64, i64)| format!("{events} events, {amounts} units");
            differences.push(Difference {
                leg: Leg::Events,
                place: key.into(),
                what: format!("events of the hour {hour}"),
                expected: Figure::new("usage_events", shown(kept)),
                found: Figure::new("usage_hourly", shown(summed)),
                standing: Standing::Differs,
                mending: None,
            });
        }
    }
    Ok(differences)
}

/// Meters whose raw events are kept under any terms, with the least number of days under all.
async fn kept_meters(
    ledger: &Ledger,
    plans: &mut Plans,
    subscriber: &Subscriber,
) -> Result<Vec<(crate::domain::ids::MeterName, u16)>, JobError> {
    let mut kept = std::collections::BTreeMap::new();
    let mut compiled = Vec::new();
    for terms in &subscriber.terms {
        compiled.push(plans.get(ledger, &terms.plan).await?);
    }
    for plan in &compiled {
        for meter in plan.meters().filter(|meter| meter.meter.event_retention_days > 0) {
            kept.entry(meter.meter.name.clone()).or_insert(u16::MAX);
        }
    }
    for (name, days) in &mut kept {
        let of_plan = |plan: &std::sync::Arc<crate::jobs::overages::plans::BilledPlan>| {
            plan.meter(name).map(|meter| meter.meter.event_retention_days)
        };
        *days = compiled.iter().filter_map(of_plan).min().unwrap_or(0);
    }
    Ok(kept.into_iter().collect())
}

/// The first hour of which no event can have been deleted yet. Events are kept from their arrival on,
/// which is not before their time where no test clock is, and not before the tenant was there.
fn complete_from(
    days: u16,
    now: Timestamp,
    created_at: Timestamp,
    subscriber: &Subscriber,
) -> Timestamp {
    let kept = SignedDuration::from_hours(24 * i64::from(days)) - RETENTION_SPREAD;
    let from = now.checked_sub(kept).unwrap_or(Timestamp::MIN);
    match (days, subscriber.test_clock) {
        (0, _) => Timestamp::MAX,
        // No event is of an earlier time.
        _ if created_at > from => Timestamp::UNIX_EPOCH,
        (_, Some(_)) => Timestamp::MAX,
        _ => from,
    }
}
