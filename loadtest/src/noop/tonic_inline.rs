//! tonic's generated service, polled inside its connection's task.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::{BoxFuture, poll_fn};
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};
use tollgate::{
    grpc::{
        config::GrpcConfig,
        connection::{CALL_WINDOW_BYTES, CONNECTION_WINDOW_BYTES},
    },
    proto::v1::tollgate_service_server::TollgateServiceServer,
};
use tonic::{body::Body, codegen::Service};

use super::{
    Args, generated,
    inline_executor::{Handlers, InlineExecutor},
    service::Noop,
};

/// Serves until it is killed.
pub async fn serve_tonic_inline(args: Args) -> anyhow::Result<()> {
    let tcp = TcpListener::bind(args.listen).await?;
    println!("{}", tcp.local_addr()?);
    let over_tcp = async {
        loop {
            let (io, _) = tcp.accept().await?;
            io.set_nodelay(true)?;
            tokio::spawn(serve_connection(io));
        }
    };
    let over_unix = async {
        let Some(path) = &args.socket else { return std::future::pending().await };
        let socket = UnixListener::bind(path)?;
        loop {
            tokio::spawn(serve_connection(socket.accept().await?.0));
        }
    };
    tokio::select! {
        end = over_tcp => end,
        end = over_unix => end,
    }
}

/// Serves one connection by hyper, as tonic does, with the sidecar's settings.
async fn serve_connection(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let config = GrpcConfig::default();
    let executor = InlineExecutor::default();
    let connection = http2::Builder::new(executor.clone())
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .initial_stream_window_size(CALL_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(config.calls_per_connection_max)
        .max_header_list_size(config.head_bytes_max)
        .keep_alive_interval(Duration::from_secs(config.keepalive_interval_s))
        .keep_alive_timeout(Duration::from_secs(config.keepalive_timeout_s))
        .serve_connection(TokioIo::new(io), Generated(generated()));
    let mut handlers = Handlers::new(executor);
    let mut connection = pin!(connection);
    poll_fn(|cx| poll_both(connection.as_mut(), &mut handlers, cx)).await;
}

/// Polls a connection and its handlers as long as there is anything to do for either.
fn poll_both(
    mut connection: Pin<&mut impl Future>,
    handlers: &mut Handlers,
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        if connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !handlers.poll(cx) {
            return Poll::Pending;
        }
    }
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
