//! Grants: extra allowance of tenants, as rows.
//!
//! Whatever changes them takes the next change number and moves their tenant's version, so that
//! every sidecar has them within a second.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{
    cell_rows::{read_column, read_unsigned, subject_column},
    changes::{AuditEntry, Author, next_change},
    error::{LedgerError, Refusal},
    pool::Ledger,
};
use crate::domain::{
    grant::{Grant, GrantKind, GrantPrice, TENANT_GRANTS_MAX},
    ids::{GrantId, MeterName, Subject, TenantId},
    invalid::Invalid,
    period::Period,
};

/// A grant to be given.
#[derive(Clone, Debug, PartialEq)]
pub struct NewGrant {
    pub tenant: TenantId,
    pub kind: GrantKind,
    pub meter: MeterName,
    pub subject: Option<Subject>,
    /// Base units.
    pub amount: u64,
    pub priority: u16,
    /// By the tenant's clock.
    pub starts_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    /// Exactly for recurring grants.
    pub every: Option<Period>,
    /// Most unused units that go over into the next window of `every`.
    pub rollover_cap: Option<u64>,
    /// Whether the meter is a level.
    pub covers_level: bool,
    /// Where it comes from, for people.
    pub source: String,
    /// Unique per tenant: the grant is given once under it.
    pub source_key: String,
    /// Absent = free.
    pub price: Option<GrantPrice>,
}

impl NewGrant {
    /// Checks that it is the grant that was given under its key. When it starts and ends may follow
    /// from when it was asked for. What is left to carry over may be counted otherwise later: the
    /// first count holds.
    pub(super) fn check_repeat(&self, before: &StoredGrant) -> Result<(), Refusal> {
        let grant = &before.grant;
        let is_same_amount = grant.kind == GrantKind::Rollover || grant.amount == self.amount;
        let is_same = (&grant.kind, &grant.meter, &grant.subject, &grant.every)
            == (&self.kind, &self.meter, &self.subject, &self.every)
            && (grant.priority, before.rollover_cap) == (self.priority, self.rollover_cap)
            && is_same_amount;
        if is_same {
            return Ok(());
        }
        Err(Refusal::Invalid(Invalid::new(
            "key",
            format!("was used before for {}, {} of {}", grant.id, grant.amount, grant.meter),
            "send a repeat with the same content, or give a new grant a key of its own",
        )))
    }
}

/// A grant with what only the ledger and billing need.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredGrant {
    pub tenant: TenantId,
    pub grant: Grant,
    pub rollover_cap: Option<u64>,
    pub source: String,
    pub price: Option<GrantPrice>,
    /// Real time.
    pub created_at: Timestamp,
    /// Real time; absent = it was not revoked.
    pub revoked_at: Option<Timestamp>,
    /// Base units used of it in the ledger, over all its windows.
    pub used: u64,
    /// The most that was used of it at a time: more than `used` where a level has gone down.
    pub used_max: u64,
}

/// Selects [`GrantRow`]s; the tail says which and in what order.
macro_rules! select_grants {
    ($tail:literal, $($argument:expr),*) => {
        sqlx::query_as!(
            GrantRow,
            r#"SELECT g.tenant, g.grant_number, g.meter, g.subject, g.kind, g.amount, g.priority,
                    g.starts_at, g.expires_at, g.every, g.rollover_cap, g.covers_level, g.source, g.price,
                    g.created_at, g.revoked_at,
                    coalesce((SELECT sum(w.used) FROM window_totals w
                              WHERE w.tenant = g.tenant AND w.meter = g.meter
                                AND w.subject = g.subject
                                AND starts_with(w.label, 'grant_' || g.grant_number || ':')), 0)::bigint
                        AS "used!",
                    coalesce((SELECT sum(greatest(w.used_max, w.used)) FROM window_totals w
                              WHERE w.tenant = g.tenant AND w.meter = g.meter
                                AND w.subject = g.subject
                                AND starts_with(w.label, 'grant_' || g.grant_number || ':')), 0)::bigint
                        AS "used_max!"
             FROM grants g "#
                + $tail,
            $($argument),*
        )
    };
}

