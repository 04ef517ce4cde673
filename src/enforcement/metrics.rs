//! The engine's figures for Prometheus: handles are registered once, so that counting formats and
//! allocates nothing.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};

use crate::domain::{
    emergency::EmergencyReason,
    quota::{DecidedBy, QuotaAnswer, QuotaReason},
    usage::RecordReceipt,
};

const REASONS: [(QuotaReason, &str); 10] = [
    (QuotaReason::WithinLimit, "within_limit"),
    (QuotaReason::Unlimited, "unlimited"),
    (QuotaReason::Overage, "overage"),
    (QuotaReason::WithinGrant, "within_grant"),
    (QuotaReason::AllowedByOutagePolicy, "allowed_by_outage_policy"),
    (QuotaReason::LimitExceeded, "limit_exceeded"),
    (QuotaReason::DeniedByOutagePolicy, "denied_by_outage_policy"),
    (QuotaReason::NotInPlan, "not_in_plan"),
    (QuotaReason::SubscriptionInactive, "subscription_inactive"),
    (QuotaReason::TooManySubjects, "too_many_subjects"),
];

const DECIDERS: [(DecidedBy, &str); 4] = [
    (DecidedBy::Memory, "memory"),
    (DecidedBy::Redis, "redis"),
    (DecidedBy::Fallback, "fallback"),
    (DecidedBy::Replay, "replay"),
];

const EMERGENCY_REASONS: [(EmergencyReason, &str); 6] = [
    (EmergencyReason::Granted, "granted"),
    (EmergencyReason::NotExhausted, "not_exhausted"),
    (EmergencyReason::AlreadyUsed, "already_used"),
    (EmergencyReason::PoolExhausted, "pool_exhausted"),
    (EmergencyReason::NotInPlan, "not_in_plan"),
    (EmergencyReason::SubscriptionInactive, "subscription_inactive"),
];

/// Handles of everything that requests count.
pub struct EngineMetrics {
    checks: [[Counter; DECIDERS.len()]; REASONS.len()],
    check_seconds: [Histogram; DECIDERS.len()],
    record_seconds: Histogram,
    emergencies: [Counter; EMERGENCY_REASONS.len()],
    pub events_recorded: Counter,
    pub events_repeated: Counter,
    pub units_unbacked: Counter,
    pub events_late: Counter,
    pub reservations_expired: Counter,
    pub undone_units: Counter,
}

impl EngineMetrics {
    /// Registers every series, so that each is there before it first counts.
    pub fn register() -> Self {
        describe_counter!("tollgate_checks_total", "Quota checks by reason and by what decided");
        describe_histogram!("tollgate_check_seconds", "Time to answer a quota check, by decider");
        describe_histogram!(
            "tollgate_record_seconds",
            "Time to acknowledge a batch of usage, however many events"
        );
        describe_counter!(
            "tollgate_emergency_requests_total",
            "Requests for emergency usage that were answered, by reason"
        );
        describe_counter!("tollgate_usage_events_total", "Usage events accepted, by outcome");
        describe_counter!(
            "tollgate_unbacked_units_total",
            "Units admitted by outage policy, without cover of the shared counters"
        );
        describe_counter!(
            "tollgate_late_settlements_total",
            "Usage that named a reservation which had ended; recorded without admission"
        );
        describe_counter!("tollgate_reservations_expired_total", "Reservations that lapsed");
        describe_counter!(
            "tollgate_undone_units_total",
            "Units given back to the counters after the flush: repeats, quarantined, decreases"
        );
        Self {
            checks: REASONS.map(|(_, reason)| {
                DECIDERS.map(|(_, decided_by)| {
                    counter!("tollgate_checks_total", "reason" => reason, "decided_by" => decided_by)
                })
            }),
            check_seconds: DECIDERS.map(|(_, decided_by)| {
                histogram!("tollgate_check_seconds", "decided_by" => decided_by)
            }),
            record_seconds: histogram!("tollgate_record_seconds"),
            emergencies: EMERGENCY_REASONS.map(
                |(_, reason)| counter!("tollgate_emergency_requests_total", "reason" => reason),
            ),
            events_recorded: counter!("tollgate_usage_events_total", "outcome" => "recorded"),
            events_repeated: counter!("tollgate_usage_events_total", "outcome" => "repeated"),
            units_unbacked: counter!("tollgate_unbacked_units_total"),
            events_late: counter!("tollgate_late_settlements_total"),
            reservations_expired: counter!("tollgate_reservations_expired_total"),
            undone_units: counter!("tollgate_undone_units_total"),
        }
    }

    /// Counts an acknowledged batch.
    pub fn recorded(&self, receipt: RecordReceipt, took: Duration) {
        self.record_seconds.record(took);
        self.events_recorded.increment(receipt.accepted);
        self.events_repeated.increment(receipt.duplicates);
    }

    /// Counts an answer to a request for emergency usage.
    pub fn emergency_answered(&self, reason: EmergencyReason) {
        let reason = EMERGENCY_REASONS.iter().position(|(known, _)| *known == reason);
        if let Some(reason) = reason {
            self.emergencies[reason].increment(1);
        }
    }

    /// Counts answers from memory by their reasons; all of them together took `took`.
    pub fn glanced(&self, answered: &[(QuotaReason, u64)], took: Duration) {
        let all: u64 = answered.iter().map(|(_, count)| count).sum();
        let Some(mean) = took.as_nanos().checked_div(all.into()) else { return };
        let mean = Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX));
        for (reason, count) in answered.iter().filter(|(_, count)| *count > 0) {
            self.count(*reason, DecidedBy::Memory, *count, mean);
        }
    }

    /// Counts an answer.
    pub fn answered(&self, answer: &QuotaAnswer, took: Duration) {
        self.count(answer.reason, answer.decided_by, 1, took);
    }

    /// Counts `answers` that took `each`.
    fn count(&self, reason: QuotaReason, decided_by: DecidedBy, answers: u64, each: Duration) {
        let reason = REASONS.iter().position(|(known, _)| *known == reason);
        let decider = DECIDERS.iter().position(|(known, _)| *known == decided_by);
        if let (Some(reason), Some(decider)) = (reason, decider) {
            self.checks[reason][decider].increment(answers);
            let answers = usize::try_from(answers).unwrap_or(usize::MAX);
            self.check_seconds[decider].record_many(each, answers);
        }
    }
}
