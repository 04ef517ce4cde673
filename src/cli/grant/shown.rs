//! How tenants and grants of the grant commands are found and written.

use anyhow::bail;
use serde_json::{Value, json};

use crate::{
    domain::{ids::TenantId, tenant::Tenant},
    ledger::{Ledger, grants::StoredGrant},
};

/// The tenant, or why there is none.
pub(super) async fn known_tenant(ledger: &Ledger, tenant: &TenantId) -> anyhow::Result<Tenant> {
    match ledger.tenant(tenant).await? {
        Some(listed) => Ok(listed.tenant),
        None => bail!("there is no tenant {tenant}; `tollgate tenant list` lists all"),
    }
}

/// Until when a grant is good, for people.
pub(super) fn until(stored: &StoredGrant) -> String {
    match (stored.revoked_at, stored.grant.expires_at) {
        (Some(_), Some(at)) => format!("{at} (revoked)"),
        (_, Some(at)) => at.to_string(),
        (_, None) => "-".to_owned(),
    }
}

/// A grant as JSON; amounts in base units, times RFC 3339.
pub(super) fn as_json(stored: &StoredGrant) -> Value {
    let grant = &stored.grant;
    json!({
        "grant": grant.id.to_string(),
        "tenant": stored.tenant,
        "meter": grant.meter,
        "subject": grant.subject,
        "kind": grant.kind,
        "amount": grant.amount,
        "used": stored.used,
        "priority": grant.priority,
        "starts_at": grant.starts_at,
        "expires_at": grant.expires_at,
        "every": grant.every.map(|every| every.to_string()),
        "rollover_cap": stored.rollover_cap,
        "source": stored.source,
        "price": stored.price,
        "created_at": stored.created_at,
        "revoked_at": stored.revoked_at,
    })
}
