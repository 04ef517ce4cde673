//! The product's calls: convert, ask the engine, answer.

use std::sync::Arc;

use futures::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::{Extensions, Request, Response, Status, Streaming, codegen::BoxStream};

use super::{
    access::guarded::messages,
    any_check::{any_result, check_batch},
    at_once::{
        AnswersAtOnce, AtOnce, EncodedAnswer, MayConsume, MayOperate, consume_with, operate_with,
    },
    check_stream::check_stream,
    emergency::{emergency_request, emergency_response},
    feature::{feature_query, feature_response, features_query, features_response},
    operation::{encoded_response, operation_request, operation_response},
    quota::{quota_request, quota_response, release_request, release_response},
    rate::{rate_request, rate_response},
    record_stream::record_stream,
    refusal::Refusal,
    status::status,
    usage::{UsageBatch, record_response, usage_batch},
    usage_status::{usage_query, usage_response, watch_request},
    watch_stream::watch_stream,
};
use crate::{
    domain::{invalid::Problems, operation::OperationAnswer},
    enforcement::{engine::Engine, error::EngineError},
    lanes::Shares,
    proto::borrowed::{PlainCheck, PlainQuota},
    proto::v1::{
        AnyCheck, AnyCheckResult, CheckBatchRequest, CheckBatchResponse, CheckFeatureRequest,
        CheckFeatureResponse, CheckQuotaRequest, CheckQuotaResponse, CheckRateLimitRequest,
        CheckRateLimitResponse, CheckRequest, CheckResponse, CheckStreamRequest,
        CheckStreamResponse, GetUsageRequest, GetUsageResponse, ListFeaturesRequest,
        ListFeaturesResponse, RecordUsageRequest, RecordUsageResponse, RecordUsageStreamRequest,
        RecordUsageStreamResponse, ReleaseReservationRequest, ReleaseReservationResponse,
        RequestEmergencyUsageRequest, RequestEmergencyUsageResponse, WatchUsageRequest,
        WatchUsageResponse, any_check_result::Result::Quota,
        tollgate_service_server::TollgateService,
    },
};

/// The engine behind the faces.
#[derive(Clone)]
pub struct EngineService {
    engine: Arc<Shares<Engine>>,
    /// Ends streams, which otherwise last as long as their callers like.
    shutdown: CancellationToken,
}

impl EngineService {
    /// Serves `engine`; streams end at `shutdown`.
    pub fn new(engine: Arc<Engine>, shutdown: CancellationToken) -> Self {
        Self { engine: Arc::new(Shares::new(engine)), shutdown }
    }

    async fn answer_operation(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<OperationAnswer, Status> {
        let request = operation_request(request.into_inner()).map_err(invalid)?;
        self.engine.check_operation(&request).await.map_err(refused)
    }
}

fn invalid(problems: Problems) -> Status {
    refused(EngineError::InvalidRequest(problems))
}

fn refused(error: EngineError) -> Status {
    status(Refusal::from(error))
}

impl AnswersAtOnce for EngineService {
    fn begin_looks<'s>(&'s self, _: &'s Extensions) -> Option<AtOnce<'s>> {
        Some(AtOnce::new(self.engine.glances()))
    }

    fn consume_at_once(&self, _: &Extensions, plain: &PlainQuota<'_>) -> Option<MayConsume> {
        consume_with(&self.engine, plain)
    }

    fn operate_at_once(
        &self,
        _: &Extensions,
        plain: &PlainCheck<'_>,
        answer: Vec<u8>,
    ) -> Option<MayOperate> {
        operate_with(&self.engine, plain, answer)
    }

    async fn check_encoded(&self, request: Request<CheckRequest>) -> EncodedAnswer {
        let answer = self.answer_operation(request).await?;
        Ok(Response::new(encoded_response(answer)))
    }
}

#[tonic::async_trait]
impl TollgateService for EngineService {
    async fn check_quota(
        &self,
        request: Request<CheckQuotaRequest>,
    ) -> Result<Response<CheckQuotaResponse>, Status> {
        let request = quota_request(request.into_inner()).map_err(invalid)?;
        let answer = self.engine.check_quota(request).await.map_err(refused)?;
        Ok(Response::new(quota_response(answer)))
    }

    async fn release_reservation(
        &self,
        request: Request<ReleaseReservationRequest>,
    ) -> Result<Response<ReleaseReservationResponse>, Status> {
        let (tenant, id) = release_request(request.into_inner()).map_err(invalid)?;
        let released = self.engine.release_reservation(&tenant, id).await.map_err(refused)?;
        Ok(Response::new(release_response(released)))
    }

