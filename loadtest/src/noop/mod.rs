//! Servers that decode a request and answer it without doing anything: what is left is what gRPC,
//! HTTP/2 and the kernel cost. Three shapes: tonic as it comes, tonic at its best, and the sidecar's
//! own face.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use tokio::{net::UnixListener, sync::watch};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tollgate::{
    api::at_once::AnswersAtOnce,
    grpc::{
        config::GrpcConfig,
        faces::faces,
        health::Health,
        listen::Listeners,
        serve::{Services, serve},
    },
    proto::v1::tollgate_service_server::TollgateServiceServer,
};

mod inline_executor;
mod service;
mod tonic_inline;

use service::Noop;
use tonic_inline::serve_tonic_inline;

/// The arguments of `noop`.
#[derive(Parser)]
pub struct Args {
    /// How connections and calls are served.
    #[arg(long, value_enum, default_value_t = Shape::TonicInline)]
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
    /// tonic's server as it comes: a task for each call.
    Tonic,
    /// tonic's generated service, polled inside its connection's task: the fastest there is of tonic
    /// alone, without any bound on what clients may do.
    TonicInline,
    /// The sidecar's face: its bounds, and its short way round tonic's service.
    Face,
}

impl Shape {
    /// As the argument names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tonic => "tonic",
            Self::TonicInline => "tonic-inline",
            Self::Face => "face",
        }
    }
}

/// Serves until it is killed.
pub fn main(args: Args) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        match args.shape {
            Shape::Tonic => serve_tonic(args).await,
            Shape::TonicInline => serve_tonic_inline(args).await,
            Shape::Face => serve_face(Noop, args.listen, args.socket).await,
        }
    })
}

/// Serves a service as the sidecar serves its own, without its checks of tokens.
pub async fn serve_face(
    service: impl AnswersAtOnce + Clone,
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
    let service = generated();
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

/// The service as tonic has generated it.
fn generated() -> TollgateServiceServer<Noop> {
    let bytes_max = GrpcConfig::default().message_bytes_max;
    TollgateServiceServer::new(Noop).max_decoding_message_size(bytes_max)
}
