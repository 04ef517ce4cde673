//! Changes: how a sidecar learns that a tenant, a plan or a clock is not what it was.
//!
//! Every changing transaction takes the next number of the sequence `change` and keeps its row
//! locked until it ends, so numbers become visible in order and "all after n" misses none.
//! NOTIFY tells of a change at once, but may be lost; polling [`Ledger::change_version`] may not.

use serde_json::Value;
use sqlx::{PgConnection, postgres::PgListener};

use super::{cell_rows::read_unsigned, error::LedgerError, pool::Ledger};
use crate::domain::ids::{AccountId, TenantId};

/// The channel of NOTIFY; its payload is the change's number.
const CHANNEL: &str = "tollgate_changes";

/// Who changes something, and why; kept in the audit log.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    /// A person or a program (`cli:alice`, `job:renewals`).
    pub actor: &'a str,
    /// May be empty.
    pub reason: &'a str,
}

/// Tells that something changed; a hint that may come late, twice or never.
#[derive(Debug)]
pub struct ChangeListener {
    listener: PgListener,
}

impl ChangeListener {
    /// Waits for the next hint. Connects again by itself when the connection was lost, and then
    /// returns too, since hints may have been missed meanwhile.
    pub async fn next(&mut self) -> Result<(), LedgerError> {
        self.listener.try_recv().await?;
        Ok(())
    }
}

impl Ledger {
    /// The number of the last change; 0 before the first.
    pub async fn change_version(&self) -> Result<u64, LedgerError> {
        let row = sqlx::query!("SELECT value FROM commit_sequences WHERE name = 'change'")
            .fetch_one(self.query("change_version"))
            .await?;
        read_unsigned("commit_sequences", "value", "change", row.value)
    }

    /// Starts to listen for changes, on a connection of its own.
    pub async fn listen_changes(&self) -> Result<ChangeListener, LedgerError> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(ChangeListener { listener })
    }
}

/// Takes the number of the change that `tx` is making, and announces it for its commit.
pub(super) async fn next_change(tx: &mut PgConnection) -> Result<i64, LedgerError> {
    let row = sqlx::query!(
        "UPDATE commit_sequences SET value = value + 1 WHERE name = 'change' RETURNING value"
    )
    .fetch_one(&mut *tx)
    .await?;
    sqlx::query!("SELECT pg_notify($1, $2)", CHANNEL, row.value.to_string()).execute(tx).await?;
    Ok(row.value)
}

/// Makes all who change something wait for `tx`, before it knows whether it will change anything.
pub(super) async fn lock_changes(tx: &mut PgConnection) -> Result<(), LedgerError> {
    sqlx::query!("SELECT value FROM commit_sequences WHERE name = 'change' FOR UPDATE")
        .fetch_one(tx)
        .await?;
    Ok(())
}

/// An entry of the audit log to be.
pub(super) struct AuditEntry<'a> {
    pub(super) author: Author<'a>,
    /// Object and verb (`tenant.create`).
    pub(super) action: &'static str,
    pub(super) account: Option<&'a AccountId>,
    pub(super) tenant: Option<&'a TenantId>,
    pub(super) detail: Value,
}

impl AuditEntry<'_> {
    pub(super) async fn write(self, tx: &mut PgConnection) -> Result<(), LedgerError> {
        let mut detail = self.detail;
        if let (Value::Object(detail), false) = (&mut detail, self.author.reason.is_empty()) {
            detail.insert("reason".to_owned(), self.author.reason.into());
        }
        sqlx::query!(
            "INSERT INTO audit_log (actor, action, account, tenant, detail)
             VALUES ($1, $2, $3, $4, $5)",
            self.author.actor,
            self.action,
            self.account.map(AccountId::as_str),
            self.tenant.map(TenantId::as_str),
            detail
        )
        .execute(tx)
        .await?;
        Ok(())
    }
}
