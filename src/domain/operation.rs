//! The question *may this tenant do this operation now?* and its answer.

use std::collections::BTreeMap;

use super::{
    catalog::names::{OperationName, RateName},
    features::{compiled::Attributes, offered::OfferedFeature},
    ids::{FeatureName, IdempotencyKey, MeterName, Subject, TenantId},
    properties::Properties,
    quota::{DecidedBy, QuotaAnswer, QuotaMode},
    rate::RateAnswer,
    remedy::Remedy,
    usage::Durability,
};

/// One check of an operation.
#[derive(Clone, Debug)]
pub struct OperationRequest {
    pub tenant: TenantId,
    pub operation: OperationName,
    pub subject: Option<Subject>,
    /// Base units by meter, of the meters that the operation leaves open.
    pub amounts: BTreeMap<MeterName, i64>,
    pub mode: QuotaMode,
    /// For the operation as a whole.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Absent: the sidecar's configured default.
    pub durability: Option<Durability>,
    pub properties: Properties,
    /// What targeting of features goes by.
    pub attributes: Attributes,
}

/// The part of an operation that denied it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeniedBy {
    Subscription,
    Feature(FeatureName),
    Rate(RateName),
    Quota(MeterName),
}

/// The answer to a check of an operation: what each part said, up to the one that denied.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationAnswer {
    /// Absent: allowed.
    pub denied_by: Option<DeniedBy>,
    pub decided_by: DecidedBy,
    pub features: Vec<OfferedFeature>,
    pub rates: Vec<(RateName, RateAnswer)>,
    pub quotas: Vec<(MeterName, QuotaAnswer)>,
    /// What the tenant could do about a denial, the nearest first.
    pub remedies: Vec<Remedy>,
}

impl OperationAnswer {
    /// Nothing asked yet.
    pub fn empty() -> Self {
        Self {
            denied_by: None,
            decided_by: DecidedBy::Memory,
            features: vec![],
            rates: vec![],
            quotas: vec![],
            remedies: vec![],
        }
    }

    /// Whether the operation may go on.
    pub fn is_allowed(&self) -> bool {
        self.denied_by.is_none()
    }

    /// The same answer, decided where the farthest of its parts was.
    #[must_use]
    pub fn decided(mut self) -> Self {
        let parts = self.quotas.iter().map(|(_, quota)| quota.decided_by);
        let parts = parts.chain(self.rates.iter().map(|(_, rate)| rate.decided_by));
        self.decided_by = parts.max().unwrap_or(DecidedBy::Memory);
        self
    }
}
