//! One HTTP/2 connection, from its preface to its end.
//!
//! It is served on `h2` itself: what a server of HTTP in general does for each call between that and
//! us (a future, a body and its pipe, both ways) costs more than most calls do. The figures are in
//! `docs/performance.md`.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{RecvStream, server};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::{
    call::{Calls, GrpcService},
    config::GrpcConfig,
    handlers::{Event, Handlers},
    keep_alive::KeepAlive,
    preface::Prefaced,
};

/// Bytes of one call that may arrive before they are asked for.
pub const CALL_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes of all calls of one connection that may arrive before they are asked for.
pub const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

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

/// Serves one connection until the client leaves, the sidecar drains, or it is cut off.
pub async fn serve_connection<I, S>(
    io: Prefaced<I>,
    calls: Calls<S>,
    config: &GrpcConfig,
    closing: Closing,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: GrpcService,
{
    let Closing { drain, cut } = closing;
    let heard = io.heard();
    let http2 = tokio::select! {
        () = cut.cancelled() => return,
        http2 = begun(io, config) => http2,
    };
    let handlers = Handlers::default();
    handlers.add_signal(async move {
        drain.cancelled().await;
        Signal::Drain
    });
    handlers.add_signal(async move {
        cut.cancelled().await;
        Signal::Cut
    });
    let served = http2.map(|mut http2| {
        let keep_alive = http2.ping_pong().map(|ping_pong| {
            let interval = Duration::from_secs(config.keepalive_interval_s);
            let timeout = Duration::from_secs(config.keepalive_timeout_s);
            KeepAlive::new(ping_pong, heard, interval, timeout)
        });
        Connection { http2, calls, arrived: Vec::new(), handlers, keep_alive }
    });
    let end = match served {
        Ok(mut connection) => poll_fn(|cx| connection.poll(cx)).await,
        Err(error) => Err(error),
    };
    if let Err(error) = end {
        tracing::debug!(%error, "a gRPC connection broke");
    }
}

async fn begun<I>(io: I, config: &GrpcConfig) -> Result<server::Connection<I, Bytes>, h2::Error>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    server::Builder::new()
        .initial_window_size(CALL_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(config.calls_per_connection_max)
        .max_header_list_size(config.head_bytes_max)
        .handshake(io)
        .await
}

/// Calls that are begun in one round at most. Those that a client gives up before they are accepted
/// count as abuse with `h2`, others as calls.
const ARRIVED_MAX: usize = 256;

type Arrived = (Request<RecvStream>, server::SendResponse<Bytes>);

/// A connection and the handlers that run beside it.
struct Connection<I, S> {
    http2: server::Connection<I, Bytes>,
    calls: Calls<S>,
    /// Calls that were read and not begun. Emptied in each round.
    arrived: Vec<Arrived>,
    handlers: Handlers<Signal>,
    keep_alive: Option<KeepAlive>,
}

impl<I, S> Connection<I, S>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    /// Reads and writes all that can be, as long as there are not too many calls. Ends with the
    /// connection.
    fn poll_arrivals(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        while self.arrived.len() < ARRIVED_MAX {
            match pin!(self.http2.accept()).poll(cx) {
                Poll::Ready(Some(arrived)) => self.arrived.push(arrived?),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        Poll::Pending
    }

    /// Ends when a client that says nothing is no longer there.
    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(keep_alive) = &mut self.keep_alive else { return Poll::Pending };
        keep_alive.poll_lost(cx)
    }
}

impl<I, S> Connection<I, S>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: GrpcService,
{
    /// Does all that there is to do. Ends with the connection.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        // Ends, because every round needs news: tokio's budget of a task stops the reads, and with
        // them what can arrive, long before another task starves.
        loop {
            if let Poll::Ready(end) = self.poll_arrivals(cx) {
                return Poll::Ready(end);
            }
            if self.poll_lost(cx).is_ready() {
                tracing::debug!("a gRPC client does not answer pings");
                return Poll::Ready(Ok(()));
            }
            let mut news = !self.arrived.is_empty();
            self.handlers.start(&self.calls, &mut self.arrived);
            while let Poll::Ready(event) = self.handlers.poll_waiting(cx) {
                news = true;
                match event {
                    Event::Answered => {}
                    Event::Signal(Signal::Drain) => self.http2.graceful_shutdown(),
                    Event::Signal(Signal::Cut) => return Poll::Ready(Ok(())),
                }
            }
            if !news {
                return Poll::Pending;
            }
        }
    }
}
