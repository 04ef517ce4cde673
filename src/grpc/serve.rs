//! Accepts connections, bounds their number, and drains them at the end.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    call::{Calls, GrpcService},
    config::GrpcConfig,
    connection::{Closing, serve_connection},
    listen::{Listeners, UnixSocket},
    preface::Prefaced,
    seldom::Seldom,
};
use crate::api::{
    accept::is_of_one_connection,
    tls::{Spoken, Tls},
};

/// How long accepting pauses when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
    /// What TCP connections are secured with; `None` = plain text.
    pub tls: Option<Arc<Tls>>,
}

/// Serves until `shutdown`: then accepts nothing more, tells clients to go (GOAWAY), and waits for
/// the calls in flight as long as the configuration says.
pub async fn serve<S: GrpcService>(
    listeners: Listeners,
    services: Services<S>,
    config: GrpcConfig,
    shutdown: CancellationToken,
) -> Drained {
    let tls = services.tls.as_deref();
    let over_tcp = Calls::new(services.over_tcp, &config);
    let over_unix = over_tcp.with(services.over_unix);
    let door = Door {
        room: Arc::new(Semaphore::new(config.connections_max.min(Semaphore::MAX_PERMITS))),
        closing: Closing { drain: shutdown.clone(), cut: CancellationToken::new() },
        connections: TaskTracker::new(),
        config: Arc::new(config),
        refused: Seldom::default(),
    };
    let Listeners { tcp, unix } = listeners;
    tokio::join!(
        async {
            if let Some(listener) = tcp {
                door.accept(&over_tcp, tls, || async { Ok(listener.accept().await?.0) }).await;
            }
        },
        async {
            if let Some(UnixSocket { listener, .. }) = &unix {
                door.accept(&over_unix, None, || async { Ok(listener.accept().await?.0) }).await;
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
    /// Connections beyond the bound.
    refused: Seldom,
}

impl Door {
    /// Takes connections from one socket until the shutdown.
    async fn accept<S, I, F>(&self, calls: &Calls<S>, tls: Option<&Tls>, next: impl Fn() -> F)
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
                Ok(socket) => {
                    // As it is in force now.
                    let tls = tls.map(|tls| tls.acceptor(Spoken::Http2));
                    self.admit(calls, tls, socket);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept gRPC connections; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit<S: GrpcService, I: Socket>(
        &self,
        calls: &Calls<S>,
        tls: Option<TlsAcceptor>,
        socket: I,
    ) {
        let Ok(place) = self.room.clone().try_acquire_owned() else {
            // Closed at once: a client that is told tries elsewhere, one that waits hangs.
            metrics::counter!("tollgate_grpc_connections_refused_total").increment(1);
            if let Some(connections) = self.refused.due(Instant::now()) {
                tracing::warn!(
                    connections,
                    connections_max = self.config.connections_max,
                    "gRPC connections were refused: too many are open"
                );
            }
            return;
        };
        let calls = calls.apart();
        let (config, closing) = (self.config.clone(), self.closing.clone());
        let connection = attend(socket, tls, calls, config, closing, place);
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
    tls: Option<TlsAcceptor>,
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
    let preface_max = Duration::from_secs(config.preface_s);
    let Some(tls) = tls else {
        if let Some(begun) = in_time(preface_max, &closing, Prefaced::read(socket)).await {
            serve_connection(begun, calls, &config, closing).await;
        }
        return;
    };
    let secured = async { Prefaced::read(tls.accept(socket).await?).await };
    if let Some(secured) = in_time(preface_max, &closing, secured).await {
        serve_connection(secured, calls, &config, closing).await;
    }
}

/// What a connection begins with, unless it fails, takes too long, or the sidecar stops.
async fn in_time<T>(
    wait_max: Duration,
    closing: &Closing,
    beginning: impl Future<Output = io::Result<T>>,
) -> Option<T> {
    tokio::select! {
        () = closing.drain.cancelled() => None,
        begun = timeout(wait_max, beginning) => match begun {
            Ok(Ok(begun)) => Some(begun),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a gRPC connection was not begun");
                None
            }
            Err(_) => None,
        },
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

/// A TCP or a Unix connection.
trait Socket: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static {
    /// Sets the options that every connection has.
    fn prepare(&self) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn prepare(&self) -> io::Result<()> {
        // Answers are small and leave in one write: waiting for more would only delay them.
        self.set_nodelay(true)
    }
}

impl Socket for UnixStream {
    fn prepare(&self) -> io::Result<()> {
        Ok(())
    }
}
