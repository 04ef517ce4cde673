//! Accepts connections, bounds their number, and drains them at the end.

use std::{io, os::fd::AsFd, sync::Arc, time::Duration};

use rustix::net::RecvFlags;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest},
    net::{TcpStream, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    call::{Calls, GrpcService},
    config::GrpcConfig,
    connection::{Closing, serve_connection},
    listen::{Listeners, UnixSocket},
};

/// How long accepting pauses when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What every HTTP/2 client says first.
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How a server's connections ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every call in flight was answered.
    Clean,
    /// This many connections still had calls in flight at the deadline and were cut off.
    Cut { connections: usize },
}

/// What is served, by the kind of socket that a connection came through: the file permissions of a
/// Unix socket have said already who may call.
#[derive(Clone, Debug)]
pub struct Services<S> {
    pub over_tcp: S,
    pub over_unix: S,
}

/// Serves until `shutdown`: then accepts nothing more, tells clients to go (GOAWAY), and waits for
/// the calls in flight as long as the configuration says.
pub async fn serve<S: GrpcService>(
    listeners: Listeners,
    services: Services<S>,
    config: GrpcConfig,
    shutdown: CancellationToken,
) -> Drained {
    let over_tcp = Calls::new(services.over_tcp, &config);
    let over_unix = over_tcp.with(services.over_unix);
    let door = Door {
        room: Arc::new(Semaphore::new(config.connections_max.min(Semaphore::MAX_PERMITS))),
        closing: Closing { drain: shutdown.clone(), cut: CancellationToken::new() },
        connections: TaskTracker::new(),
        config: Arc::new(config),
    };
    let Listeners { tcp, unix } = listeners;
    tokio::join!(
        async {
            if let Some(listener) = tcp {
                door.accept(&over_tcp, || async { Ok(listener.accept().await?.0) }).await;
            }
        },
        async {
            if let Some(UnixSocket { listener, .. }) = &unix {
                door.accept(&over_unix, || async { Ok(listener.accept().await?.0) }).await;
            }
        }
    );
    drop(unix);
    door.drain().await
}

/// What every accepted connection is given.
struct Door {
    room: Arc<Semaphore>,
    closing: Closing,
    connections: TaskTracker,
    config: Arc<GrpcConfig>,
}

impl Door {
    /// Takes connections from one socket until the shutdown.
    async fn accept<S, I, F>(&self, calls: &Calls<S>, next: impl Fn() -> F)
    where
        S: GrpcService,
        I: Socket,
        F: Future<Output = io::Result<I>>,
    {
        loop {
            let accepted = tokio::select! {
                () = self.closing.drain.cancelled() => return,
                accepted = next() => accepted,
            };
            match accepted {
                Ok(socket) => self.admit(calls, socket),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept gRPC connections; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit<S: GrpcService, I: Socket>(&self, calls: &Calls<S>, socket: I) {
        let Ok(place) = self.room.clone().try_acquire_owned() else {
            // Closed at once: a client that is told tries elsewhere, one that waits hangs.
            metrics::counter!("tollgate_grpc_connections_refused_total").increment(1);
            tracing::warn!(
                connections_max = self.config.connections_max,
                "a gRPC connection was refused: too many are open"
            );
            return;
        };
        let connection =
            attend(socket, calls.clone(), self.config.clone(), self.closing.clone(), place);
        self.connections.spawn(connection);
    }

    async fn drain(&self) -> Drained {
        self.connections.close();
        if timeout(self.config.drain(), self.connections.wait()).await.is_ok() {
            return Drained::Clean;
        }
        let connections = self.connections.len();
        self.closing.cut.cancel();
        self.connections.wait().await;
        Drained::Cut { connections }
    }
}

/// One connection's task.
async fn attend<I: Socket, S: GrpcService>(
    socket: I,
    calls: Calls<S>,
    config: Arc<GrpcConfig>,
    closing: Closing,
    _place: OwnedSemaphorePermit,
) {
    let _open = OpenConnection::count();
    if let Err(error) = socket.prepare() {
        tracing::debug!(%error, "a gRPC connection could not be set up");
        return;
    }
    let preface = timeout(Duration::from_secs(config.preface_s), socket.preface());
    let speaks_http2 = tokio::select! {
        () = closing.drain.cancelled() => false,
        preface = preface => matches!(preface, Ok(Ok(()))),
    };
    if speaks_http2 {
        serve_connection(socket, calls, &config, closing).await;
    }
}

/// Counts a connection in the gauge as long as it lives.
struct OpenConnection(metrics::Gauge);

impl OpenConnection {
    fn count() -> Self {
        let gauge = metrics::gauge!("tollgate_grpc_connections");
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Errors of `accept` that concern the connection that was about to come, and no other.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// A TCP or a Unix connection.
trait Socket: AsyncRead + AsyncWrite + AsFd + Unpin + Send + Sync + 'static {
    /// Sets the options that every connection has.
    fn prepare(&self) -> io::Result<()>;

    /// Runs `attempt` whenever there is something to read, until it does not answer `WouldBlock`.
    fn when_readable(
        &self,
        attempt: impl FnMut() -> io::Result<()> + Send,
    ) -> impl Future<Output = io::Result<()>> + Send;

    /// Waits until the client has sent HTTP/2's preface, without taking it. Before that, hyper's
    /// keep-alive does not run, and a client that says nothing would stay for ever.
    fn preface(&self) -> impl Future<Output = io::Result<()>> + Send {
        self.when_readable(move || {
            let mut seen = [0; HTTP2_PREFACE.len()];
            let (read, _) = rustix::net::recv(self, &mut seen, RecvFlags::PEEK)?;
            if read == 0 || !HTTP2_PREFACE.starts_with(&seen[..read]) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not HTTP/2"));
            }
            if read < HTTP2_PREFACE.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        })
    }
}

impl Socket for TcpStream {
    fn prepare(&self) -> io::Result<()> {
        // Answers are small and leave in one write: waiting for more would only delay them.
        self.set_nodelay(true)
    }

    async fn when_readable(
        &self,
        attempt: impl FnMut() -> io::Result<()> + Send,
    ) -> io::Result<()> {
        self.async_io(Interest::READABLE, attempt).await
    }
}

impl Socket for UnixStream {
    fn prepare(&self) -> io::Result<()> {
        Ok(())
    }

    async fn when_readable(
        &self,
        attempt: impl FnMut() -> io::Result<()> + Send,
    ) -> io::Result<()> {
        self.async_io(Interest::READABLE, attempt).await
    }
}
