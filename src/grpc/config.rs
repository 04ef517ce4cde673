//! Settings of the gRPC face.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::file_mode::FileMode;
use crate::domain::invalid::Invalid;

/// Smallest bound of a message, bytes: that of a single call with all its fields in use.
const MESSAGE_BYTES_MAX_MIN: usize = 64 << 10;
/// Largest bound of a message, bytes: gRPC writes lengths in 32 bits, and nobody wants the half.
const MESSAGE_BYTES_MAX_MAX: usize = 1 << 30;

/// Where gRPC listens, and how much of it there may be at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcConfig {
    /// TCP address to listen on; empty for none. Loopback unless other machines are to call.
    pub listen: Option<SocketAddr>,
    /// Path of a Unix socket to listen on; empty for none.
    pub socket: Option<PathBuf>,
    /// File permissions of the Unix socket, in octal as `chmod` has them (`0660`): who may open it
    /// may call.
    #[schemars(with = "String")]
    pub socket_mode: FileMode,
    /// Connections open at a time; one more is closed at once.
    pub connections_max: usize,
    /// Calls in flight at a time on one connection; the client holds further ones back.
    pub calls_per_connection_max: u32,
    /// Calls at a time, on all connections together, that wait for their answers; one more is
    /// refused at once as overload. Streams count until they begin to answer.
    pub calls_max: usize,
    /// Largest request message, bytes. A batch of 100,000 events of 670 bytes each fits in 64 MiB.
    pub message_bytes_max: usize,
    /// Memory for large requests (above 64 KiB) in flight at a time, bytes; further ones wait.
    /// At least `message_bytes_max`.
    pub large_messages_bytes_max: usize,
    /// Largest metadata of a call, bytes.
    pub head_bytes_max: u32,
    /// How long a client may take to begin HTTP/2, TLS included, seconds.
    pub preface_s: u64,
    /// How long a call's only message may take to arrive, seconds.
    pub message_wait_s: u64,
    /// How often it is looked whether anything was heard of a client, seconds; one that was silent is
    /// asked whether it is still there.
    pub keepalive_interval_s: u64,
    /// How long it may be silent then, seconds.
    pub keepalive_timeout_s: u64,
    /// How long calls in flight may take to finish at shutdown, seconds; then they are cut off.
    pub drain_s: u64,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 7421))),
            socket: None,
            socket_mode: FileMode(0o660),
            connections_max: 10_000,
            calls_per_connection_max: 1_024,
            calls_max: 10_000,
            message_bytes_max: 64 << 20,
            large_messages_bytes_max: 256 << 20,
            head_bytes_max: 16 << 10,
            preface_s: 10,
            message_wait_s: 60,
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

    /// Checks the settings against their bounds.
    pub fn check(&self) -> Result<(), Invalid> {
        let at_least_one = [
            ("connections_max", self.connections_max as u64),
            ("calls_per_connection_max", u64::from(self.calls_per_connection_max)),
            ("calls_max", self.calls_max as u64),
            ("head_bytes_max", u64::from(self.head_bytes_max)),
            ("preface_s", self.preface_s),
            ("message_wait_s", self.message_wait_s),
            ("keepalive_interval_s", self.keepalive_interval_s),
            ("keepalive_timeout_s", self.keepalive_timeout_s),
        ];
        if let Some((field, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return Err(Invalid::new(*field, "is 0", "give at least 1"));
        }
        if !(MESSAGE_BYTES_MAX_MIN..=MESSAGE_BYTES_MAX_MAX).contains(&self.message_bytes_max) {
            return Err(Invalid::new(
                "message_bytes_max",
                format!("is out of range ({})", self.message_bytes_max),
                format!("use {MESSAGE_BYTES_MAX_MIN} to {MESSAGE_BYTES_MAX_MAX} bytes"),
            ));
        }
        if self.large_messages_bytes_max < self.message_bytes_max {
            return Err(Invalid::new(
                "large_messages_bytes_max",
                format!("is less than one message may have ({})", self.large_messages_bytes_max),
                format!("give at least message_bytes_max = {}", self.message_bytes_max),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_bounds() {
        assert_eq!(GrpcConfig::default().check(), Ok(()));
    }

    #[test]
    fn what_could_never_serve_is_refused_by_its_name() {
        let bad = |config: GrpcConfig| config.check().unwrap_err().field;
        let fine = GrpcConfig::default;
        assert_eq!(bad(GrpcConfig { connections_max: 0, ..fine() }), "connections_max");
        assert_eq!(bad(GrpcConfig { message_bytes_max: 1, ..fine() }), "message_bytes_max");
        let small = GrpcConfig { large_messages_bytes_max: 1 << 20, ..fine() };
        assert_eq!(bad(small), "large_messages_bytes_max");
    }
}
