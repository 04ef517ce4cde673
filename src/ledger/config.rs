//! How to reach Postgres, and how long to wait for it.

use std::{fmt, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;

use crate::domain::invalid::Invalid;

/// What a URL of Postgres begins with; sqlx itself takes any scheme for it.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// Settings of the ledger's connections.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LedgerConfig {
    /// `postgres://user:password@host:port/database`; parameters as libpq has them
    /// (`?host=/socket/dir`). The connection is not encrypted.
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

/// Without the URL, in which a password may stand.
impl fmt::Debug for LedgerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LedgerConfig").finish_non_exhaustive()
    }
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
        self.options()?;
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

    /// What the URL says. The driver's own words about one that cannot be read are left out: they
    /// quote from it, and a password that is not encoded may stand anywhere.
    pub(super) fn options(&self) -> Result<PgConnectOptions, Invalid> {
        self.url.parse().map_err(|_| {
            Invalid::new(
                "ledger.url",
                "cannot be read",
                "give the database as postgres://user:password@host:port/database, with %40 for an @ \
                 in the password and the like for : / ? # %",
            )
        })
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
        let error = LedgerConfig::at("postgres://localhost/x?sslmode=s3cr").check().unwrap_err();
        assert!(!error.to_string().contains("s3cr"), "{error}");
    }
}
