//! Answers, for people and for programs.

use crate::proto::time::Timestamp as WireTimestamp;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::proto::v1::CheckQuotaResponse;

/// RFC 3339; `None` for an absent time.
pub(super) fn instant(at: Option<&WireTimestamp>) -> Option<String> {
    let at = at?;
    Timestamp::new(at.seconds, at.nanos).ok().map(|at| at.to_string())
}

/// With thousands apart; -1 is the wire's unlimited.
pub(super) fn amount(units: i64) -> String {
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
pub(super) fn short(name: &str, prefix: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1;

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
}
