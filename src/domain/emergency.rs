//! Emergency usage: more of a meter for a critical operation of a tenant that has run out.

use jiff::Timestamp;

use super::{
    catalog::names::OperationName,
    ids::{GrantId, IdempotencyKey, MeterName, Subject, TenantId},
};

/// A tenant asks for emergency usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmergencyRequest {
    pub tenant: TenantId,
    pub meter: MeterName,
    pub subject: Option<Subject>,
    /// Base units, at least 1.
    pub amount: u64,
    /// The critical operation that it is for.
    pub operation: OperationName,
    /// In words for people.
    pub reason: String,
    /// Who asks; may be empty.
    pub requested_by: String,
    /// The same request under the same key is answered with the same grant.
    pub idempotency_key: IdempotencyKey,
}

/// Why emergency usage was granted or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmergencyReason {
    Granted,
    /// The tenant has not run out.
    NotExhausted,
    /// The rule has been used as often as it may in this period.
    AlreadyUsed,
    /// More is asked for than the rule grants, or has left.
    PoolExhausted,
    /// The plan has no rule for this meter and operation.
    NotInPlan,
    /// The tenant's subscription is suspended or cancelled.
    SubscriptionInactive,
}

/// The answer. A refusal is an answer, not an error.
#[derive(Clone, Debug, PartialEq)]
pub struct EmergencyAnswer {
    pub reason: EmergencyReason,
    /// Present exactly when it was granted.
    pub grant: Option<EmergencyGrant>,
    /// Base units that the rule has left in this period.
    pub pool_remaining: u64,
    /// What a base unit costs, as a decimal number of the major unit; empty where units cost
    /// differently much.
    pub unit_price: String,
    /// ISO 4217; empty where the plan has no rule.
    pub currency: String,
}

/// What was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmergencyGrant {
    pub id: GrantId,
    /// Base units.
    pub amount: u64,
    pub expires_at: Option<Timestamp>,
}
