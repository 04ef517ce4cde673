//! Charges: what is to be billed. Append-only, and each at most once by its natural key.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    cell_rows::{CellRow, read_column, subject_column},
    error::LedgerError,
    pool::Ledger,
};
use crate::domain::{
    cell_key::CellKey,
    ids::{AccountId, CatalogName, PlanName, TenantId},
    money::{Currency, Money},
    tenant::PlanVersion,
};

/// Most charges that one statement inserts.
pub const CHARGES_BATCH_MAX: usize = 500;

/// One charge. `key` and `kind` are its natural key.
#[derive(Clone, Debug, PartialEq)]
pub struct Charge {
    pub id: Uuid,
    /// Whose usage of what, in which window.
    pub key: CellKey,
    /// What sort of charge (`overage`).
    pub kind: String,
    pub account: AccountId,
    pub subscription: Uuid,
    pub period_start: Timestamp,
    pub period_end: Timestamp,
    /// In pricing units.
    pub quantity: Decimal,
    /// Major units of the currency per pricing unit; absent when several rates apply.
    pub rate: Option<Decimal>,
    pub amount: Money,
    /// The plan charged by.
    pub plan: PlanVersion,
    /// How the amount came about.
    pub explanation: Value,
    /// When it was written, real time; of one that is not written yet, when it was made.
    pub created_at: Timestamp,
}

/// Which charges to list.
#[derive(Clone, Copy, Debug)]
pub struct ChargesQuery<'a> {
    pub tenant: Option<&'a TenantId>,
    /// Also those of 0, which only say that a window is closed.
    pub with_zero: bool,
    pub limit: u32,
}

impl Ledger {
    /// Writes those of `charges` whose key has none yet, at most [`CHARGES_BATCH_MAX`], and gives the
    /// amounts that were written. The others stay as they are, whoever wrote them.
    pub async fn add_charges(&self, charges: &[Charge]) -> Result<Vec<Money>, LedgerError> {
        let rows: Value = charges.iter().map(Charge::to_row).collect();
        let added = sqlx::query_file!("src/ledger/queries/add_charges.sql", rows)
            .fetch_all(self.query("add_charges"))
            .await?;
        added
            .into_iter()
            .map(|row| {
                let currency = Currency::new(&row.currency);
                let currency =
                    read_column("charges", "currency", "a new row", row.currency, currency)?;
                Ok(Money { minor: row.amount_minor, currency })
            })
            .collect()
    }

    /// Charges ordered by tenant, meter and period.
    pub async fn charges(&self, asked: ChargesQuery<'_>) -> Result<Vec<Charge>, LedgerError> {
        let query = sqlx::query_as!(
            Row,
            "SELECT charge, tenant, meter, label, subject, kind, account, subscription,
                    period_start, period_end, quantity, rate, amount_minor, currency,
                    catalog, plan, plan_version, explanation, created_at
             FROM charges
             WHERE ($1::text IS NULL OR tenant = $1) AND ($2 OR amount_minor <> 0)
             ORDER BY tenant, meter, period_start, subject, kind
             LIMIT $3",
            asked.tenant.map(TenantId::as_str),
            asked.with_zero,
            i64::from(asked.limit),
        );
        let rows = match asked.tenant {
            Some(tenant) => query.fetch_all(self.query("charges").of(tenant)).await?,
            None => query.fetch_all(self.query("charges")).await?,
        };
        rows.into_iter().map(Charge::try_from).collect()
    }

    /// A tenant's charges behind `after`, in the order of their keys' text, at most `limit`.
    pub async fn charges_after(
        &self,
        tenant: &TenantId,
        after: Option<&Charge>,
        limit: u32,
    ) -> Result<Vec<Charge>, LedgerError> {
        let rows = sqlx::query_as!(
            Row,
            "SELECT charge, tenant, meter, label, subject, kind, account, subscription,
                    period_start, period_end, quantity, rate, amount_minor, currency,
                    catalog, plan, plan_version, explanation, created_at
             FROM charges
             WHERE tenant = $1 AND (meter, label, subject, kind) > ($2, $3, $4, $5)
             ORDER BY meter, label, subject, kind
             LIMIT $6",
            tenant.as_str(),
            after.map_or("", |charge| charge.key.meter.as_str()),
            after.map(|charge| charge.key.label.to_string()).unwrap_or_default(),
            after.map_or("", |charge| subject_column(charge.key.subject.as_ref())),
            after.map_or("", |charge| charge.kind.as_str()),
            i64::from(limit),
        )
        .fetch_all(self.query("charges_after").of(tenant))
        .await?;
        rows.into_iter().map(Charge::try_from).collect()
    }

