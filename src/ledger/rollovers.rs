//! What is left of recurring grants, for the next window.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

use super::{
    cell_rows::{read_column, read_unsigned, subject_column},
    error::LedgerError,
    pool::Ledger,
};
use crate::domain::{
    grant::Grant,
    ids::{AccountId, TenantId},
    window::WindowLabel,
};

impl Ledger {
    /// Base units that were used, or forfeited, of a grant in the window that `label` names.
    pub async fn spent_of_grant(
        &self,
        tenant: &TenantId,
        grant: &Grant,
        label: WindowLabel,
    ) -> Result<u64, LedgerError> {
        let row = sqlx::query!(
            "SELECT used, forfeited FROM window_totals
             WHERE tenant = $1 AND meter = $2 AND label = $3 AND subject = $4",
            tenant.as_str(),
            grant.meter.as_str(),
            label.to_string(),
            subject_column(grant.subject.as_ref())
        )
        .fetch_optional(self.query("spent_of_grant"))
        .await?;
        let Some(row) = row else { return Ok(0) };
        let forfeited = read_unsigned("window_totals", "forfeited", label, row.forfeited)?;
        Ok(u64::try_from(row.used).unwrap_or(0).saturating_add(forfeited))
    }

    /// Through when a recurring grant's windows have been carried over.
    pub async fn carried_through(
        &self,
        tenant: &TenantId,
        grant: &Grant,
    ) -> Result<Option<Timestamp>, LedgerError> {
        let row = sqlx::query!(
            "SELECT carried_through FROM grant_carries WHERE tenant = $1 AND grant_number = $2",
            tenant.as_str(),
            i64::try_from(grant.id.0).unwrap_or(i64::MAX)
        )
        .fetch_optional(self.query("carried_through"))
        .await?;
        Ok(row.map(|row| row.carried_through.to_jiff()))
    }

    /// Notes that a recurring grant's windows have been carried over through `through`.
    pub async fn note_carried(
        &self,
        tenant: &TenantId,
        grant: &Grant,
        through: Timestamp,
    ) -> Result<(), LedgerError> {
        sqlx::query!(
            "INSERT INTO grant_carries (tenant, grant_number, carried_through) VALUES ($1, $2, $3)
             ON CONFLICT (tenant, grant_number) DO UPDATE SET
                 carried_through = greatest(grant_carries.carried_through, excluded.carried_through)",
            tenant.as_str(),
            i64::try_from(grant.id.0).unwrap_or(i64::MAX),
            through.to_sqlx() as _
        )
        .execute(self.query("note_carried"))
        .await?;
        Ok(())
    }

    /// When an account's test clock was put where it stands, real time; absent = it has none.
    pub async fn clock_set_at(
        &self,
        account: &AccountId,
    ) -> Result<Option<Timestamp>, LedgerError> {
        let row =
            sqlx::query!("SELECT clock_set_at FROM accounts WHERE account = $1", account.as_str())
                .fetch_optional(self.query("clock_set_at"))
                .await?;
        Ok(row.and_then(|row| row.clock_set_at).map(|at| at.to_jiff()))
    }

    /// Tenants with recurring grants that carry something over, in order.
    pub async fn carrying_tenants(&self) -> Result<Vec<TenantId>, LedgerError> {
        let rows = sqlx::query!(
            "SELECT DISTINCT tenant FROM grants WHERE rollover_cap > 0 ORDER BY tenant"
        )
        .fetch_all(self.query("carrying_tenants"))
        .await?;
        let read = |row: String| {
            let tenant = TenantId::new(&row);
            read_column("grants", "tenant", &row, &row, tenant)
        };
        rows.into_iter().map(|row| read(row.tenant)).collect()
    }
}
