//! What can go wrong between here and Postgres.

use sqlx::{migrate::MigrateError, postgres::PgDatabaseError};

use super::service_role::RoleError;
use crate::domain::invalid::Invalid;

/// insufficient_privilege.
const FORBIDDEN: &str = "42501";

/// Why the ledger could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Postgres is out of reach, shutting down or overloaded: the same call may succeed later.
    #[error("the ledger cannot be reached: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// The transaction lost against others as often as it may be tried.
    #[error("transaction {name} lost against others {attempts} times: {source}")]
    Contended { name: &'static str, attempts: u32, source: sqlx::Error },
    /// What was asked cannot be done, whenever it is tried; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What was found out in one life of the shared counters does not hold in the next; nothing was
    /// changed.
    #[error("the shared counters of epoch {0} are not in force any more")]
    EpochOver(u64),
    /// What counters of one process were told does not reach those that others share.
    #[error("the counters in force are shared, and not those of one process")]
    SharedByNow,
    /// A sum that its column cannot hold.
    #[error("{column} {value} does not fit 64 bits")]
    TooLarge { column: &'static str, value: i128 },
    /// A row that nothing in this program can have written.
    #[error("{table}.{column} of {key} holds {value:?}, which it cannot: {problem}")]
    Corrupt {
        table: &'static str,
        column: &'static str,
        key: String,
        value: String,
        problem: String,
    },
    /// The schema is not the one that this binary was built for.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// Any other error of Postgres or its driver.
    #[error("the ledger failed: {0}")]
    Failed(#[source] sqlx::Error),
}

/// No connection to Postgres, for a cause that is known. The place is host, port and database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// It is not there, or has no connection to give now; another address or another time may help.
    #[error(
        "Postgres cannot be reached at {place}: {cause}; check ledger.url and that the server runs"
    )]
    Away { place: String, cause: String },
    /// It is there, and does not let in whom the URL names.
    #[error("Postgres at {place} refuses the connection: {cause}")]
    Refused { place: String, cause: String },
}

/// Why the schema does not fit this binary.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error("the ledger lacks migration {0}; run `tollgate migrate`")]
    Behind(i64),
    #[error(
        "migration {0} was applied to the ledger in another form than this version has; \
         run the version that applied it, or use a ledger of its own"
    )]
    Differs(i64),
    #[error("the ledger could not be migrated: {0}{hint}", hint = hint(.0))]
    Failed(#[source] MigrateError),
    #[error(transparent)]
    Role(#[from] RoleError),
    /// A right on a table or function that a migration grants is not there any more.
    #[error(
        "Postgres refuses it to tollgate_service: {0}; have the owner of the ledger's tables grant \
         again what migrations/0018_service_role.sql grants (docs/access.md, Postgres)"
    )]
    Forbidden(String),
    #[error(
        "connections to the ledger act as {0} and not as tollgate_service: something between here and \
         Postgres drops the parameters of connections; have it pass `options` on, or run: \
         ALTER ROLE {0} SET role = tollgate_service"
    )]
    ActsAs(String),
}

/// What a caller asked for that the ledger's present content does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no {what} {id:?}")]
    NotFound { what: &'static str, id: String },
    #[error("there is a {what} {id:?} already; call the new one something else")]
    Exists { what: &'static str, id: String },
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl LedgerError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Contended { .. })
    }

    pub(crate) fn not_found(what: &'static str, id: impl ToString) -> Self {
        Refusal::NotFound { what, id: id.to_string() }.into()
    }

    pub(super) fn exists(what: &'static str, id: impl ToString) -> Self {
        Refusal::Exists { what, id: id.to_string() }.into()
    }

    /// The SQLSTATE that Postgres gave, if it was Postgres that failed.
    pub(super) fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Failed(error) | Self::Unavailable(error) => sqlstate(error),
            _ => None,
        }
    }

    /// Whether what was to be written cannot be, for its content: a sum is too large, or Postgres
    /// refuses it (class 22: data; class 23: constraints).
    pub(super) fn is_about_content(&self) -> bool {
        matches!(self, Self::TooLarge { .. })
            || !self.is_missing_partition()
                && self.sqlstate().is_some_and(|it| it.starts_with("22") || it.starts_with("23"))
    }

    /// Whether a row found no partition: Postgres reports it as a failed check without a name.
    pub(super) fn is_missing_partition(&self) -> bool {
        match self {
            Self::Failed(sqlx::Error::Database(error)) => {
                error.code().as_deref() == Some("23514") && error.constraint().is_none()
            }
            _ => false,
        }
    }

    pub(super) fn is_undefined_table(error: &MigrateError) -> bool {
        matches!(error, MigrateError::Execute(error) if sqlstate(error).as_deref() == Some("42P01"))
    }

    pub(super) fn is_forbidden(error: &MigrateError) -> bool {
        matches!(error, MigrateError::Execute(error) if sqlstate(error).as_deref() == Some(FORBIDDEN))
    }

    /// Whether the transaction was sacrificed to another one, and may be tried again at once.
    pub(super) fn is_lost_race(&self) -> bool {
        // serialization_failure, deadlock_detected, lock_not_available.
        self.sqlstate().is_some_and(|code| matches!(code.as_str(), "40001" | "40P01" | "55P03"))
    }
}

impl From<MigrateError> for LedgerError {
    fn from(error: MigrateError) -> Self {
        match error {
            // Whoever migrates acts as the owner, and has its own remedy.
            MigrateError::Execute(error)
                if sqlstate(&error).as_deref() == Some(FORBIDDEN)
                    && RoleError::read(&error).is_none() =>
            {
                SchemaError::Failed(error.into()).into()
            }
            MigrateError::Execute(error) => match Self::from(error) {
                Self::Failed(error) => SchemaError::Failed(error.into()).into(),
                passing => passing,
            },
            MigrateError::VersionMismatch(version) => SchemaError::Differs(version).into(),
            other => SchemaError::Failed(other).into(),
        }
    }
}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        if let Some(role) = RoleError::read(&error) {
            return SchemaError::Role(role).into();
        }
        if sqlstate(&error).as_deref() == Some(FORBIDDEN) {
            let told = error.as_database_error().map_or_else(String::new, |it| it.message().into());
            return SchemaError::Forbidden(told).into();
        }
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            sqlx::Error::Database(_)
                if sqlstate(&error).is_some_and(|it| is_of_the_moment(&it)) =>
            {
                Self::Unavailable(error)
            }
            _ => Self::Failed(error),
        }
    }
}

/// Class 08: connection, 53: resources, 57P: shutting down or starting up.
pub(super) fn is_of_the_moment(sqlstate: &str) -> bool {
    ["08", "53", "57P"].iter().any(|class| sqlstate.starts_with(class))
}

/// What Postgres says is to be done.
fn hint(error: &MigrateError) -> String {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return String::new();
    };
    let Some(error) = error.as_database_error() else { return String::new() };
    let told = error.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::hint);
    match told {
        Some(hint) => format!("; {hint}"),
        None if error.code().as_deref() == Some(FORBIDDEN) => {
            "; run `tollgate migrate` as the owner of the tables".to_owned()
        }
        None => String::new(),
    }
}

fn sqlstate(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}
