//! Tokens: created, revoked, listed, and read by the sidecars.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::json;
use uuid::Uuid;

use super::{
    cell_rows::{read_column, read_unsigned},
    changes::{AuditEntry, Author, next_change},
    error::{LedgerError, Refusal},
    pool::Ledger,
};
use crate::domain::{
    ids::TenantId,
    invalid::Invalid,
    token::{Role, Token, TokenHash},
};

/// Most live tokens: every sidecar holds all of them.
pub const LIVE_TOKENS_MAX: i64 = 100_000;

/// A token in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedToken {
    pub token: Token,
    /// Real time.
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}

impl Ledger {
    /// Keeps a new token. Its tenant has to exist, and no live token may have its name.
    pub async fn create_token(&self, token: &Token, author: Author<'_>) -> Result<(), LedgerError> {
        self.run_tx("create_token", |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                let change = next_change(tx).await?;
                if let Some(tenant) = &token.tenant {
                    sqlx::query!("SELECT tenant FROM tenants WHERE tenant = $1", tenant.as_str())
                        .fetch_optional(&mut *tx)
                        .await?
                        .ok_or_else(|| LedgerError::not_found("tenant", tenant))?;
                }
                let live = sqlx::query!(
                    "SELECT count(*) AS \"count!\", count(*) FILTER (WHERE name = $1) AS \"same!\"
                     FROM tokens WHERE revoked_at IS NULL",
                    token.name
                )
                .fetch_one(&mut *tx)
                .await?;
                if live.same > 0 {
                    return Err(LedgerError::exists("token", &token.name));
                }
                if live.count >= LIVE_TOKENS_MAX {
                    let problem = format!("there are {} live ones", live.count);
                    let remedy = "revoke some that are not used any more";
                    return Err(Refusal::Invalid(Invalid::new("token", problem, remedy)).into());
                }
                sqlx::query!(
                    "INSERT INTO tokens (token, name, role, tenant, hash, expires_at, change_version)
                     VALUES ($1, $2, $3, $4, $5, $6, $7)",
                    token.id,
                    token.name,
                    token.role.as_str(),
                    token.tenant.as_ref().map(TenantId::as_str),
                    &token.hash.0[..],
                    token.expires_at.map(|at| at.to_sqlx()) as _,
                    change
                )
                .execute(&mut *tx)
                .await?;
                audit(token, "token.create", author).write(tx).await
            })
        })
        .await
    }

    /// Revokes the live token of this name or id; the token.
    pub async fn revoke_token(
        &self,
        name_or_id: &str,
        author: Author<'_>,
    ) -> Result<Token, LedgerError> {
        let id = name_or_id.parse::<Uuid>().ok();
        self.run_tx("revoke_token", |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                let change = next_change(tx).await?;
                let row = sqlx::query_as!(
                    TokenRow,
                    "UPDATE tokens SET revoked_at = now(), change_version = $3
                     WHERE revoked_at IS NULL AND (name = $1 OR token = $2)
                     RETURNING token, name, role, tenant, hash, expires_at, revoked_at, created_at",
                    name_or_id,
                    id,
                    change
                )
                .fetch_optional(&mut *tx)
                .await?
                .ok_or_else(|| LedgerError::not_found("live token", name_or_id))?;
                let token = row.into_listed()?.token;
                audit(&token, "token.revoke", author).write(tx).await?;
                Ok(token)
            })
        })
        .await
    }

    /// All tokens in the order of their creation; those that were revoked only if `with_revoked`.
    pub async fn tokens(&self, with_revoked: bool) -> Result<Vec<ListedToken>, LedgerError> {
        let rows = sqlx::query_as!(
            TokenRow,
            "SELECT token, name, role, tenant, hash, expires_at, revoked_at, created_at
             FROM tokens WHERE revoked_at IS NULL OR $1 ORDER BY created_at, token",
            with_revoked
        )
        .fetch_all(self.query("tokens"))
        .await?;
        rows.into_iter().map(TokenRow::into_listed).collect()
    }

    /// The number of the last change to any token; 0 = there has never been one.
    pub async fn token_version(&self) -> Result<u64, LedgerError> {
        let row =
            sqlx::query!("SELECT coalesce(max(change_version), 0) AS \"version!\" FROM tokens")
                .fetch_one(self.query("token_version"))
                .await?;
        read_unsigned("tokens", "change_version", "max", row.version)
    }
}

fn audit<'a>(token: &'a Token, action: &'static str, author: Author<'a>) -> AuditEntry<'a> {
    AuditEntry {
        author,
        action,
        account: None,
        tenant: token.tenant.as_ref(),
        detail: json!({
            "token": token.id,
            "name": token.name,
            "role": token.role,
            "expires_at": token.expires_at,
        }),
    }
}

struct TokenRow {
    token: Uuid,
    name: String,
    role: String,
    tenant: Option<String>,
    hash: Vec<u8>,
    expires_at: Option<jiff_sqlx::Timestamp>,
    revoked_at: Option<jiff_sqlx::Timestamp>,
    created_at: jiff_sqlx::Timestamp,
}

impl TokenRow {
    fn into_listed(self) -> Result<ListedToken, LedgerError> {
        let key = self.token.to_string();
        let role = read_column("tokens", "role", &key, &self.role, self.role.parse::<Role>())?;
        let tenant = match &self.tenant {
            Some(text) => Some(read_column("tokens", "tenant", &key, text, TenantId::new(text))?),
            None => None,
        };
        let hash = self.hash.try_into().map_err(|hash: Vec<u8>| LedgerError::Corrupt {
            table: "tokens",
            column: "hash",
            key,
            value: format!("{} bytes", hash.len()),
            problem: "a SHA-256 has 32".to_owned(),
        })?;
        Ok(ListedToken {
            token: Token {
                id: self.token,
                name: self.name,
                role,
                tenant,
                expires_at: self.expires_at.map(|at| at.to_jiff()),
                hash: TokenHash(hash),
            },
            created_at: self.created_at.to_jiff(),
            revoked_at: self.revoked_at.map(|at| at.to_jiff()),
        })
    }
}
