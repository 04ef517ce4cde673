//! One check of any kind, and its answer.

use super::{
    features::{offered::OfferedFeature, query::FeatureQuery},
    operation::{OperationAnswer, OperationRequest},
    quota::{QuotaAnswer, QuotaRequest},
    rate::{RateAnswer, RateRequest},
};

/// One check.
#[derive(Clone, Debug)]
pub enum AnyCheck {
    Quota(QuotaRequest),
    Rate(RateRequest),
    Feature(FeatureQuery),
    Operation(OperationRequest),
}

/// Its answer.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyAnswer {
    Quota(QuotaAnswer),
    Rate(RateAnswer),
    Feature(OfferedFeature),
    Operation(OperationAnswer),
}
