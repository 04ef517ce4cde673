//! The quarantine as operators see it: acknowledged usage that could not be counted.

use jiff::Timestamp;
use serde_json::Value;

use super::{cell_rows::read_unsigned, error::LedgerError, pool::Ledger};
use crate::domain::ids::RunId;

/// Most entries that one page may hold.
pub const QUARANTINE_PAGE_MAX: u32 = 1_000;

/// One event, or one sum of events without keys.
#[derive(Clone, Debug, PartialEq)]
pub struct QuarantineEntry {
    /// Number of the entry; grows with time.
    pub entry: u64,
    /// As the event has it; there may be no such tenant.
    pub tenant: String,
    pub meter: String,
    /// `unknown_tenant`, `key_conflict`, `out_of_range` or `refused`.
    pub reason: String,
    /// What exactly is wrong.
    pub problem: String,
    pub event: Value,
    /// Run that acknowledged it, and the position in its journal.
    pub run: RunId,
    pub journal_position: u64,
    /// Real time.
    pub quarantined_at: Timestamp,
}

impl Ledger {
    /// Up to `count_max` entries behind `after`, oldest first.
    pub async fn quarantine(
        &self,
        after: u64,
        count_max: u32,
    ) -> Result<Vec<QuarantineEntry>, LedgerError> {
        let rows = sqlx::query!(
            "SELECT entry, tenant, meter, reason, problem, event, run, journal_position,
                    quarantined_at
             FROM quarantine WHERE entry > $1 ORDER BY entry LIMIT $2",
            i64::try_from(after).unwrap_or(i64::MAX),
            i64::from(count_max.min(QUARANTINE_PAGE_MAX))
        )
        .fetch_all(self.query("quarantine"))
        .await?;
        let table = "quarantine";
        rows.into_iter()
            .map(|row| {
                Ok(QuarantineEntry {
                    entry: read_unsigned(table, "entry", row.entry, row.entry)?,
                    tenant: row.tenant,
                    meter: row.meter,
                    reason: row.reason,
                    problem: row.problem,
                    event: row.event,
                    run: RunId(row.run),
                    journal_position: read_unsigned(
                        table,
                        "journal_position",
                        row.entry,
                        row.journal_position,
                    )?,
                    quarantined_at: row.quarantined_at.to_jiff(),
                })
            })
            .collect()
    }
}
