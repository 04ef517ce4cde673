//! How to reach Redis, and how long to wait for it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::invalid::Invalid;

/// Settings of the connections to Redis.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// `redis://user:password@host:port/db` or `redis+unix:///socket?db=0`.
    pub url: String,
    /// Connections that calls are spread over; each carries many calls at once.
    pub connections: usize,
    /// Longest that opening and checking a connection may take, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Longest wait for one answer, in milliseconds.
    pub call_timeout_ms: u64,
    /// Calls that may wait for answers on one connection; more are refused at once.
    pub calls_in_flight_max: usize,
    /// Timeouts in a row after which a connection is given up.
    pub timeouts_max: u32,
    /// Longest pause between attempts to connect, in milliseconds.
    pub reconnect_pause_ms_max: u64,
    /// How often an idle connection is looked after, in milliseconds: it finds out that Redis is
    /// gone or was emptied.
    pub heartbeat_ms: u64,
}

/// Without the URL, in which a password may stand.
impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig").finish_non_exhaustive()
    }
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            connections: 2,
            connect_timeout_ms: 1_000,
            call_timeout_ms: 250,
            calls_in_flight_max: 4_096,
            timeouts_max: 3,
            reconnect_pause_ms_max: 500,
            heartbeat_ms: 500,
        }
    }
}

impl RedisConfig {
    /// The defaults, for the server at `url`.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// Checks what can be checked without connecting.
    pub fn check(&self) -> Result<(), Invalid> {
        if let Err(error) = redis::Client::open(self.url.as_str()) {
            return Err(Invalid::new(
                "redis.url",
                format!("cannot be read ({error})"),
                "give the server as redis://host:port or redis+unix:///path/of/socket",
            ));
        }
        let positive = [
            ("redis.connect_timeout_ms", self.connect_timeout_ms),
            ("redis.call_timeout_ms", self.call_timeout_ms),
            ("redis.calls_in_flight_max", self.calls_in_flight_max as u64),
            ("redis.timeouts_max", u64::from(self.timeouts_max)),
            ("redis.reconnect_pause_ms_max", self.reconnect_pause_ms_max),
            ("redis.heartbeat_ms", self.heartbeat_ms),
        ];
        if let Some((field, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(Invalid::new(field, "is 0", "give 1 or more"));
        }
        if !(1..=64).contains(&self.connections) {
            return Err(Invalid::new(
                "redis.connections",
                format!("is out of range ({})", self.connections),
                "use 1 to 64",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_setting_is_named_with_its_remedy() {
        let refused = |change: fn(&mut RedisConfig)| {
            let mut config = RedisConfig::at("redis://localhost");
            change(&mut config);
            config.check().unwrap_err().field
        };
        assert_eq!(refused(|config| config.url = "http://localhost".into()), "redis.url");
        assert_eq!(refused(|config| config.connections = 0), "redis.connections");
        assert_eq!(refused(|config| config.call_timeout_ms = 0), "redis.call_timeout_ms");
        assert_eq!(RedisConfig::at("redis+unix:///tmp/socket").check(), Ok(()));
    }
}
