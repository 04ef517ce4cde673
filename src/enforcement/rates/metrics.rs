//! The figures of rates for Prometheus, registered once.

use metrics::{Counter, counter};

use crate::domain::{
    quota::DecidedBy,
    rate::{RateAnswer, RateReason},
};

const REASONS: [(RateReason, &str); 8] = [
    (RateReason::WithinLimit, "within_limit"),
    (RateReason::Unlimited, "unlimited"),
    (RateReason::AllowedByOutagePolicy, "allowed_by_outage_policy"),
    (RateReason::RateExceeded, "rate_exceeded"),
    (RateReason::BurstExceeded, "burst_exceeded"),
    (RateReason::DeniedByOutagePolicy, "denied_by_outage_policy"),
    (RateReason::SubscriptionInactive, "subscription_inactive"),
    (RateReason::TooManySubjects, "too_many_subjects"),
];

const DECIDERS: [(DecidedBy, &str); 3] =
    [(DecidedBy::Memory, "memory"), (DecidedBy::Redis, "redis"), (DecidedBy::Fallback, "fallback")];

/// Handles of everything that rates count.
pub struct RateMetrics {
    checks: [[Counter; DECIDERS.len()]; REASONS.len()],
}

impl RateMetrics {
    /// Registers every series, so that each is there before it first counts.
    pub fn register() -> Self {
        metrics::describe_counter!(
            "tollgate_rate_checks_total",
            "Rate checks by reason and by what decided, those within operations included"
        );
        metrics::describe_gauge!(
            "tollgate_rate_subjects_live",
            "Subjects that this sidecar keeps rates for"
        );
        Self {
            checks: REASONS.map(|(_, reason)| {
                DECIDERS.map(|(_, decided_by)| {
                    counter!("tollgate_rate_checks_total", "reason" => reason, "decided_by" => decided_by)
                })
            }),
        }
    }

    /// Counts an answer.
    pub fn answered(&self, answer: &RateAnswer) {
        let reason = REASONS.iter().position(|(reason, _)| *reason == answer.reason);
        let decider = DECIDERS.iter().position(|(decider, _)| *decider == answer.decided_by);
        if let (Some(reason), Some(decider)) = (reason, decider) {
            self.checks[reason][decider].increment(1);
        }
    }
}