impl Ledger {
    /// Gives a grant, or answers the one that was given under its key before.
    pub async fn create_grant(
        &self,
        new: &NewGrant,
        author: Author<'_>,
    ) -> Result<StoredGrant, LedgerError> {
        self.run_tx_of("create_grant", &new.tenant, |tx| {
            Box::pin(async move { create_grant(tx.connection(), new, author).await })
        })
        .await
    }

    /// Ends a grant at `at`, the tenant's now. What was used of it stays used.
    pub async fn revoke_grant(
        &self,
        tenant: &TenantId,
        grant: GrantId,
        at: Timestamp,
        author: Author<'_>,
    ) -> Result<StoredGrant, LedgerError> {
        self.run_tx_of("revoke_grant", tenant, |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                let change = touch_tenant(tx, tenant).await?;
                let ended = sqlx::query!(
                    "UPDATE grants SET expires_at = greatest(starts_at, $3), revoked_at = now(),
                         change_version = $4
                     WHERE tenant = $1 AND grant_number = $2
                         AND (expires_at IS NULL OR expires_at > $3)",
                    tenant.as_str(),
                    number(grant),
                    at.to_sqlx() as _,
                    change
                )
                .execute(&mut *tx)
                .await?;
                let stored = select_grants!(
                    "WHERE g.tenant = $1 AND g.grant_number = $2",
                    tenant.as_str(),
                    number(grant)
                )
                .fetch_optional(&mut *tx)
                .await?
                .ok_or_else(|| LedgerError::not_found("grant", grant))?
                .into_stored()?;
                if ended.rows_affected() == 0 {
                    return Err(Refusal::Invalid(Invalid::new(
                        "grant",
                        format!("{grant} has ended already"),
                        "name one that `tollgate grant list` shows as running",
                    ))
                    .into());
                }
                let detail = json!({ "grant": grant.to_string(), "at": at, "used": stored.used });
                AuditEntry {
                    author,
                    action: "grant.revoke",
                    account: None,
                    tenant: Some(tenant),
                    detail,
                }
                .write(tx)
                .await?;
                Ok(stored)
            })
        })
        .await
    }

    /// A tenant's grants in the order of their creation; with `with_ended`, also those that are over
    /// at `now`, the tenant's.
    pub async fn grants(
        &self,
        tenant: &TenantId,
        now: Timestamp,
        with_ended: bool,
    ) -> Result<Vec<StoredGrant>, LedgerError> {
        let rows = select_grants!(
            "WHERE g.tenant = $1 AND ($3 OR g.expires_at IS NULL OR g.expires_at > $2)
             ORDER BY g.grant_number",
            tenant.as_str(),
            now.to_sqlx() as _,
            with_ended
        )
        .fetch_all(self.query("grants").of(tenant))
        .await?;
        rows.into_iter().map(GrantRow::into_stored).collect()
    }

    /// Grants of `tenants` that have a price and no charge yet. One that was bought and revoked before
    /// it began was never had, and costs nothing.
    pub async fn uncharged_grants(
        &self,
        tenants: &[TenantId],
    ) -> Result<Vec<StoredGrant>, LedgerError> {
        let tenants: Vec<_> = tenants.iter().map(|tenant| tenant.as_str().to_owned()).collect();
        let rows = select_grants!(
            "WHERE g.tenant = ANY($1) AND g.price IS NOT NULL
                 AND (g.price ? 'used' OR g.expires_at IS NULL OR g.expires_at > g.starts_at)
                 AND NOT EXISTS (
                 SELECT 1 FROM charges c
                 WHERE c.tenant = g.tenant AND c.meter = g.meter AND c.subject = g.subject
                     AND c.kind IN ('grant', 'emergency')
                     AND starts_with(c.label, 'grant_' || g.grant_number || ':'))
             ORDER BY g.grant_number",
            &tenants
        )
        .fetch_all(self.query("uncharged_grants"))
        .await?;
        rows.into_iter().map(GrantRow::into_stored).collect()
    }

    /// What enforcement needs of the grants of `tenants`: those in force and to come, those that
    /// ended so lately that usage of their time may still be under way, and those on levels that
    /// still cover something. In burn order.
    pub(super) async fn grants_in_force(
        &self,
        tenants: &[String],
    ) -> Result<HashMap<String, Vec<Grant>>, LedgerError> {
        let mut grants: HashMap<String, Vec<Grant>> = HashMap::new();
        if tenants.is_empty() {
            return Ok(grants);
        }
        let rows = select_grants!(
            "JOIN tenants t USING (tenant) JOIN accounts a USING (account)
             WHERE g.tenant = ANY($1)
                 AND (g.expires_at IS NULL
                      OR g.expires_at > coalesce(a.test_clock, now()) - interval '40 days'
                      OR g.covers_level AND EXISTS (
                          SELECT 1 FROM window_totals w
                          WHERE w.tenant = g.tenant AND w.meter = g.meter AND w.used > 0
                              AND w.subject = g.subject
                              AND starts_with(w.label, 'grant_' || g.grant_number || ':')))",
            tenants
        )
        .fetch_all(self.query("grants_in_force"))
        .await?;
        for row in rows {
            let stored = row.into_stored()?;
            grants.entry(stored.tenant.as_str().to_owned()).or_default().push(stored.grant);
        }
        for grants in grants.values_mut() {
            grants.sort_by_key(Grant::burn_order);
        }
        Ok(grants)
    }
}

