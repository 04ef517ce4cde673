//! The role that all connections act in, and why one may not.
//!
//! It owns nothing and stands under row-level security, whoever the URL logs in: an owner of the
//! tables, a superuser of a private server, or, best, a login that may do nothing but act in it.

/// Made by `tollgate migrate`.
pub(super) const SERVICE_ROLE: &str = "tollgate_service";

/// Why a connection cannot be opened in the role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    #[error("Postgres has no role tollgate_service; run `tollgate migrate` as the ledger's owner")]
    Missing,
    #[error(
        "the user of ledger.url may not act as tollgate_service; have the ledger's owner run: \
         GRANT tollgate_service TO that user"
    )]
    Refused,
}

impl RoleError {
    /// What Postgres says when a connection asks for the role, if that is what it says.
    pub(super) fn read(error: &sqlx::Error) -> Option<Self> {
        let error = error.as_database_error()?;
        // Whatever the language of its messages, the name stands there in quotes.
        let names_the_role = error.message().contains("\"tollgate_service\"");
        match error.code().as_deref() {
            // invalid_parameter_value, undefined_object.
            Some("22023" | "42704") if names_the_role => Some(Self::Missing),
            // insufficient_privilege.
            Some("42501") if names_the_role => Some(Self::Refused),
            _ => None,
        }
    }
}
