//! Answers without doing anything.

use futures::StreamExt;
use tollgate::{
    api::at_once::AnswersAtOnce,
    proto::{
        time::{Duration, Timestamp},
        v1::{self, tollgate_service_server::TollgateService},
    },
};
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

use crate::calls::{FEATURE, RATE};

/// Answers what a sidecar would answer most often.
#[derive(Clone)]
pub struct Noop;

impl AnswersAtOnce for Noop {}

#[tonic::async_trait]
impl TollgateService for Noop {
    async fn check_quota(
        &self,
        request: Request<v1::CheckQuotaRequest>,
    ) -> Result<Response<v1::CheckQuotaResponse>, Status> {
        Ok(Response::new(within_limit(request.get_ref().amount)))
    }

    async fn record_usage(
        &self,
        request: Request<v1::RecordUsageRequest>,
    ) -> Result<Response<v1::RecordUsageResponse>, Status> {
        let accepted = request.get_ref().events.len() as i64;
        Ok(Response::new(v1::RecordUsageResponse { accepted, duplicates: 0, late: 0 }))
    }

    async fn check_rate_limit(
        &self,
        request: Request<v1::CheckRateLimitRequest>,
    ) -> Result<Response<v1::CheckRateLimitResponse>, Status> {
        Ok(Response::new(within_rate(request.get_ref().permits)))
    }

    async fn check_feature(
        &self,
        request: Request<v1::CheckFeatureRequest>,
    ) -> Result<Response<v1::CheckFeatureResponse>, Status> {
        let feature = in_plan(request.into_inner().feature);
        Ok(Response::new(v1::CheckFeatureResponse { feature: Some(feature) }))
    }

    async fn check(
        &self,
        request: Request<v1::CheckRequest>,
    ) -> Result<Response<v1::CheckResponse>, Status> {
        let quotas = [("queries", 1), ("tokens", 20)];
        let quotas = quotas.map(|(meter, amount)| (meter.to_owned(), within_limit(Some(amount))));
        Ok(Response::new(v1::CheckResponse {
            allowed: !request.get_ref().operation.is_empty(),
            features: vec![in_plan(FEATURE.to_owned())],
            rate_limits: [(RATE.to_owned(), within_rate(None))].into(),
            quotas: quotas.into(),
            decided_by: v1::DecidedBy::Memory.into(),
            ..Default::default()
        }))
    }

    async fn check_batch(
        &self,
        request: Request<v1::CheckBatchRequest>,
    ) -> Result<Response<v1::CheckBatchResponse>, Status> {
        let results = request.into_inner().checks.into_iter().map(any_result).collect();
        Ok(Response::new(v1::CheckBatchResponse { results }))
    }

    async fn check_stream(
        &self,
        request: Request<Streaming<v1::CheckStreamRequest>>,
    ) -> Result<Response<BoxStream<v1::CheckStreamResponse>>, Status> {
        let answer = |request: v1::CheckStreamRequest| v1::CheckStreamResponse {
            id: request.id,
            result: request.check.map(any_result),
        };
        let answers = request.into_inner().map(move |request| request.map(answer));
        Ok(Response::new(Box::pin(answers)))
    }
}

fn any_result(check: v1::AnyCheck) -> v1::AnyCheckResult {
    let result = match check.check {
        Some(v1::any_check::Check::Quota(quota)) => {
            Some(v1::any_check_result::Result::Quota(within_limit(quota.amount)))
        }
        _ => None,
    };
    v1::AnyCheckResult { result }
}

fn in_plan(feature: String) -> v1::FeatureAccess {
    v1::FeatureAccess {
        feature,
        enabled: true,
        reason: v1::FeatureReason::InPlan.into(),
        ..Default::default()
    }
}

fn within_rate(permits: Option<u32>) -> v1::CheckRateLimitResponse {
    let window = v1::RateLimitWindow {
        limit: 1_000_000,
        period: Some(Duration { seconds: 1, nanos: 0 }),
        burst: 1_000_000,
        remaining: 999_999,
        reset_after: Some(Duration { seconds: 0, nanos: 1_000 }),
    };
    v1::CheckRateLimitResponse {
        allowed: permits.unwrap_or(1) > 0,
        reason: v1::RateLimitReason::WithinLimit.into(),
        decided_by: v1::DecidedBy::Memory.into(),
        limit: window.limit,
        period: window.period,
        burst: window.burst,
        remaining: window.remaining,
        reset_after: window.reset_after,
        windows: vec![window],
        ..Default::default()
    }
}

fn within_limit(amount: Option<i64>) -> v1::CheckQuotaResponse {
    let amount = amount.unwrap_or_default();
    v1::CheckQuotaResponse {
        allowed: true,
        reason: v1::QuotaReason::WithinLimit.into(),
        decided_by: v1::DecidedBy::Memory.into(),
        limit: 1_000_000_000,
        used: amount,
        remaining: 1_000_000_000 - amount,
        resets_at: Some(Timestamp { seconds: 1_800_000_000, nanos: 0 }),
        ..Default::default()
    }
}