/// Gives a grant within a transaction, or answers the one that has its key.
pub(super) async fn create_grant(
    tx: &mut PgConnection,
    new: &NewGrant,
    author: Author<'_>,
) -> Result<StoredGrant, LedgerError> {
    let change = touch_tenant(tx, &new.tenant).await?;
    if let Some(before) = grant_of_key(tx, &new.tenant, &new.source_key).await? {
        new.check_repeat(&before)?;
        return Ok(before);
    }
    check_number(tx, new).await?;
    let amount = i64::try_from(new.amount).unwrap_or(i64::MAX);
    let cap = new.rollover_cap.map(|cap| i64::try_from(cap).unwrap_or(i64::MAX));
    // It serialises to JSON: names, texts and numbers.
    let price = new.price.as_ref().and_then(|price| serde_json::to_value(price).ok());
    let added = sqlx::query!(
        "INSERT INTO grants (tenant, meter, subject, kind, amount, priority, starts_at, expires_at,
             every, rollover_cap, covers_level, source, source_key, price, change_version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
         RETURNING grant_number",
        new.tenant.as_str(),
        new.meter.as_str(),
        subject_column(new.subject.as_ref()),
        new.kind.as_str(),
        amount,
        i32::from(new.priority),
        new.starts_at.to_sqlx() as _,
        new.expires_at.map(ToSqlx::to_sqlx) as _,
        new.every.map(|every| every.to_string()),
        cap,
        new.covers_level,
        new.source,
        new.source_key,
        price,
        change
    )
    .fetch_one(&mut *tx)
    .await?;
    let stored = select_grants!(
        "WHERE g.tenant = $1 AND g.grant_number = $2",
        new.tenant.as_str(),
        added.grant_number
    )
    .fetch_one(&mut *tx)
    .await?
    .into_stored()?;
    let detail = json!({
        "grant": stored.grant.id.to_string(),
        "kind": new.kind,
        "meter": new.meter,
        "subject": new.subject,
        "amount": new.amount,
        "starts_at": new.starts_at,
        "expires_at": new.expires_at,
        "source": new.source,
        "price": new.price,
    });
    AuditEntry { author, action: "grant.create", account: None, tenant: Some(&new.tenant), detail }
        .write(tx)
        .await?;
    Ok(stored)
}

/// The grant that was given under a key.
pub(super) async fn grant_of_key(
    tx: &mut PgConnection,
    tenant: &TenantId,
    source_key: &str,
) -> Result<Option<StoredGrant>, LedgerError> {
    let row =
        select_grants!("WHERE g.tenant = $1 AND g.source_key = $2", tenant.as_str(), source_key)
            .fetch_optional(tx)
            .await?;
    row.map(GrantRow::into_stored).transpose()
}

