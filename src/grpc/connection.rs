//! One HTTP/2 connection, from its preface to its end.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::Service};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use super::{
    config::GrpcConfig,
    inline::{Event, Handlers, InlineExecutor},
};

/// Bytes of one call that may arrive before they are asked for.
const CALL_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes of all calls of one connection that may arrive before they are asked for.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// What ends a connection from this side.
#[derive(Clone, Debug)]
pub struct Closing {
    /// No new calls; those in flight finish.
    pub drain: CancellationToken,
    /// Everything ends now.
    pub cut: CancellationToken,
}

enum Signal {
    Drain,
    Cut,
}

/// What answers the calls of a connection.
pub trait Answers:
    Service<
        Request<Incoming>,
        Response = Response<Body>,
        Error = Infallible,
        Future: Send + 'static,
    > + Send
    + 'static
{
}

impl<S> Answers for S where
    S: Service<
            Request<Incoming>,
            Response = Response<Body>,
            Error = Infallible,
            Future: Send + 'static,
        > + Send
        + 'static
{
}

/// Serves one connection until the client leaves, the sidecar drains, or it is cut off.
pub async fn serve_connection<I, S>(io: I, service: S, config: &GrpcConfig, closing: Closing)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Answers,
{
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
        .serve_connection(TokioIo::new(io), service);
    let handlers = Handlers::new(executor);
    let Closing { drain, cut } = closing;
    handlers.add_signal(async move {
        drain.cancelled().await;
        Signal::Drain
    });
    handlers.add_signal(async move {
        cut.cancelled().await;
        Signal::Cut
    });
    let connection = Connection { connection: Box::pin(connection), handlers };
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a gRPC connection broke");
    }
}

type Served<I, S> = http2::Connection<TokioIo<I>, S, InlineExecutor>;

/// hyper's connection and the handlers that run beside it.
struct Connection<I, S>
where
    S: Answers,
{
    connection: Pin<Box<Served<I, S>>>,
    handlers: Handlers<Signal>,
}

impl<I, S> Future for Connection<I, S>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Answers,
{
    type Output = Result<(), hyper::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { connection, handlers } = &mut *self;
        // Ends, because every round needs news: tokio's budget of a task stops the reads, and with
        // them what can arrive, long before another task starves.
        loop {
            if let Poll::Ready(end) = connection.as_mut().poll(cx) {
                return Poll::Ready(end);
            }
            let mut news = handlers.start_arrived();
            while let Poll::Ready(event) = handlers.poll_waiting(cx) {
                news = true;
                match event {
                    Event::Answered => {}
                    Event::Signal(Signal::Drain) => connection.as_mut().graceful_shutdown(),
                    Event::Signal(Signal::Cut) => return Poll::Ready(Ok(())),
                }
            }
            if !news {
                return Poll::Pending;
            }
        }
    }
}
