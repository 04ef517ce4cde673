//! Settings of the HTTP face.

use std::{net::SocketAddr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::invalid::Invalid;

/// The least that `head_bytes_max` may be.
const HEAD_BYTES_MAX_MIN: usize = 8 << 10;

/// Where HTTP listens, and how much of it there may be at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Address to listen on. Loopback unless other machines are to call.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// Connections open at a time; one more waits to be accepted.
    pub connections_max: usize,
    /// Largest request body, bytes. A batch of 100,000 events of 670 bytes each fits in 64 MiB.
    pub body_bytes_max: usize,
    /// Memory for large bodies (above 64 KiB) in flight at a time, bytes; one that finds no room
    /// within a second is told to come again. At least `body_bytes_max`.
    pub bodies_bytes_max: usize,
    /// Largest head of a request (path and header fields), bytes; at least 8 KiB.
    pub head_bytes_max: usize,
    /// How long a client may take to send a request's head, or to shake hands, seconds.
    pub head_wait_s: u64,
    /// How long a request's body may take to arrive, seconds.
    pub body_wait_s: u64,
    /// How long requests in flight may take to finish at shutdown, seconds.
    pub drain_s: u64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 7422)))
    }
}

impl HttpConfig {
    /// The defaults, on another address.
    pub fn at(listen: SocketAddr) -> Self {
        Self {
            listen,
            connections_max: 1_024,
            body_bytes_max: 64 << 20,
            bodies_bytes_max: 256 << 20,
            head_bytes_max: 64 << 10,
            head_wait_s: 10,
            body_wait_s: 60,
            drain_s: 5,
        }
    }

    /// Checks the settings against their bounds.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.connections_max == 0 {
            return Err(Invalid::new("connections_max", "is 0", "let at least 1 connection in"));
        }
        for (field, seconds) in
            [("head_wait_s", self.head_wait_s), ("body_wait_s", self.body_wait_s)]
        {
            if seconds == 0 {
                return Err(Invalid::new(field, "is 0", "give at least 1 second"));
            }
        }
        if self.head_bytes_max < HEAD_BYTES_MAX_MIN {
            let problem = format!("is less than hyper can work with ({})", self.head_bytes_max);
            let remedy = format!("give at least {HEAD_BYTES_MAX_MIN}");
            return Err(Invalid::new("head_bytes_max", problem, remedy));
        }
        if self.body_bytes_max == 0 {
            return Err(Invalid::new(
                "body_bytes_max",
                "is 0",
                "give the bytes of a large request",
            ));
        }
        if self.bodies_bytes_max < self.body_bytes_max {
            return Err(Invalid::new(
                "bodies_bytes_max",
                format!("is less than one body may have ({})", self.bodies_bytes_max),
                format!("give at least body_bytes_max = {}", self.body_bytes_max),
            ));
        }
        Ok(())
    }

    pub(super) fn head_wait(&self) -> Duration {
        Duration::from_secs(self.head_wait_s)
    }

    pub(super) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_s)
    }
}
