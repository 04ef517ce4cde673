//! tonic's generated service, polled inside its connection's task.

use std::convert::Infallible;

use futures::future::BoxFuture;
use hyper::body::Incoming;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};
use tokio_util::sync::CancellationToken;
use tollgate::{
    grpc::{
        config::GrpcConfig,
        connection::{Closing, serve_connection},
    },
    proto::v1::tollgate_service_server::TollgateServiceServer,
};
use tonic::{body::Body, codegen::Service};

use super::{Args, generated, service::Noop};

/// Serves until it is killed.
pub async fn serve_tonic_inline(args: Args) -> anyhow::Result<()> {
    let tcp = TcpListener::bind(args.listen).await?;
    println!("{}", tcp.local_addr()?);
    let over_tcp = async {
        loop {
            let (io, _) = tcp.accept().await?;
            io.set_nodelay(true)?;
            spawn_inline(io);
        }
    };
    let over_unix = async {
        let Some(path) = &args.socket else { return std::future::pending().await };
        let socket = UnixListener::bind(path)?;
        loop {
            spawn_inline(socket.accept().await?.0);
        }
    };
    tokio::select! {
        end = over_tcp => end,
        end = over_unix => end,
    }
}

fn spawn_inline(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let never = CancellationToken::new();
    let closing = Closing { drain: never.clone(), cut: never };
    tokio::spawn(async move {
        serve_connection(io, Generated(generated()), &GrpcConfig::default(), closing).await;
    });
}

/// The same for hyper.
struct Generated(TollgateServiceServer<Noop>);

impl hyper::service::Service<http::Request<Incoming>> for Generated {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        self.0.clone().call(request)
    }
}
