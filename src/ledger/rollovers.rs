//! What is left of recurring grants, for the next window.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use rust_decimal::prelude::ToPrimitive;

use super::{
    cell_rows::{read_column, subject_column},
    error::LedgerError,
    pool::Ledger,
};
use crate::domain::{
    grant::Grant,
    ids::{AccountId, TenantId},
};

impl Ledger {
    /// Base units that were used, or forfeited, of a grant in its windows that start from `from` on
    /// and before `to`. By their starts rather than by one label: another schedule cuts and labels
    /// the same time anew, and what was spent under the one before stays under its labels.
    pub async fn spent_of_grant(
        &self,
        tenant: &TenantId,
        grant: &Grant,
        from: Timestamp,
        to: Option<Timestamp>,
    ) -> Result<u64, LedgerError> {
        let row = sqlx::query!(
            r#"SELECT coalesce(sum(greatest(used, 0) + forfeited), 0) AS "spent!"
               FROM window_totals
               WHERE tenant = $1 AND meter = $2 AND subject = $3
                   AND split_part(label, ':', 1) = $4
                   AND split_part(label, ':', 2)::bigint >= $5
                   AND ($6::bigint IS NULL OR split_part(label, ':', 2)::bigint < $6)"#,
            tenant.as_str(),
            grant.meter.as_str(),
            subject_column(grant.subject.as_ref()),
            grant.id.to_string(),
            from.as_second(),
            to.map(Timestamp::as_second)
        )
        .fetch_one(self.query("spent_of_grant").of(tenant))
        .await?;
        // More than any grant holds is as good as all of it.
        Ok(row.spent.to_u64().unwrap_or(u64::MAX))
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
        .fetch_optional(self.query("carried_through").of(tenant))
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
        .execute(self.query("note_carried").writing_of(tenant))
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
