//! Answers, for people and for programs.

use crate::proto::time::Timestamp as WireTimestamp;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::proto::v1::{self, CheckQuotaResponse, MeterUsage};

/// RFC 3339; `None` for an absent time.
fn instant(at: Option<&WireTimestamp>) -> Option<String> {
    let at = at?;
    Timestamp::new(at.seconds, at.nanos).ok().map(|at| at.to_string())
}

/// With thousands apart; -1 is the wire's unlimited.
fn amount(units: i64) -> String {
    if units == -1 {
        return "unlimited".to_owned();
    }
    let digits = units.unsigned_abs().to_string();
    let mut text = String::from(if units < 0 { "-" } else { "" });
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An enum's name without its prefix: `QUOTA_REASON_WITHIN_LIMIT` → `within_limit`.
fn short(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

pub(super) fn check_as_json(answer: &CheckQuotaResponse) -> Value {
    json!({
        "allowed": answer.allowed,
        "reason": short(answer.reason().as_str_name(), "QUOTA_REASON_"),
        "decided_by": short(answer.decided_by().as_str_name(), "DECIDED_BY_"),
        "limit": answer.limit,
        "used": answer.used,
        "remaining": answer.remaining,
        "overage": answer.overage,
        "resets_at": instant(answer.resets_at.as_ref()),
        "reservation": answer.reservation.as_ref().map(|held| json!({
            "id": held.id,
            "amount": held.amount,
            "expires_at": instant(held.expires_at.as_ref()),
        })),
    })
}

pub(super) fn check_as_text(answer: &CheckQuotaResponse) -> String {
    let verdict = if answer.allowed { "allowed" } else { "denied" };
    let reason = short(answer.reason().as_str_name(), "QUOTA_REASON_").replace('_', " ");
    let decided_by = short(answer.decided_by().as_str_name(), "DECIDED_BY_");
    let mut text = format!(
        "{verdict}: {reason} (decided by {decided_by})\n\
         limit {}, used {}, remaining {}",
        amount(answer.limit),
        amount(answer.used),
        amount(answer.remaining),
    );
    if answer.overage > 0 {
        text.push_str(&format!(", overage {}", amount(answer.overage)));
    }
    if let Some(at) = instant(answer.resets_at.as_ref()) {
        text.push_str(&format!(", resets {at}"));
    }
    if let Some(held) = &answer.reservation {
        let until = instant(held.expires_at.as_ref()).unwrap_or_default();
        text.push_str(&format!(
            "\nreservation {} of {} until {until}",
            held.id,
            amount(held.amount)
        ));
    }
    text
}

pub(super) fn usage_as_json(answer: &v1::GetUsageResponse) -> Value {
    let meters = answer.meters.iter().map(|meter| {
        json!({
            "meter": meter.meter,
            "subject": meter.subject,
            "unit": meter.unit,
            "enforcement": short(meter.enforcement().as_str_name(), "ENFORCEMENT_KIND_"),
            "limit": meter.limit,
            "hard_cap": meter.hard_cap,
            "used": meter.used,
            "remaining": meter.remaining,
            "overage": meter.overage,
            "reserved": meter.reserved,
            "settled": meter.settled,
            "unsettled": meter.unsettled,
            "settled_at": instant(meter.settled_at.as_ref()),
            "period": meter.period,
            "window_start": instant(meter.window_start.as_ref()),
            "resets_at": instant(meter.resets_at.as_ref()),
        })
    });
    json!({
        "as_of": instant(answer.as_of.as_ref()),
        "meters": meters.collect::<Vec<_>>(),
        "alerts": answer.alerts.iter().map(alert_as_json).collect::<Vec<_>>(),
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

pub(super) fn usage_as_text(answer: &v1::GetUsageResponse) -> String {
    let mut rows = vec![
        ["meter", "used", "limit", "remaining", "reserved", "period", "resets"].map(str::to_owned),
    ];
    rows.extend(answer.meters.iter().map(usage_row));
    let as_of = instant(answer.as_of.as_ref()).unwrap_or_default();
    let alerts = answer.alerts.iter().map(alert_line).collect::<String>();
    format!("{}\nas of {as_of}{alerts}", table(&rows))
}

fn alert_line(alert: &v1::Alert) -> String {
    let name = named(&alert.meter, &alert.subject);
    let line = format!("\nalert: {name} has reached {} % of its limit", alert.threshold_percent);
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

fn usage_row(meter: &MeterUsage) -> [String; 7] {
    [
        named(&meter.meter, &meter.subject),
        amount(meter.used),
        amount(meter.limit),
        amount(meter.remaining),
        amount(meter.reserved),
        meter.period.clone(),
        instant(meter.resets_at.as_ref()).unwrap_or_else(|| "never".into()),
    ]
}

/// Columns as wide as their widest cell; figures to the right.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if (1..5).contains(&column) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_with_thousands_apart_and_minus_one_as_unlimited() {
        assert_eq!(amount(0), "0");
        assert_eq!(amount(999), "999");
        assert_eq!(amount(18_305_870), "18,305,870");
        assert_eq!(amount(-1_234), "-1,234");
        assert_eq!(amount(-1), "unlimited");
    }

    #[test]
    fn a_denial_says_why_and_when_the_meter_starts_again() {
        let answer = CheckQuotaResponse {
            allowed: false,
            reason: v1::QuotaReason::LimitExceeded.into(),
            decided_by: v1::DecidedBy::Memory.into(),
            limit: 2_000,
            used: 2_000,
            resets_at: Some(WireTimestamp { seconds: 0, nanos: 0 }),
            ..Default::default()
        };
        assert_eq!(
            check_as_text(&answer),
            "denied: limit exceeded (decided by memory)\n\
             limit 2,000, used 2,000, remaining 0, resets 1970-01-01T00:00:00Z"
        );
        assert_eq!(check_as_json(&answer)["reason"], "limit_exceeded");
    }

    #[test]
    fn usage_is_a_table_with_one_row_per_meter() {
        let meter = MeterUsage { meter: "queries".into(), limit: -1, ..Default::default() };
        let answer = v1::GetUsageResponse { meters: vec![meter], ..Default::default() };
        let text = usage_as_text(&answer);
        let rows: Vec<_> = text.lines().collect();
        assert!(rows[1].starts_with("queries     0  unlimited"), "{text}");
    }
}
