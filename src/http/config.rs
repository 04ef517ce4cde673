//! Settings of the HTTP face.

use std::{net::SocketAddr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::invalid::Invalid;

/// Where HTTP listens, and how much of it there may be at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Address of /livez, /readyz and /metrics. Loopback unless other machines are to see them.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// Connections open at a time; one more waits to be accepted.
    pub connections_max: usize,
    /// How long a client may take to send a request's head, seconds.
    pub head_wait_s: u64,
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
        Self { listen, connections_max: 256, head_wait_s: 10, drain_s: 5 }
    }

    /// Checks the settings against their bounds.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.connections_max == 0 {
            return Err(Invalid::new("connections_max", "is 0", "let at least 1 connection in"));
        }
        if self.head_wait_s == 0 {
            return Err(Invalid::new("head_wait_s", "is 0", "give at least 1 second"));
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
