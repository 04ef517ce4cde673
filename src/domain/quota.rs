//! The question *may this tenant do this now?* and its answer.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    ids::{IdempotencyKey, MeterName, Subject, TenantId},
    properties::Properties,
    remedy::Remedy,
    reservation::Reservation,
    usage::Durability,
};

/// What a quota check does when it is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaMode {
    /// Looks only.
    Check,
    /// Takes the amount and records it, in one step.
    Consume,
    /// Holds the amount until it is settled, released or `ttl` has passed (absent: the sidecar's
    /// configured default).
    Reserve { ttl: Option<Duration> },
}

/// One quota check.
#[derive(Clone, Debug)]
pub struct QuotaRequest {
    pub tenant: TenantId,
    pub meter: MeterName,
    pub subject: Option<Subject>,
    /// Base units; negative only to lower a level by CONSUME.
    pub amount: i64,
    pub mode: QuotaMode,
    pub idempotency_key: Option<IdempotencyKey>,
    /// Absent: the sidecar's configured default.
    pub durability: Option<Durability>,
    pub properties: Properties,
}

/// Why the answer is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuotaReason {
    /// Within the limit.
    WithinLimit,
    /// The plan sets no limit on this meter.
    Unlimited,
    /// Past a soft limit: admitted, and billed as overage once grace is used up.
    Overage,
    /// Past the plan's limit, and covered by grants.
    WithinGrant,
    /// Admitted without being covered by shared counters, because they were out of reach.
    AllowedByOutagePolicy,
    /// The limit (or the hard cap of a soft one) would be passed.
    LimitExceeded,
    /// Shared counters are out of reach and the limit's policy is to deny.
    DeniedByOutagePolicy,
    /// The plan does not include this meter.
    NotInPlan,
    /// The tenant's subscription is suspended or cancelled.
    SubscriptionInactive,
    /// More subjects are live than the sidecar is configured to count.
    TooManySubjects,
}

/// Where the answer came from; the greater, the farther it had to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DecidedBy {
    /// This sidecar's memory alone.
    Memory,
    /// A call to the shared counters was needed.
    Redis,
    /// The limit's outage policy.
    Fallback,
    /// The first answer to the same idempotency key.
    Replay,
}

/// The answer to a quota check. A denial is an answer, not an error.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaAnswer {
    pub allowed: bool,
    pub reason: QuotaReason,
    pub decided_by: DecidedBy,
    /// Base units per window; `None` = unlimited.
    pub limit: Option<u64>,
    /// Base units used in the window, as far as this sidecar knows now.
    pub used: u64,
    /// Base units left before the first denial; `None` = no denial ever.
    pub remaining: Option<u64>,
    /// Units of `used` beyond the limit.
    pub overage: u64,
    /// End of the window; `None` = never.
    pub resets_at: Option<Timestamp>,
    /// Present when RESERVE was allowed.
    pub reservation: Option<Reservation>,
    /// What the tenant could do about a denial, the nearest first.
    pub remedies: Vec<Remedy>,
}
