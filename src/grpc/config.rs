//! Settings of the gRPC face.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where gRPC listens, and how much of it there may be at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcConfig {
    /// TCP address to listen on; empty for none. Loopback unless other machines are to call.
    pub listen: Option<SocketAddr>,
    /// Path of a Unix socket to listen on; empty for none.
    pub socket: Option<PathBuf>,
    /// File permissions of the Unix socket: who may open it may call.
    pub socket_mode: u32,
    /// Connections open at a time; one more is closed at once.
    pub connections_max: usize,
    /// Calls in flight at a time on one connection; the client holds further ones back.
    pub calls_per_connection_max: u32,
    /// Largest request message, bytes. A batch of 100,000 events of 670 bytes each fits in 64 MiB.
    pub message_bytes_max: usize,
    /// Memory for large requests (above 64 KiB) in flight at a time, bytes; further ones wait.
    /// At least `message_bytes_max`.
    pub large_messages_bytes_max: usize,
    /// How long a client may take to begin HTTP/2, seconds.
    pub preface_s: u64,
    /// How often an open connection is asked whether it still lives, seconds.
    pub keepalive_interval_s: u64,
    /// How long that answer may take, seconds.
    pub keepalive_timeout_s: u64,
    /// How long calls in flight may take to finish at shutdown, seconds; then they are cut off.
    pub drain_s: u64,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 7421))),
            socket: None,
            socket_mode: 0o660,
            connections_max: 10_000,
            calls_per_connection_max: 1_024,
            message_bytes_max: 64 << 20,
            large_messages_bytes_max: 256 << 20,
            preface_s: 10,
            keepalive_interval_s: 30,
            keepalive_timeout_s: 10,
            drain_s: 10,
        }
    }
}

impl GrpcConfig {
    /// How long calls in flight may take to finish at shutdown.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_s)
    }
}
