//! The sockets that gRPC is served on.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::config::GrpcConfig;

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot listen on {address}: {error}; set grpc.listen to a free address")]
    Tcp { address: SocketAddr, error: io::Error },
    #[error("cannot listen on the Unix socket {}: {error}; check grpc.socket", path.display())]
    Unix { path: PathBuf, error: io::Error },
    #[error("the Unix socket {} belongs to another running process", path.display())]
    UnixTaken { path: PathBuf },
    #[error("{} exists and is not a socket; remove it or change grpc.socket", path.display())]
    NotASocket { path: PathBuf },
    #[error("nothing to listen on; set grpc.listen or grpc.socket")]
    Nothing,
}

/// The open sockets; nothing is accepted yet.
#[derive(Debug)]
pub struct Listeners {
    pub(super) tcp: Option<TcpListener>,
    pub(super) unix: Option<UnixSocket>,
}

impl Listeners {
    /// Opens the sockets that the configuration names.
    pub async fn open(config: &GrpcConfig) -> Result<Self, ListenError> {
        let tcp = match config.listen {
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .map_err(|error| ListenError::Tcp { address, error })?,
            ),
            None => None,
        };
        let unix = match &config.socket {
            Some(path) => Some(UnixSocket::open(path, config.socket_mode.0).await?),
            None => None,
        };
        if tcp.is_none() && unix.is_none() {
            return Err(ListenError::Nothing);
        }
        Ok(Self { tcp, unix })
    }

    /// The TCP address, with the port that port 0 became.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok())
    }

    /// The path of the Unix socket.
    pub fn unix_path(&self) -> Option<&Path> {
        self.unix.as_ref().map(|unix| unix.path.as_path())
    }
}

/// A listening Unix socket, whose file goes when it is dropped.
#[derive(Debug)]
pub(super) struct UnixSocket {
    pub(super) listener: UnixListener,
    path: PathBuf,
}

impl UnixSocket {
    async fn open(path: &Path, mode: u32) -> Result<Self, ListenError> {
        let failed = |error| ListenError::Unix { path: path.to_owned(), error };
        clear_stale(path).await?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        let socket = Self { listener, path: path.to_owned() };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
        Ok(socket)
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // Whoever comes next clears it away, should it stay.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the socket that a killed process left behind, and nothing else.
async fn clear_stale(path: &Path) -> Result<(), ListenError> {
    let path = path.to_owned();
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ListenError::Unix { path, error }),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ListenError::NotASocket { path });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(&path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(&path).map_err(|error| ListenError::Unix { path, error })
        }
        _ => Err(ListenError::UnixTaken { path }),
    }
}
