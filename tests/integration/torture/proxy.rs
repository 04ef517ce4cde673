//! A way between two processes that can be made bad: it delays, swallows, resets or refuses.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::net::sockopt::set_socket_linger;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::JoinHandle,
};

/// How much is read at a time.
const CHUNK_BYTES: usize = 16 << 10;

/// What a way does with what is sent over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Hands it on.
    Pass,
    /// Hands each piece on after a while.
    Delay(Duration),
    /// Swallows everything in both directions; connections stand, new ones are taken.
    Drop,
    /// Hands on what is asked and swallows what is answered.
    DropAnswers,
    /// Breaks all connections off, and every new one.
    Reset,
    /// Leaves what stands alone and takes no new connections.
    Refuse,
}

impl Mode {
    fn swallows(self, direction: Direction) -> bool {
        match self {
            Self::Drop => true,
            Self::DropAnswers => direction == Direction::Answer,
            Self::Pass | Self::Delay(_) | Self::Reset | Self::Refuse => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Question,
    Answer,
}

/// A TCP port that leads to a Unix socket. It ends when it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A way to `target`, which need not be there yet.
    pub async fn to(target: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = watch::Sender::new(Mode::Pass);
        let accepting = tokio::spawn(accept(listener, target.to_owned(), mode.clone()));
        Self { address, mode, accepting }
    }

    /// Behaves like that from now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.mode.send_replace(Mode::Reset);
    }
}

async fn accept(listener: TcpListener, target: PathBuf, mode: watch::Sender<Mode>) {
    loop {
        let Ok((caller, _)) = listener.accept().await else { continue };
        let now = *mode.borrow();
        if matches!(now, Mode::Reset | Mode::Refuse) {
            reset(caller);
            continue;
        }
        let (target, mode) = (target.clone(), mode.subscribe());
        tokio::spawn(async move {
            match UnixStream::connect(&target).await {
                Ok(called) => carry(caller, called, mode).await,
                // Nobody is there: as if the port were closed.
                Err(_) => reset(caller),
            }
        });
    }
}

/// Breaks a connection off so that its peer sees a reset and not an orderly end.
fn reset(stream: TcpStream) {
    // A peer that is gone already needs no telling.
    let _ = set_socket_linger(&stream, Some(Duration::ZERO));
}

/// Carries one connection until either end closes it or the way breaks it.
async fn carry(mut caller: TcpStream, mut called: UnixStream, mode: watch::Receiver<Mode>) {
    let is_in_order = {
        let (from_caller, to_caller) = caller.split();
        let (from_called, to_called) = called.split();
        tokio::select! {
            ended = pump(from_caller, to_called, mode.clone(), Direction::Question) => ended,
            ended = pump(from_called, to_caller, mode.clone(), Direction::Answer) => ended,
            () = until_broken(mode) => false,
        }
    };
    if !is_in_order {
        reset(caller);
    }
}

/// Until the way breaks connections off.
async fn until_broken(mut mode: watch::Receiver<Mode>) {
    // Without a sender the way itself is gone.
    let _ = mode.wait_for(|mode| *mode == Mode::Reset).await;
}

/// Carries one direction; answers whether it ended in order. A stream of which a piece was swallowed
/// cannot go on once the way is good again: the pieces behind it would be read in its place.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mode: watch::Receiver<Mode>,
    direction: Direction,
) -> bool {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let Ok(length) = from.read(&mut chunk).await else { return false };
        if length == 0 {
            return true;
        }
        let now = *mode.borrow_and_update();
        if now.swallows(direction) {
            let swallows = |mode: &Mode| mode.swallows(direction);
            let mut nowhere = tokio::io::sink();
            tokio::select! {
                _ = mode.wait_for(|mode| !swallows(mode)) => {}
                _ = tokio::io::copy(&mut from, &mut nowhere) => {}
            }
            return false;
        }
        if let Mode::Delay(delay) = now {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&chunk[..length]).await.is_err() {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    /// A server that gives back what it is sent, and the way to it.
    async fn echo(folder: &Path) -> Proxy {
        let socket = folder.join("echo.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        Proxy::to(&socket).await
    }

    async fn ask(stream: &mut TcpStream) -> std::io::Result<[u8; 4]> {
        stream.write_all(b"ping").await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    async fn waits(stream: &mut TcpStream) -> bool {
        tokio::time::timeout(Duration::from_millis(200), ask(stream)).await.is_err()
    }

    #[tokio::test]
    async fn a_way_passes_delays_swallows_resets_and_refuses() {
        let folder = tempfile::tempdir().unwrap();
        let proxy = echo(folder.path()).await;
        let mut stands = TcpStream::connect(proxy.address).await.unwrap();
        assert_eq!(&ask(&mut stands).await.unwrap(), b"ping");

        proxy.set(Mode::Delay(Duration::from_millis(100)));
        let started = std::time::Instant::now();
        ask(&mut stands).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(200), "both ways");

        proxy.set(Mode::Refuse);
        ask(&mut stands).await.unwrap();
        let mut late = TcpStream::connect(proxy.address).await.unwrap();
        assert!(ask(&mut late).await.is_err());

        for swallowing in [Mode::Drop, Mode::DropAnswers] {
            proxy.set(swallowing);
            let mut asks = TcpStream::connect(proxy.address).await.unwrap();
            assert!(waits(&mut asks).await, "{swallowing:?}");
            proxy.set(Mode::Pass);
            assert!(ask(&mut asks).await.is_err(), "a piece of it is missing");
        }
        assert_eq!(&ask(&mut stands).await.unwrap(), b"ping");

        proxy.set(Mode::Reset);
        assert!(ask(&mut stands).await.is_err());
        let mut late = TcpStream::connect(proxy.address).await.unwrap();
        assert!(ask(&mut late).await.is_err());
    }

    #[tokio::test]
    async fn a_way_to_nobody_is_refused_and_found_once_somebody_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let proxy = Proxy::to(&folder.path().join("nobody.sock")).await;
        let mut early = TcpStream::connect(proxy.address).await.unwrap();
        assert!(ask(&mut early).await.is_err());
    }
}
