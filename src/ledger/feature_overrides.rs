//! What single tenants have otherwise than their plans say.

use jiff_sqlx::ToSqlx;
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{
    cell_rows::read_column,
    changes::{AuditEntry, Author, lock_changes, next_change},
    error::{LedgerError, Refusal},
    pool::Ledger,
};
use crate::domain::{
    features::feature_override::{FeatureOverride, OVERRIDES_MAX},
    ids::{FeatureName, TenantId},
    invalid::Invalid,
};

impl Ledger {
    /// Gives a tenant a feature with a value of its own, in place of an override that it may have.
    /// The author's reason is kept with it.
    pub async fn set_feature_override(
        &self,
        tenant: &TenantId,
        wanted: &FeatureOverride,
        author: Author<'_>,
    ) -> Result<(), LedgerError> {
        if wanted.reason.is_empty() {
            let remedy = "say why, for whoever finds the override later";
            return Err(Refusal::Invalid(Invalid::new("reason", "is missing", remedy)).into());
        }
        wanted.check_size().map_err(Refusal::Invalid)?;
        self.run_tx_of("set_feature_override", tenant, |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                lock_changes(tx).await?;
                check_tenant(tx, tenant).await?;
                let before = delete(tx, tenant, &wanted.feature).await?;
                check_room(tx, tenant).await?;
                sqlx::query!(
                    "INSERT INTO feature_overrides
                         (tenant, feature, value, expires_at, reason, actor)
                     VALUES ($1, $2, $3, $4, $5, $6)",
                    tenant.as_str(),
                    wanted.feature.as_str(),
                    wanted.value,
                    wanted.expires_at.map(ToSqlx::to_sqlx) as _,
                    wanted.reason,
                    author.actor
                )
                .execute(&mut *tx)
                .await?;
                let detail = json!({
                    "feature": wanted.feature,
                    "before": before,
                    "after": wanted.value,
                    "expires_at": wanted.expires_at,
                });
                announce(tx, tenant, "feature.override", detail, author).await
            })
        })
        .await
    }

    /// Takes a tenant's override of a feature away. `false`: there was none.
    pub async fn clear_feature_override(
        &self,
        tenant: &TenantId,
        feature: &FeatureName,
        author: Author<'_>,
    ) -> Result<bool, LedgerError> {
        self.run_tx_of("clear_feature_override", tenant, |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                lock_changes(tx).await?;
                check_tenant(tx, tenant).await?;
                let Some(before) = delete(tx, tenant, feature).await? else { return Ok(false) };
                let detail = json!({ "feature": feature, "before": before });
                announce(tx, tenant, "feature.clear_override", detail, author).await?;
                Ok(true)
            })
        })
        .await
    }
}

async fn check_tenant(tx: &mut PgConnection, tenant: &TenantId) -> Result<(), LedgerError> {
    sqlx::query!("SELECT tenant FROM tenants WHERE tenant = $1", tenant.as_str())
        .fetch_optional(tx)
        .await?
        .map(drop)
        .ok_or_else(|| LedgerError::not_found("tenant", tenant))
}

/// The value that was deleted.
async fn delete(
    tx: &mut PgConnection,
    tenant: &TenantId,
    feature: &FeatureName,
) -> Result<Option<Value>, LedgerError> {
    let row = sqlx::query!(
        "DELETE FROM feature_overrides WHERE tenant = $1 AND feature = $2 RETURNING value",
        tenant.as_str(),
        feature.as_str()
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| row.value))
}

async fn check_room(tx: &mut PgConnection, tenant: &TenantId) -> Result<(), LedgerError> {
    let row = sqlx::query!(
        r#"SELECT count(*) AS "count!" FROM feature_overrides WHERE tenant = $1"#,
        tenant.as_str()
    )
    .fetch_one(tx)
    .await?;
    if usize::try_from(row.count).unwrap_or(0) < OVERRIDES_MAX {
        return Ok(());
    }
    Err(Refusal::Invalid(Invalid::new(
        "feature",
        format!("{tenant} has {} overrides already", row.count),
        "clear those that are over, or put the tenant on a plan that says the same",
    ))
    .into())
}

async fn announce(
    tx: &mut PgConnection,
    tenant: &TenantId,
    action: &'static str,
    detail: Value,
    author: Author<'_>,
) -> Result<(), LedgerError> {
    let change = next_change(tx).await?;
    sqlx::query!(
        "UPDATE tenants SET change_version = $2 WHERE tenant = $1",
        tenant.as_str(),
        change
    )
    .execute(&mut *tx)
    .await?;
    AuditEntry { author, action, account: None, tenant: Some(tenant), detail }.write(tx).await
}

/// The overrides of a tenant as one value.
pub(super) fn read_overrides(
    tenant: &TenantId,
    json: &Value,
) -> Result<Vec<FeatureOverride>, LedgerError> {
    let read = serde_json::from_value(json.clone());
    read_column("feature_overrides", "value", tenant, json, read)
}
