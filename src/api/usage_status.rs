//! `GetUsage`: a tenant's quotas and what was used of them.

use std::{ops::RangeInclusive, time::Duration};

use crate::{
    domain::{
        alerts::{Alert, AlertKind},
        ids::{MeterName, TenantId},
        invalid::{Invalid, Problems},
        limit::Enforcement,
        meter::MeterKind,
        period::Period,
        usage_status::{GrantStatus, MeterStatus, PoolStatus, UsageQuery, UsageStatus},
    },
    proto::v1,
};

use super::fields;

/// Most meters that one call may name.
pub const METERS_NAMED_MAX: usize = 100;
/// How often a watcher may look at most, and at least.
const WATCH_INTERVALS: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3_600);
/// How often it looks unless it says otherwise.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Checks whose usage of what is asked for.
pub fn usage_query(wire: v1::GetUsageRequest) -> Result<UsageQuery, Problems> {
    let mut problems = Problems::default();
    let tenant = problems.keep(TenantId::new(&wire.tenant));
    let subject = problems.keep(fields::subject(&wire.subject));
    if wire.meters.len() > METERS_NAMED_MAX {
        problems.push(Invalid::new(
            "meters",
            format!("has {} entries", wire.meters.len()),
            format!("name at most {METERS_NAMED_MAX}, or none for all"),
        ));
        return Err(problems);
    }
    let mut meters = Vec::with_capacity(wire.meters.len());
    for (number, name) in wire.meters.iter().enumerate() {
        let checked = MeterName::new(name)
            .map_err(|problem| Invalid { field: format!("meters[{number}]"), ..problem });
        meters.extend(problems.keep(checked));
    }
    match (tenant, subject) {
        (Some(tenant), Some(subject)) if problems.is_empty() => {
            Ok(UsageQuery { tenant, meters, subject })
        }
        _ => Err(problems),
    }
}

/// Puts a tenant's usage into the wire's form.
pub fn usage_response(status: UsageStatus) -> v1::GetUsageResponse {
    v1::GetUsageResponse {
        as_of: Some(fields::wire_instant(status.as_of)),
        meters: status.meters.into_iter().map(meter_usage).collect(),
        alerts: status.alerts.into_iter().map(alert).collect(),
    }
}

/// Checks what is to be watched, and how often at most.
pub fn watch_request(wire: v1::WatchUsageRequest) -> Result<(UsageQuery, Duration), Problems> {
    let v1::WatchUsageRequest { tenant, meters, subject, interval_min } = wire;
    let query = usage_query(v1::GetUsageRequest { tenant, meters, subject });
    let interval = fields::positive_duration("interval_min", interval_min).and_then(|interval| {
        let interval = interval.unwrap_or(WATCH_INTERVAL);
        match WATCH_INTERVALS.contains(&interval) {
            true => Ok(interval),
            false => Err(Invalid::new(
                "interval_min",
                format!("is out of range ({} ms)", interval.as_millis()),
                "give 100 ms to 1 h, or nothing for 1 s",
            )),
        }
    });
    match (query, interval) {
        (Ok(query), Ok(interval)) => Ok((query, interval)),
        (Err(mut problems), Err(problem)) => {
            problems.push(problem);
            Err(problems)
        }
        (Err(problems), _) => Err(problems),
        (_, Err(problem)) => Err(problem.into()),
    }
}

/// Puts a tenant's usage, or what changed of it, into the wire's form.
pub fn watch_response(status: UsageStatus) -> v1::WatchUsageResponse {
    let v1::GetUsageResponse { as_of, meters, alerts } = usage_response(status);
    v1::WatchUsageResponse { as_of, meters, alerts }
}

fn alert(alert: Alert) -> v1::Alert {
    let kind = match AlertKind::of(alert.threshold) {
        AlertKind::ApproachingLimit => v1::AlertKind::ApproachingLimit,
        AlertKind::LimitExceeded => v1::AlertKind::LimitExceeded,
    };
    v1::Alert {
        meter: alert.meter.into(),
        subject: alert.subject.map(String::from).unwrap_or_default(),
        kind: kind.into(),
        threshold_percent: alert.threshold.to_string(),
        raised_at: alert.raised_at.map(fields::wire_instant),
        resolved_at: alert.resolved_at.map(fields::wire_instant),
        recommended_action: alert.recommended_action.unwrap_or_default(),
    }
}

fn meter_usage(meter: MeterStatus) -> v1::MeterUsage {
    let hard_cap = match meter.enforcement {
        Enforcement::Soft { hard_cap } => hard_cap,
        Enforcement::Hard => None,
    };
    let starts = meter.window.label.period != Period::Lifetime;
    v1::MeterUsage {
        enforcement: enforcement_kind(&meter).into(),
        meter: meter.meter.into(),
        subject: meter.subject.map(String::from).unwrap_or_default(),
        unit: meter.unit,
        limit: fields::units_or_unlimited(meter.limit),
        used: meter.used,
        remaining: fields::units_or_unlimited(meter.remaining),
        overage: fields::units(meter.overage),
        reserved: fields::units(meter.reserved),
        settled: meter.settled,
        unsettled: meter.unsettled,
        settled_at: meter.settled_at.map(fields::wire_instant),
        period: meter.window.label.period.to_string(),
        window_start: starts.then(|| fields::wire_instant(meter.window.start)),
        resets_at: meter.window.end.map(fields::wire_instant),
        hard_cap: fields::units_or_unlimited(hard_cap),
        grants: meter.grants.into_iter().map(grant_usage).collect(),
        pool: meter.pool.map(pool_usage),
        forfeited: fields::units(meter.forfeited),
        display_unit: meter.display_unit.name,
        display_unit_size: fields::units(meter.display_unit.size),
    }
}

