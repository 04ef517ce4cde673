//! Accepts connections, bounds their number, and drains them at the end.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::config::HttpConfig;
use crate::api::{
    accept::is_of_one_connection,
    tls::{Spoken, Tls},
};

/// How long accepting pauses when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` on `listener` until `stop`; then lets the requests in flight finish as long as
/// the configuration says.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    config: &HttpConfig,
    tls: Option<Arc<Tls>>,
    stop: CancellationToken,
) -> io::Result<()> {
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(config.connections_max.min(Semaphore::MAX_PERMITS)));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept HTTP connections; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // As it is in force now.
        let tls = tls.as_ref().map(|tls| tls.acceptor(Spoken::Http1));
        let (router, bounds, stop) = (router.clone(), Bounds::of(config), stop.clone());
        connections.spawn(async move {
            match tls {
                None => attend(stream, router, bounds, stop).await,
                Some(tls) => secure(stream, &tls, router, bounds, stop).await,
            }
            drop(place);
        });
    }
    connections.close();
    if tokio::time::timeout(config.drain(), connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "HTTP connections were cut off");
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = room.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _peer) = listener.accept().await?;
    // It fails for a client that has gone again, which serving finds out by itself.
    let _ = stream.set_nodelay(true);
    Ok((stream, place))
}

/// What bounds one connection.
#[derive(Clone, Copy)]
struct Bounds {
    head_wait: Duration,
    head_bytes_max: usize,
}

impl Bounds {
    fn of(config: &HttpConfig) -> Self {
        Self { head_wait: config.head_wait(), head_bytes_max: config.head_bytes_max }
    }
}

async fn secure(
    stream: TcpStream,
    tls: &TlsAcceptor,
    router: Router,
    bounds: Bounds,
    stop: CancellationToken,
) {
    let shaken = tokio::select! {
        () = stop.cancelled() => return,
        shaken = tokio::time::timeout(bounds.head_wait, tls.accept(stream)) => shaken,
    };
    match shaken {
        Ok(Ok(stream)) => attend(stream, router, bounds, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "an HTTP connection was not begun"),
        Err(_) => {}
    }
}

async fn attend<I>(stream: I, router: Router, bounds: Bounds, stop: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(bounds.head_wait)
            .max_buf_size(bounds.head_bytes_max)
            .serve_connection(TokioIo::new(stream), service)
    );
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // A client that goes away or is too slow is nobody's trouble but its own.
        tracing::debug!(%error, "an HTTP connection ended");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn answer_on(stream: &mut TcpStream) -> String {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n").await.unwrap();
        let mut buffer = [0; 1024];
        let length = stream.read(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[tokio::test]
    async fn an_idle_connection_does_not_hold_up_the_stop() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/livez", get(async || "ok"));
        let config = HttpConfig { drain_s: 60, ..HttpConfig::at(address) };
        let stop = CancellationToken::new();
        let server = tokio::spawn({
            let stop = stop.clone();
            async move { serve(listener, router, &config, None, stop).await }
        });
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(answer_on(&mut stream).await.starts_with("HTTP/1.1 200 OK"));
        stop.cancel();
        let stopped = tokio::time::timeout(Duration::from_secs(30), server).await;
        assert!(stopped.unwrap().unwrap().is_ok());
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "closed");
    }

    #[tokio::test]
    async fn a_head_beyond_the_bound_and_a_client_that_says_nothing_are_turned_away() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/livez", get(async || "ok"));
        let config =
            HttpConfig { head_bytes_max: 16 << 10, head_wait_s: 1, ..HttpConfig::at(address) };
        let stop = CancellationToken::new();
        tokio::spawn({
            let stop = stop.clone();
            async move { serve(listener, router, &config, None, stop).await }
        });
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut wordy = TcpStream::connect(address).await.unwrap();
        let head =
            format!("GET /livez HTTP/1.1\r\nHost: here\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
        // It may be cut off before all is said.
        let _ = wordy.write_all(head.as_bytes()).await;
        let mut buffer = [0; 32];
        match wordy.read(&mut buffer).await {
            Ok(length) => assert!(buffer[..length].starts_with(b"HTTP/1.1 431"), "{buffer:?}"),
            Err(reset) => assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset),
        }
        let closed = tokio::time::timeout(Duration::from_secs(30), silent.read(&mut buffer)).await;
        assert_eq!(closed.expect("it stays").unwrap(), 0);
        stop.cancel();
    }

    #[tokio::test]
    async fn a_connection_beyond_the_bound_waits_for_a_place() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/livez", get(async || "ok"));
        let config = HttpConfig { connections_max: 1, ..HttpConfig::at(address) };
        let stop = CancellationToken::new();
        tokio::spawn({
            let stop = stop.clone();
            async move { serve(listener, router, &config, None, stop).await }
        });
        let mut first = TcpStream::connect(address).await.unwrap();
        assert!(answer_on(&mut first).await.ends_with("ok"));
        let mut second = TcpStream::connect(address).await.unwrap();
        let waiting = tokio::time::timeout(Duration::from_millis(50), answer_on(&mut second));
        assert!(waiting.await.is_err(), "no place yet");
        drop(first);
        let mut buffer = [0; 1024];
        assert!(second.read(&mut buffer).await.unwrap() > 0, "answered once there is a place");
        stop.cancel();
    }
}
