//! A tenant's usage, for people and for programs.

use serde_json::{Value, json};

use super::answer::{amount, instant, short};
use crate::{
    cli::table::table,
    proto::v1::{self, GrantUsage, MeterUsage, PoolUsage},
};

/// Decimals that an amount is shown with in a larger unit; one that needs more is shown in base
/// units, for a rounded figure would be another.
const DECIMALS_MAX: usize = 9;

/// All that was answered; amounts in base units.
pub(super) fn as_json(answer: &v1::GetUsageResponse) -> Value {
    json!({
        "as_of": instant(answer.as_of.as_ref()),
        "meters": answer.meters.iter().map(meter_as_json).collect::<Vec<_>>(),
        "alerts": answer.alerts.iter().map(alert_as_json).collect::<Vec<_>>(),
    })
}

fn meter_as_json(meter: &MeterUsage) -> Value {
    json!({
        "meter": meter.meter,
        "subject": meter.subject,
        "unit": meter.unit,
        "display_unit": meter.display_unit,
        "display_unit_size": meter.display_unit_size,
        "enforcement": short(meter.enforcement().as_str_name(), "ENFORCEMENT_KIND_"),
        "limit": meter.limit,
        "hard_cap": meter.hard_cap,
        "used": meter.used,
        "remaining": meter.remaining,
        "overage": meter.overage,
        "reserved": meter.reserved,
        "forfeited": meter.forfeited,
        "settled": meter.settled,
        "unsettled": meter.unsettled,
        "settled_at": instant(meter.settled_at.as_ref()),
        "period": meter.period,
        "window_start": instant(meter.window_start.as_ref()),
        "resets_at": instant(meter.resets_at.as_ref()),
        "grants": meter.grants.iter().map(grant_as_json).collect::<Vec<_>>(),
        "pool": meter.pool.as_ref().map(pool_as_json),
    })
}

fn grant_as_json(grant: &GrantUsage) -> Value {
    json!({
        "grant": grant.grant_id,
        "kind": grant.kind,
        "subject": grant.subject,
        "amount": grant.amount,
        "used": grant.used,
        "remaining": grant.remaining,
        "forfeited": grant.forfeited,
        "expires_at": instant(grant.expires_at.as_ref()),
    })
}

fn pool_as_json(pool: &PoolUsage) -> Value {
    json!({
        "pool": pool.pool_id,
        "class": pool.class,
        "limit": pool.limit,
        "used": pool.used,
        "remaining": pool.remaining,
        "forfeited": pool.forfeited,
        "member_used": pool.member_used,
        "resets_at": instant(pool.resets_at.as_ref()),
    })
}

fn alert_as_json(alert: &v1::Alert) -> Value {
    json!({
        "meter": alert.meter,
        "subject": alert.subject,
        "kind": short(alert.kind().as_str_name(), "ALERT_KIND_"),
        "threshold_percent": alert.threshold_percent,
        "raised_at": instant(alert.raised_at.as_ref()),
        "recommended_action": alert.recommended_action,
    })
}

/// A row per meter, and a line for each thing that `used` and `limit` do not explain.
pub(super) fn as_text(answer: &v1::GetUsageResponse) -> String {
    let heads = ["meter", "used", "limit", "remaining", "overage", "reserved", "period", "resets"];
    let rows: Vec<_> = answer.meters.iter().map(row).collect();
    let notes = answer.meters.iter().flat_map(notes).map(|note| note + "\n").collect::<String>();
    let alerts = answer.alerts.iter().map(|alert| alert_line(alert) + "\n").collect::<String>();
    let as_of = instant(answer.as_of.as_ref()).unwrap_or_default();
    format!("{}{notes}{alerts}as of {as_of}", table(&heads, &rows))
}

fn row(meter: &MeterUsage) -> Vec<String> {
    let shown = |units| in_unit(units, meter);
    vec![
        named(&meter.meter, &meter.subject),
        // What the other columns tell is the pool's too.
        shown(meter.pool.as_ref().map_or(meter.used, |pool| pool.used)),
        limit(meter.limit, meter),
        limit(meter.remaining, meter),
        shown(meter.overage),
        shown(meter.reserved),
        meter.period.clone(),
        instant(meter.resets_at.as_ref()).unwrap_or_else(|| "never".into()),
    ]
}

/// Why a meter's `remaining` is other than `limit` without `used`.
fn notes(meter: &MeterUsage) -> Vec<String> {
    let name = named(&meter.meter, &meter.subject);
    let shown = |units| in_unit(units, meter);
    let forfeited = |units| match units {
        0 => String::new(),
        units => format!(", {} forfeited", shown(units)),
    };
    let mut notes = Vec::new();
    if meter.hard_cap != -1 {
        notes.push(format!("{name}: goes on beyond its limit up to {}", shown(meter.hard_cap)));
    }
    if meter.forfeited > 0 {
        notes.push(format!(
            "{name}: {} forfeited: a lost sidecar had them in hand; they count against the limit, and \
             nobody is billed for them",
            shown(meter.forfeited)
        ));
    }
    if let Some(pool) = &meter.pool {
        let class = match pool.class.as_str() {
            "" => "its members".to_owned(),
            class => format!("members of class {class}"),
        };
        let own = match pool.member_used {
            Some(units) => format!(" ({} by this tenant)", shown(units)),
            None => String::new(),
        };
        let outside = match meter.used {
            0 => String::new(),
            units => format!("; {} outside the pool", shown(units)),
        };
        notes.push(format!(
            "{name}: draws on pool {}: {class} may use {}; {} used by all{own}, {} left{}{outside}",
            pool.pool_id,
            shown(pool.limit),
            shown(pool.used),
            shown(pool.remaining),
            forfeited(pool.forfeited),
        ));
    }
    notes.extend(meter.grants.iter().map(|grant| {
        let until = instant(grant.expires_at.as_ref());
        format!(
            "{name}: grant {} ({}): {} of {} used, {} left{}{}",
            grant.grant_id,
            grant.kind,
            shown(grant.used),
            shown(grant.amount),
            shown(grant.remaining),
            forfeited(grant.forfeited),
            until.map(|until| format!(", until {until}")).unwrap_or_default(),
        )
    }));
    notes
}