fn pool_usage(pool: PoolStatus) -> v1::PoolUsage {
    v1::PoolUsage {
        pool_id: pool.id.to_string(),
        class: pool.class.unwrap_or_default(),
        limit: fields::units(pool.limit),
        used: fields::units(pool.used),
        remaining: fields::units(pool.remaining),
        resets_at: pool.resets_at.map(fields::wire_instant),
        member_used: pool.member_used.map(fields::units),
        forfeited: fields::units(pool.forfeited),
    }
}

fn grant_usage(grant: GrantStatus) -> v1::GrantUsage {
    v1::GrantUsage {
        grant_id: grant.id.to_string(),
        kind: grant.kind.as_str().to_owned(),
        amount: fields::units(grant.amount),
        used: fields::units(grant.used),
        remaining: fields::units(grant.remaining),
        expires_at: grant.expires_at.map(fields::wire_instant),
        subject: grant.subject.map(String::from).unwrap_or_default(),
        forfeited: fields::units(grant.forfeited),
    }
}

fn enforcement_kind(meter: &MeterStatus) -> v1::EnforcementKind {
    match (meter.kind, meter.enforcement, meter.limit) {
        (MeterKind::Static, _, _) => v1::EnforcementKind::Static,
        (MeterKind::Counter | MeterKind::Level, _, None) => v1::EnforcementKind::Unlimited,
        (_, Enforcement::Hard, Some(_)) => v1::EnforcementKind::Hard,
        (_, Enforcement::Soft { .. }, Some(_)) => v1::EnforcementKind::Soft,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::{
        catalog::meters::Unit,
        window::{Window, WindowLabel},
    };

    fn storage() -> MeterStatus {
        MeterStatus {
            grants: vec![],
            pool: None,
            meter: MeterName::new("storage").unwrap(),
            subject: None,
            unit: "byte".into(),
            display_unit: Unit { name: "GB".into(), size: 1_000_000_000 },
            kind: MeterKind::Level,
            enforcement: Enforcement::Soft { hard_cap: Some(150) },
            limit: Some(100),
            used: 120,
            remaining: Some(30),
            overage: 20,
            reserved: 0,
            forfeited: 3,
            settled: 125,
            unsettled: -5,
            settled_at: None,
            window: Window {
                label: WindowLabel { period: Period::Lifetime, start: 0, anchor_version: 1 },
                start: Timestamp::UNIX_EPOCH,
                end: None,
            },
        }
    }

    #[test]
    fn a_soft_level_shows_its_cap_and_has_no_window_bounds() {
        let wire = meter_usage(storage());
        assert_eq!(wire.enforcement(), v1::EnforcementKind::Soft);
        assert_eq!((wire.limit, wire.hard_cap, wire.overage), (100, 150, 20));
        assert_eq!((wire.settled, wire.unsettled), (125, -5));
        assert_eq!((wire.window_start, wire.resets_at), (None, None));
        assert_eq!(wire.forfeited, 3);
        assert_eq!((wire.display_unit.as_str(), wire.display_unit_size), ("GB", 1_000_000_000));
    }

    #[test]
    fn without_a_limit_a_meter_is_unlimited_whatever_its_enforcement() {
        let wire =
            meter_usage(MeterStatus { limit: None, enforcement: Enforcement::Hard, ..storage() });
        assert_eq!(wire.enforcement(), v1::EnforcementKind::Unlimited);
        assert_eq!((wire.limit, wire.hard_cap), (-1, -1));
    }

    #[test]
    fn a_bad_meter_name_is_named_by_its_place() {
        let wire = v1::GetUsageRequest {
            tenant: "acme".into(),
            meters: vec!["tokens".into(), "To kens".into()],
            ..Default::default()
        };
        let problems = usage_query(wire).unwrap_err();
        assert_eq!(problems.listed()[0].field, "meters[1]");
        let many = v1::GetUsageRequest {
            tenant: "acme".into(),
            meters: vec!["tokens".into(); 101],
            ..Default::default()
        };
        assert_eq!(usage_query(many).unwrap_err().listed()[0].field, "meters");
    }

    #[test]
    fn a_watch_says_how_often_it_may_look() {
        let watch = |interval_min| {
            let tenant = "acme".to_owned();
            watch_request(v1::WatchUsageRequest { tenant, interval_min, ..Default::default() })
        };
        let length = |seconds, nanos| Some(crate::proto::time::Duration { seconds, nanos });
        assert_eq!(watch(None).unwrap().1, Duration::from_secs(1));
        assert_eq!(watch(length(0, 100_000_000)).unwrap().1, Duration::from_millis(100));
        for bad in [length(0, 99_999_999), length(3_601, 0), length(-1, 0)] {
            assert_eq!(watch(bad).unwrap_err().listed()[0].field, "interval_min");
        }
    }
}