    async fn record_usage(
        &self,
        request: Request<RecordUsageRequest>,
    ) -> Result<Response<RecordUsageResponse>, Status> {
        let RecordUsageRequest { events, durability } = request.into_inner();
        let UsageBatch { reports, durability } =
            usage_batch(events, durability).map_err(invalid)?;
        let receipt = self.engine.record_usage(reports, durability).await.map_err(refused)?;
        Ok(Response::new(record_response(receipt)))
    }

    async fn record_usage_stream(
        &self,
        request: Request<Streaming<RecordUsageStreamRequest>>,
    ) -> Result<Response<BoxStream<RecordUsageStreamResponse>>, Status> {
        let engine = self.engine.clone();
        let record = move |batch: UsageBatch| {
            let engine = engine.clone();
            async move { engine.record_usage(batch.reports, batch.durability).await }
        };
        let answers = record_stream(messages(request), record, self.shutdown.clone());
        Ok(Response::new(Box::pin(answers)))
    }

    async fn get_usage(
        &self,
        request: Request<GetUsageRequest>,
    ) -> Result<Response<GetUsageResponse>, Status> {
        let query = usage_query(request.into_inner()).map_err(invalid)?;
        let usage = self.engine.get_usage(&query).await.map_err(refused)?;
        Ok(Response::new(usage_response(usage)))
    }

    async fn watch_usage(
        &self,
        request: Request<WatchUsageRequest>,
    ) -> Result<Response<BoxStream<WatchUsageResponse>>, Status> {
        let (query, interval) = watch_request(request.into_inner()).map_err(invalid)?;
        let watch = self.engine.watch_usage(query, interval).map_err(refused)?;
        Ok(Response::new(watch_stream(watch, self.shutdown.clone()).boxed()))
    }

    async fn check_rate_limit(
        &self,
        request: Request<CheckRateLimitRequest>,
    ) -> Result<Response<CheckRateLimitResponse>, Status> {
        let request = rate_request(request.into_inner()).map_err(invalid)?;
        let answer = self.engine.check_rate(request).await.map_err(refused)?;
        Ok(Response::new(rate_response(answer)))
    }

    async fn check_feature(
        &self,
        request: Request<CheckFeatureRequest>,
    ) -> Result<Response<CheckFeatureResponse>, Status> {
        let query = feature_query(request.into_inner()).map_err(invalid)?;
        let feature = self.engine.check_feature(&query).await.map_err(refused)?;
        Ok(Response::new(feature_response(feature)))
    }

    async fn list_features(
        &self,
        request: Request<ListFeaturesRequest>,
    ) -> Result<Response<ListFeaturesResponse>, Status> {
        let asker = features_query(request.into_inner()).map_err(invalid)?;
        let features = self.engine.list_features(&asker).await.map_err(refused)?;
        Ok(Response::new(features_response(features)))
    }

    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let answer = self.answer_operation(request).await?;
        Ok(Response::new(operation_response(answer)))
    }

    async fn check_batch(
        &self,
        request: Request<CheckBatchRequest>,
    ) -> Result<Response<CheckBatchResponse>, Status> {
        let checks = check_batch(request.into_inner()).map_err(invalid)?;
        let results = self.engine.check_batch(checks, any_result).await;
        Ok(Response::new(CheckBatchResponse { results }))
    }

    async fn check_stream(
        &self,
        request: Request<Streaming<CheckStreamRequest>>,
    ) -> Result<Response<BoxStream<CheckStreamResponse>>, Status> {
        // Behind a handle of the stream's own: all cores would count the engine's holders in one place.
        let engine = Arc::new(self.engine.clone());
        let at_once = engine.clone();
        let look = move |check: &AnyCheck| {
            let plain = PlainQuota::of_read(check).ok().filter(PlainQuota::is_look)?;
            let answer = AtOnce::new(at_once.glances()).look(&plain)?;
            Some(AnyCheckResult { result: Some(Quota(quota_response(answer))) })
        };
        let check = move |check| {
            let engine = engine.clone();
            async move { engine.check_any(check).await }
        };
        let answers = check_stream(messages(request), look, check, self.shutdown.clone());
        Ok(Response::new(Box::pin(answers)))
    }

    async fn request_emergency_usage(
        &self,
        request: Request<RequestEmergencyUsageRequest>,
    ) -> Result<Response<RequestEmergencyUsageResponse>, Status> {
        let request = emergency_request(request.into_inner()).map_err(invalid)?;
        let answer = self.engine.request_emergency(request).await.map_err(refused)?;
        Ok(Response::new(emergency_response(answer)))
    }
}