    /// The periods that a meter's levels have been charged for, the earliest first.
    pub async fn charged_periods(
        &self,
        key: &CellKey,
        kind: &str,
    ) -> Result<Vec<(Timestamp, Timestamp)>, LedgerError> {
        let rows = sqlx::query!(
            "SELECT period_start, period_end FROM charges
             WHERE tenant = $1 AND meter = $2 AND subject = $3 AND kind = $4
             ORDER BY period_start",
            key.tenant.as_str(),
            key.meter.as_str(),
            subject_column(key.subject.as_ref()),
            kind,
        )
        .fetch_all(self.query("charged_periods").of(&key.tenant))
        .await?;
        Ok(rows.iter().map(|row| (row.period_start.to_jiff(), row.period_end.to_jiff())).collect())
    }

    /// Through when a meter's levels have been charged: the latest end of a charged period.
    pub async fn charged_through(
        &self,
        key: &CellKey,
        kind: &str,
    ) -> Result<Option<Timestamp>, LedgerError> {
        let row = sqlx::query!(
            "SELECT max(period_end) AS through FROM charges
             WHERE tenant = $1 AND meter = $2 AND subject = $3 AND kind = $4",
            key.tenant.as_str(),
            key.meter.as_str(),
            subject_column(key.subject.as_ref()),
            kind,
        )
        .fetch_one(self.query("charged_through").of(&key.tenant))
        .await?;
        Ok(row.through.map(|through| through.to_jiff()))
    }
}

impl Charge {
    fn to_row(&self) -> Value {
        json!({
            "charge": self.id,
            "tenant": self.key.tenant,
            "meter": self.key.meter,
            "label": self.key.label.to_string(),
            "subject": subject_column(self.key.subject.as_ref()),
            "kind": self.kind,
            "account": self.account,
            "subscription": self.subscription,
            "period_start": self.period_start,
            "period_end": self.period_end,
            "quantity": self.quantity.to_string(),
            "rate": self.rate.map(|rate| rate.to_string()),
            "amount_minor": self.amount.minor,
            "currency": self.amount.currency,
            "catalog": self.plan.catalog,
            "plan": self.plan.plan,
            "plan_version": self.plan.version,
            "explanation": self.explanation,
        })
    }
}

struct Row {
    charge: Uuid,
    tenant: String,
    meter: String,
    label: String,
    subject: String,
    kind: String,
    account: String,
    subscription: Uuid,
    period_start: jiff_sqlx::Timestamp,
    period_end: jiff_sqlx::Timestamp,
    quantity: Decimal,
    rate: Option<Decimal>,
    amount_minor: i64,
    currency: String,
    catalog: String,
    plan: String,
    plan_version: i32,
    explanation: Value,
    created_at: jiff_sqlx::Timestamp,
}

impl TryFrom<Row> for Charge {
    type Error = LedgerError;

    fn try_from(row: Row) -> Result<Self, LedgerError> {
        let id = row.charge;
        let currency = Currency::new(&row.currency);
        let currency = read_column("charges", "currency", id, &row.currency, currency)?;
        let catalog = CatalogName::new(&row.catalog);
        let plan = PlanVersion {
            catalog: read_column("charges", "catalog", id, &row.catalog, catalog)?,
            plan: read_column("charges", "plan", id, &row.plan, PlanName::new(&row.plan))?,
            version: read_column(
                "charges",
                "plan_version",
                id,
                row.plan_version,
                row.plan_version.try_into(),
            )?,
        };
        let account = AccountId::new(&row.account);
        let key = CellRow {
            table: "charges",
            tenant: row.tenant,
            meter: row.meter,
            label: row.label,
            subject: row.subject,
        };
        Ok(Self {
            id,
            key: key.into_key()?,
            kind: row.kind,
            account: read_column("charges", "account", id, &row.account, account)?,
            subscription: row.subscription,
            period_start: row.period_start.to_jiff(),
            period_end: row.period_end.to_jiff(),
            quantity: row.quantity,
            rate: row.rate,
            amount: Money { minor: row.amount_minor, currency },
            plan,
            explanation: row.explanation,
            created_at: row.created_at.to_jiff(),
        })
    }
}