fn alert_line(alert: &v1::Alert) -> String {
    let name = named(&alert.meter, &alert.subject);
    let line = format!("alert: {name} has reached {} % of its limit", alert.threshold_percent);
    match alert.recommended_action.as_str() {
        "" => line,
        action => format!("{line}; {action}"),
    }
}

/// A meter, with the subject that it is counted for.
fn named(meter: &str, subject: &str) -> String {
    match subject {
        "" => meter.to_owned(),
        subject => format!("{meter}[{subject}]"),
    }
}

/// An amount that may be unlimited, which is -1 on the wire.
fn limit(units: i64, meter: &MeterUsage) -> String {
    if units == -1 { "unlimited".to_owned() } else { in_unit(units, meter) }
}

/// An amount in the unit that people see, exactly.
fn in_unit(units: i64, meter: &MeterUsage) -> String {
    // A sidecar of an earlier version tells no size.
    let size = u64::try_from(meter.display_unit_size).unwrap_or(0).max(1);
    let sign = if units < 0 { "-" } else { "" };
    let (whole, rest) = (units.unsigned_abs() / size, units.unsigned_abs() % size);
    let told = |units: u64| amount(i64::try_from(units).unwrap_or(i64::MAX));
    match decimals(rest, size) {
        Some(decimals) if size > 1 => {
            format!("{sign}{}{decimals} {}", told(whole), meter.display_unit)
        }
        _ => format!("{sign}{} {}", told(units.unsigned_abs()), meter.unit),
    }
}

/// `rest / size` below 1 as `.25`, where that is exact.
fn decimals(rest: u64, size: u64) -> Option<String> {
    let (mut rest, size) = (u128::from(rest), u128::from(size));
    let mut digits = String::new();
    while rest > 0 {
        if digits.len() == DECIMALS_MAX {
            return None;
        }
        rest *= 10;
        digits.push_str(&(rest / size).to_string());
        rest %= size;
    }
    Some(if digits.is_empty() { digits } else { format!(".{digits}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> MeterUsage {
        MeterUsage {
            meter: "storage".into(),
            unit: "byte".into(),
            display_unit: "GB".into(),
            display_unit_size: 1_000_000_000,
            hard_cap: -1,
            ..Default::default()
        }
    }

    fn text(meter: MeterUsage) -> String {
        as_text(&v1::GetUsageResponse { meters: vec![meter], ..Default::default() })
    }

    #[test]
    fn amounts_are_told_in_the_unit_that_people_see_and_are_exact() {
        for (units, told) in [
            (0, "0 GB"),
            (200_000_000_000, "200 GB"),
            (1_234_500_000_000, "1,234.5 GB"),
            (-500_000_000, "-0.5 GB"),
            (1, "0.000000001 GB"),
            (-1_000_000_000, "-1 GB"),
        ] {
            assert_eq!(in_unit(units, &bytes()), told);
        }
        let hours = MeterUsage {
            unit: "second".into(),
            display_unit: "hour".into(),
            display_unit_size: 3_600,
            ..Default::default()
        };
        assert_eq!(in_unit(5_400, &hours), "1.5 hour");
        assert_eq!(in_unit(1_200, &hours), "1,200 second", "a third of an hour has no end");
    }

    #[test]
    fn unlimited_is_told_and_a_meter_has_one_row() {
        let meter = MeterUsage { limit: -1, used: 5_000_000_000, ..bytes() };
        let text = text(MeterUsage { remaining: -1, ..meter });
        let row = text.lines().nth(1).unwrap();
        assert!(row.starts_with("storage  5 GB  unlimited  unlimited"), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
    }

    #[test]
    fn what_limit_and_used_do_not_explain_is_told() {
        let units = |gigabytes: i64| gigabytes * 1_000_000_000;
        let grant = GrantUsage {
            grant_id: "g1".into(),
            kind: "top_up".into(),
            amount: units(4),
            used: units(1),
            remaining: units(3),
            ..Default::default()
        };
        let pool = PoolUsage {
            pool_id: "p1".into(),
            class: "gold".into(),
            limit: units(6),
            used: units(5),
            remaining: 0,
            forfeited: units(1),
            member_used: Some(units(2)),
            ..Default::default()
        };
        let meter = MeterUsage {
            limit: units(6),
            overage: units(2),
            forfeited: units(7),
            hard_cap: units(9),
            grants: vec![grant],
            pool: Some(pool),
            ..bytes()
        };
        let text = text(meter);
        for told in [
            "storage: goes on beyond its limit up to 9 GB",
            "storage: 7 GB forfeited",
            "pool p1: members of class gold may use 6 GB; 5 GB used by all (2 GB by this \
             tenant), 0 GB left, 1 GB forfeited",
            "grant g1 (top_up): 1 GB of 4 GB used, 3 GB left",
        ] {
            assert!(text.contains(told), "{told} is missing in\n{text}");
        }
        assert!(text.lines().next().unwrap().contains("overage"), "{text}");
    }
}