/// Takes the next change for a tenant that there is.
async fn touch_tenant(tx: &mut PgConnection, tenant: &TenantId) -> Result<i64, LedgerError> {
    let change = next_change(tx).await?;
    let touched = sqlx::query!(
        "UPDATE tenants SET change_version = $2 WHERE tenant = $1",
        tenant.as_str(),
        change
    )
    .execute(tx)
    .await?;
    match touched.rows_affected() {
        1 => Ok(change),
        _ => Err(LedgerError::not_found("tenant", tenant)),
    }
}

async fn check_number(tx: &mut PgConnection, new: &NewGrant) -> Result<(), LedgerError> {
    let row = sqlx::query!(
        r#"SELECT count(*) AS "running!" FROM grants
           WHERE tenant = $1 AND (expires_at IS NULL OR expires_at > $2)"#,
        new.tenant.as_str(),
        new.starts_at.to_sqlx() as _
    )
    .fetch_one(tx)
    .await?;
    if usize::try_from(row.running).is_ok_and(|running| running < TENANT_GRANTS_MAX) {
        return Ok(());
    }
    Err(Refusal::Invalid(Invalid::new(
        "tenant",
        format!("{} has {TENANT_GRANTS_MAX} grants", new.tenant),
        "revoke some, or give fewer and larger ones",
    ))
    .into())
}

fn number(grant: GrantId) -> i64 {
    i64::try_from(grant.0).unwrap_or(i64::MAX)
}

struct GrantRow {
    tenant: String,
    grant_number: i64,
    meter: String,
    subject: String,
    kind: String,
    amount: i64,
    priority: i32,
    starts_at: jiff_sqlx::Timestamp,
    expires_at: Option<jiff_sqlx::Timestamp>,
    every: Option<String>,
    rollover_cap: Option<i64>,
    covers_level: bool,
    source: String,
    price: Option<Value>,
    created_at: jiff_sqlx::Timestamp,
    revoked_at: Option<jiff_sqlx::Timestamp>,
    used: i64,
    used_max: i64,
}

impl GrantRow {
    fn into_stored(self) -> Result<StoredGrant, LedgerError> {
        let table = "grants";
        let key = format!("{}/{}", self.tenant, self.grant_number);
        let unsigned = |column, value| read_unsigned(table, column, &key, value);
        let subject = match self.subject.as_str() {
            "" => None,
            text => Some(read_column(table, "subject", &key, text, Subject::new(text))?),
        };
        let every = match &self.every {
            Some(every) => Some(read_column(table, "every", &key, every, every.parse::<Period>())?),
            None => None,
        };
        let price = match self.price {
            Some(price) => {
                let shown = price.to_string();
                Some(read_column(table, "price", &key, shown, serde_json::from_value(price))?)
            }
            None => None,
        };
        let grant = Grant {
            id: GrantId(unsigned("grant_number", self.grant_number)?),
            kind: read_column(table, "kind", &key, &self.kind, self.kind.parse::<GrantKind>())?,
            meter: read_column(table, "meter", &key, &self.meter, MeterName::new(&self.meter))?,
            subject,
            amount: unsigned("amount", self.amount)?,
            priority: read_column(
                table,
                "priority",
                &key,
                self.priority,
                u16::try_from(self.priority),
            )?,
            starts_at: self.starts_at.to_jiff(),
            expires_at: self.expires_at.map(|at| at.to_jiff()),
            every,
            covers_level: self.covers_level,
            is_revoked: self.revoked_at.is_some(),
        };
        Ok(StoredGrant {
            tenant: read_column(table, "tenant", &key, &self.tenant, TenantId::new(&self.tenant))?,
            grant,
            rollover_cap: self.rollover_cap.map(|cap| unsigned("rollover_cap", cap)).transpose()?,
            source: self.source,
            price,
            created_at: self.created_at.to_jiff(),
            revoked_at: self.revoked_at.map(|at| at.to_jiff()),
            used: u64::try_from(self.used).unwrap_or(0),
            used_max: u64::try_from(self.used_max).unwrap_or(0),
        })
    }
}
