//! Whether the ledger agrees with itself: each window is the sum of its hours, of its days, and of
//! what the runs did to it.

use super::{cell_rows::CellRow, error::LedgerError, pool::Ledger};
use crate::domain::{cell_key::CellKey, ids::TenantId};

/// A window that is not the sum of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    pub key: CellKey,
    pub parts: Parts,
    /// What the window's own row says.
    pub window: i64,
    /// What its parts add up to.
    pub sum_of_parts: i64,
}

/// What a window is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// Amounts of `usage_hourly`.
    HourlyAmounts,
    /// Events of `usage_hourly`.
    HourlyEvents,
    /// Amounts of `usage_daily`.
    DailyAmounts,
    /// Events of `usage_daily`.
    DailyEvents,
    /// Units of `run_totals` that count.
    RunUnits,
    /// Units of `run_totals` that were forfeited.
    RunForfeits,
}

impl Parts {
    fn read(name: &str) -> Option<Self> {
        Some(match name {
            "hourly_amounts" => Self::HourlyAmounts,
            "hourly_events" => Self::HourlyEvents,
            "daily_amounts" => Self::DailyAmounts,
            "daily_events" => Self::DailyEvents,
            "run_units" => Self::RunUnits,
            "run_forfeits" => Self::RunForfeits,
            _ => return None,
        })
    }
}

impl Ledger {
    /// The windows of `tenant` (`None` = of all) that disagree with their parts, at most
    /// `count_max`; none is as it should be. Reads all of these tenants' rollups, in one snapshot.
    pub async fn disagreements(
        &self,
        tenant: Option<&TenantId>,
        count_max: u32,
    ) -> Result<Vec<Disagreement>, LedgerError> {
        let query = sqlx::query_file!(
            "src/ledger/queries/disagreements.sql",
            tenant.map(TenantId::as_str),
            i64::from(count_max)
        );
        let rows = match tenant {
            Some(tenant) => query.fetch_all(self.query("disagreements").of(tenant)).await?,
            None => query.fetch_all(self.query("disagreements")).await?,
        };
        rows.into_iter()
            .map(|row| {
                let key = CellRow {
                    table: "window_totals",
                    tenant: row.tenant,
                    meter: row.meter,
                    label: row.label,
                    subject: row.subject,
                }
                .into_key()?;
                let parts = Parts::read(&row.parts).ok_or("not a kind of parts");
                Ok(Disagreement {
                    parts: super::cell_rows::read_column(
                        "window_totals",
                        "parts",
                        &key,
                        &row.parts,
                        parts,
                    )?,
                    window: row.window,
                    sum_of_parts: row.sum_of_parts,
                    key,
                })
            })
            .collect()
    }
}
