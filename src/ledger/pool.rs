//! The connections to Postgres.

use std::{fmt, sync::Arc, time::Duration};

use sqlx::{
    Connection, PgConnection, PgPool,
    migrate::{Migrate, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{
    config::LedgerConfig,
    error::{LedgerError, SchemaError, Unreachable, is_of_the_moment},
    partition::KnownPartitions,
    service_role::{RoleError, SERVICE_ROLE},
};
use crate::domain::invalid::Invalid;

/// Where sqlx keeps which migrations were applied.
const MIGRATIONS_TABLE: &str = "_sqlx_migrations";
/// The migration that made the role, and let it see which were applied.
const SERVICE_MIGRATION: i64 = 18;

fn migrations() -> Migrator {
    let mut migrations = sqlx::migrate!("./migrations");
    // Applied ones that this binary does not know are a newer binary's.
    migrations.set_ignore_missing(true);
    migrations
}

/// Postgres, as the rest of the house sees it. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    /// Connections in the role [`SERVICE_ROLE`].
    pub(super) pool: PgPool,
    /// How to connect as whom the URL names.
    login: Arc<PgConnectOptions>,
    pub(super) partitions: KnownPartitions,
}

/// Where it is; what logs in there is not shown.
impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ledger").field(&place(&self.login)).finish()
    }
}

impl Ledger {
    /// Prepares connections without opening any, so that a process can start while Postgres is
    /// away. Fails only on a setting that cannot be used.
    pub fn new(config: &LedgerConfig) -> Result<Self, Invalid> {
        config.check()?;
        let options = config.options()?.application_name("tollgate").options([
            // What is committed is deleted from the journal.
            ("synchronous_commit", "on".to_owned()),
            ("statement_timeout", format!("{}ms", config.statement_timeout_ms)),
            ("lock_timeout", format!("{}ms", config.lock_timeout_ms)),
            // A process that dies without closing its socket must not hold locks for hours.
            ("idle_in_transaction_session_timeout", "60s".to_owned()),
            ("tcp_keepalives_idle", "30".to_owned()),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(config.connections_max)
            .acquire_timeout(config.acquire_timeout())
            .idle_timeout(Duration::from_secs(300))
            // With the connection itself, at no further cost. It holds for as long as that lives: RESET
            // ROLE, too, comes back to it.
            .connect_lazy_with(options.clone().options([("role", SERVICE_ROLE)]));
        Ok(Self { pool, login: Arc::new(options), partitions: KnownPartitions::default() })
    }

    /// Brings the schema up to this binary's version. Safe to call by several at once, and harmless
    /// on a schema that a newer binary has migrated. As whom the URL names, who has to own the tables.
    pub async fn migrate(&self) -> Result<(), LedgerError> {
        let connecting = PgConnection::connect_with(&self.login);
        let connected = tokio::time::timeout(self.pool.options().get_acquire_timeout(), connecting);
        let mut connection = connected.await.map_err(|_| sqlx::Error::PoolTimedOut)??;
        migrations().run(&mut connection).await?;
        Ok(connection.close().await?)
    }

    /// Fails unless every migration that this binary knows has been applied unchanged, and unless
    /// connections are in the role [`SERVICE_ROLE`]. A schema that is newer than the binary is fine,
    /// since migrations only expand.
    pub async fn check_schema(&self) -> Result<(), LedgerError> {
        let mut connection = self.pool.acquire().await?;
        let row = sqlx::query!(r#"SELECT current_user::text AS "user!""#)
            .fetch_one(&mut *connection)
            .await?;
        if row.user != SERVICE_ROLE {
            return Err(SchemaError::ActsAs(row.user).into());
        }
        let applied = match connection.list_applied_migrations(MIGRATIONS_TABLE).await {
            // undefined_table: nobody has ever migrated this database.
            Err(error) if LedgerError::is_undefined_table(&error) => Vec::new(),
            // Roles are the server's: another database's migration may have made this one.
            Err(error) if LedgerError::is_forbidden(&error) => {
                return Err(SchemaError::Behind(SERVICE_MIGRATION).into());
            }
            applied => applied?,
        };
        for wanted in migrations().iter() {
            match applied.iter().find(|applied| applied.version == wanted.version) {
                None => return Err(SchemaError::Behind(wanted.version).into()),
                Some(applied) if applied.checksum != wanted.checksum => {
                    return Err(SchemaError::Differs(wanted.version).into());
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// One round trip, for readiness.
    pub async fn ping(&self) -> Result<(), LedgerError> {
        sqlx::query!("SELECT 1 AS one").fetch_one(self.query("ping")).await?;
        Ok(())
    }

    /// Opens a connection beside the others, within `wait`, and says why that cannot be done: the
    /// wait for a connection of the pool ends without a reason.
    pub async fn reach(&self, wait: Duration) -> Result<(), Unreachable> {
        reach(&self.pool.connect_options(), wait).await
    }

    /// As [`Self::reach`], as whom the URL names and in no role: there may be none yet.
    pub async fn reach_as_owner(&self, wait: Duration) -> Result<(), Unreachable> {
        reach(&self.login, wait).await
    }

    /// Closes all connections, waiting for those in use.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

async fn reach(options: &PgConnectOptions, wait: Duration) -> Result<(), Unreachable> {
    let place = place(options);
    let (is_refused, cause) =
        match tokio::time::timeout(wait, PgConnection::connect_with(options)).await {
            Ok(Ok(connection)) => {
                // The server notices its end in any case.
                let _ = tokio::time::timeout(wait, connection.close()).await;
                return Ok(());
            }
            Ok(Err(sqlx::Error::Io(error))) => (false, error.to_string()),
            Ok(Err(error)) => match RoleError::read(&error) {
                Some(role) => (true, role.to_string()),
                None => match error {
                    sqlx::Error::Database(error) => {
                        let code = error.code().unwrap_or_default();
                        (!is_of_the_moment(&code), error.message().to_owned())
                    }
                    error => (false, error.to_string()),
                },
            },
            Err(_) => (false, format!("no answer within {wait:?}")),
        };
    Err(match is_refused {
        true => Unreachable::Refused { place, cause },
        false => Unreachable::Away { place, cause },
    })
}

/// Where the server is and which database is meant, without a password.
fn place(options: &PgConnectOptions) -> String {
    let server = match options.get_socket() {
        Some(socket) => format!("{} (port {})", socket.display(), options.get_port()),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    // As libpq has it: the database of the user's name unless one is given.
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    format!("{server}, database {database}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_cannot_reach_postgres_is_told_where_it_was_looked_for_and_why() {
        let url = "postgres://me:secret@127.0.0.1:1/tollgate";
        let ledger = Ledger::new(&LedgerConfig::at(url)).unwrap();
        let told = ledger.reach(Duration::from_secs(10)).await.unwrap_err().to_string();
        assert!(told.contains("127.0.0.1:1, database tollgate"), "{told}");
        assert!(told.contains("Connection refused") && !told.contains("secret"), "{told}");
    }
}
