//! Servers that decode a request and answer it without doing anything: what is left is what gRPC,
//! HTTP/2 and the kernel cost. Two shapes: the sidecar's own, and tonic's as it comes.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use futures::StreamExt;
use tokio::{net::UnixListener, sync::watch};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tollgate::{
    grpc::{
        config::GrpcConfig,
        faces::faces,
        health::Health,
        listen::Listeners,
        serve::{Services, serve},
    },
    proto::v1::{
        self,
        tollgate_service_server::{TollgateService, TollgateServiceServer},
    },
};
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

/// The arguments of `noop`.
#[derive(Parser)]
pub struct Args {
    /// How connections and calls are served.
    #[arg(long, value_enum, default_value_t = Shape::Inline)]
    shape: Shape,
    /// TCP address to listen on.
    #[arg(long, default_value = "127.0.0.1:7431")]
    listen: SocketAddr,
    /// Unix socket to listen on as well.
    #[arg(long)]
    socket: Option<PathBuf>,
}

/// How connections and calls are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// As the sidecar does: handlers are polled inside their connection's task.
    Inline,
    /// As tonic does by itself: a task for each call.
    Tonic,
}

/// Serves until it is killed.
pub fn main(args: Args) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        match args.shape {
            Shape::Inline => serve_inline(Noop, args.listen, args.socket).await,
            Shape::Tonic => serve_tonic(args).await,
        }
    })
}

/// Serves a service as the sidecar serves its own, without its checks of tokens.
pub async fn serve_inline(
    service: impl TollgateService + Clone,
    listen: SocketAddr,
    socket: Option<PathBuf>,
) -> anyhow::Result<()> {
    let config = GrpcConfig { listen: Some(listen), socket, ..GrpcConfig::default() };
    let listeners = Listeners::open(&config).await?;
    println!("{}", listeners.tcp_address().context("no TCP address")?);
    let shutdown = CancellationToken::new();
    let health = Health::new().await;
    let service = faces(service, health.server(), &config)?;
    let (_ready, readiness) = watch::channel(true);
    tokio::spawn(health.follow(readiness, shutdown.clone()));
    let services = Services { over_tcp: service.clone(), over_unix: service, tls: None };
    serve(listeners, services, config, shutdown).await;
    Ok(())
}

async fn serve_tonic(args: Args) -> anyhow::Result<()> {
    let limit = GrpcConfig::default().message_bytes_max;
    let service = TollgateServiceServer::new(Noop).max_decoding_message_size(limit);
    let server = || {
        tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .add_service(service.clone())
    };
    let tcp = tokio::net::TcpListener::bind(args.listen).await?;
    println!("{}", tcp.local_addr()?);
    let incoming = tonic::transport::server::TcpIncoming::from(tcp).with_nodelay(Some(true));
    let unix = async {
        match &args.socket {
            None => std::future::pending().await,
            Some(path) => {
                let socket = UnixListener::bind(path)?;
                server().serve_with_incoming(UnixListenerStream::new(socket)).await?;
                anyhow::Ok(())
            }
        }
    };
    tokio::select! {
        end = server().serve_with_incoming(incoming) => Ok(end?),
        end = unix => end,
    }
}

/// Answers what a sidecar would answer most often.
#[derive(Clone)]
struct Noop;

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
        let permits = request.get_ref().permits.unwrap_or(1);
        Ok(Response::new(v1::CheckRateLimitResponse {
            allowed: permits > 0,
            reason: v1::RateLimitReason::WithinLimit.into(),
            ..Default::default()
        }))
    }

    async fn check_feature(
        &self,
        request: Request<v1::CheckFeatureRequest>,
    ) -> Result<Response<v1::CheckFeatureResponse>, Status> {
        let feature = v1::FeatureAccess {
            feature: request.into_inner().feature,
            enabled: true,
            reason: v1::FeatureReason::InPlan.into(),
            ..Default::default()
        };
        Ok(Response::new(v1::CheckFeatureResponse { feature: Some(feature) }))
    }

    async fn check(
        &self,
        request: Request<v1::CheckRequest>,
    ) -> Result<Response<v1::CheckResponse>, Status> {
        Ok(Response::new(v1::CheckResponse {
            allowed: !request.get_ref().operation.is_empty(),
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

fn within_limit(amount: Option<i64>) -> v1::CheckQuotaResponse {
    let amount = amount.unwrap_or_default();
    v1::CheckQuotaResponse {
        allowed: true,
        reason: v1::QuotaReason::WithinLimit.into(),
        decided_by: v1::DecidedBy::Memory.into(),
        limit: 1_000_000_000,
        used: amount,
        remaining: 1_000_000_000 - amount,
        resets_at: Some(tollgate::proto::time::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
        ..Default::default()
    }
}
