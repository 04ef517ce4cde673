//! How to reach Postgres, and how long to wait for it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::invalid::Invalid;

/// What a URL of Postgres begins with; sqlx itself takes any scheme for it.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// Settings of the ledger's connections.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LedgerConfig {
    /// `postgres://user:password@host:port/database`; parameters as libpq has them
    /// (`?host=/socket/dir`, `?sslmode=require`).
    pub url: String,
    /// Most connections that this process opens.
    pub connections_max: u32,
    /// Longest wait for a connection, in milliseconds.
    pub acquire_timeout_ms: u64,
    /// Longest that one statement may run, in milliseconds.
    pub statement_timeout_ms: u64,
    /// Longest wait for a lock, in milliseconds.
    pub lock_timeout_ms: u64,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            connections_max: 8,
            acquire_timeout_ms: 5_000,
            statement_timeout_ms: 60_000,
            lock_timeout_ms: 10_000,
        }
    }
}

impl LedgerConfig {
    /// The defaults, for the database at `url`.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// Checks what can be checked without connecting.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.url.is_empty() {
            return Err(Invalid::new(
                "ledger.url",
                "is empty",
                "give the database as postgres://user@host/database",
            ));
        }
        if !SCHEMES.iter().any(|scheme| self.url.starts_with(scheme)) {
            return Err(Invalid::new(
                "ledger.url",
                "is not the URL of a Postgres",
                "give the database as postgres://user@host/database",
            ));
        }
        if let Err(error) = self.url.parse::<sqlx::postgres::PgConnectOptions>() {
            return Err(Invalid::new(
                "ledger.url",
                format!("cannot be read ({error})"),
                "give the database as postgres://user@host/database",
            ));
        }
        if self.connections_max < 2 {
            return Err(Invalid::new(
                "ledger.connections_max",
                format!("is {}", self.connections_max),
                "give at least 2: one listens for changes",
            ));
        }
        for (name, millis) in [
            ("acquire_timeout_ms", self.acquire_timeout_ms),
            ("statement_timeout_ms", self.statement_timeout_ms),
            ("lock_timeout_ms", self.lock_timeout_ms),
        ] {
            if millis == 0 {
                return Err(Invalid::new(
                    format!("ledger.{name}"),
                    "is 0",
                    "give at least 1 millisecond",
                ));
            }
        }
        Ok(())
    }

    pub(super) fn acquire_timeout(&self) -> Duration {
        Duration::from_millis(self.acquire_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_is_no_postgres_url_is_refused_with_the_shape_it_should_have() {
        for url in ["not a url", "mysql://me@localhost/tollgate", "localhost/tollgate"] {
            let error = LedgerConfig::at(url).check().unwrap_err();
            assert_eq!(error.field, "ledger.url");
            assert!(error.remedy.contains("postgres://"), "{error}");
        }
        assert!(LedgerConfig::at("postgres://me@localhost/tollgate").check().is_ok());
    }
}
