//! Floors: what the shared counters must at least know of a counter that they have lost.

use super::{
    cell_rows::{CellColumns, read_unsigned},
    error::LedgerError,
    pool::Ledger,
};
use crate::domain::{cell_key::CellKey, ids::RunId};

/// What the ledger knows of one counter, all of it at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The run that asked is closed, so that it has no use for any of this.
    pub is_closed: bool,
    /// The closings that `base_used` and `base_forfeited` include: all up to this one.
    pub closed_seq: u64,
    /// Units used by the events of closed runs. Below 0 when closed runs lowered a level that open
    /// ones raised.
    pub base_used: i64,
    /// Units forfeited by closed runs.
    pub base_forfeited: u64,
    /// Version of the tenant's data, or of the pool's: no limit of an earlier one is in force any more.
    pub ceiling_version: u64,
    /// What open runs have flushed. They will re-send these totals, or higher ones.
    pub open_runs: Vec<FlushedTotals>,
}

/// One run's flushed totals of one counter. All of them only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushedTotals {
    pub run: RunId,
    /// Units that its events took from escrow, duplicates included.
    pub consumed: u64,
    /// Units that its events added without escrow, duplicates included.
    pub recorded: u64,
    /// Units of these that do not count after all.
    pub undone: u64,
}

impl FlushedTotals {
    /// The run's part of what is used.
    fn used(self) -> i128 {
        i128::from(self.consumed) + i128::from(self.recorded) - i128::from(self.undone)
    }
}

impl Ledger {
    /// The floors of `keys` for a run, in their order, all of one snapshot.
    pub async fn floors(&self, keys: &[CellKey], run: RunId) -> Result<Vec<Floor>, LedgerError> {
        let columns: CellColumns = keys.iter().collect();
        let rows = sqlx::query_file!(
            "src/ledger/queries/floors.sql",
            &columns.tenants,
            &columns.meters,
            &columns.labels,
            &columns.subjects,
            run.0
        )
        .fetch_all(self.query("floors"))
        .await?;
        let mut floors: Vec<Floor> = Vec::with_capacity(keys.len());
        for row in rows {
            let index = row.ordinal as usize - 1; // ORDINALITY counts from 1, in order.
            let key = &keys[index];
            if index == floors.len() {
                floors.push(Floor {
                    is_closed: row.is_closed,
                    closed_seq: read_unsigned("commit_sequences", "value", key, row.closed_seq)?,
                    base_used: row.used,
                    base_forfeited: read_unsigned(
                        "window_totals",
                        "forfeited",
                        key,
                        row.forfeited,
                    )?,
                    ceiling_version: read_unsigned(
                        "tenants",
                        "change_version",
                        key,
                        row.ceiling_version,
                    )?,
                    open_runs: Vec::new(),
                });
            }
            if let (Some(run), Some(consumed), Some(recorded), Some(undone)) =
                (row.run, row.consumed, row.recorded, row.undone)
            {
                let totals = FlushedTotals {
                    run: RunId(run),
                    consumed: read_unsigned("run_totals", "consumed", key, consumed)?,
                    recorded: read_unsigned("run_totals", "recorded", key, recorded)?,
                    undone: read_unsigned("run_totals", "undone", key, undone)?,
                };
                let floor = &mut floors[index];
                floor.base_used = without(floor.base_used, totals);
                floor.open_runs.push(totals);
            }
        }
        Ok(floors)
    }

    /// The flushed totals of one run, of every counter that it touched: what a run that lost a
    /// flush's answer reads to learn what has been undone.
    pub async fn run_totals(
        &self,
        run: RunId,
    ) -> Result<Vec<(CellKey, FlushedTotals)>, LedgerError> {
        let rows = sqlx::query!(
            "SELECT tenant, meter, label, subject, consumed, recorded, undone
             FROM run_totals WHERE run = $1 ORDER BY tenant, meter, label, subject",
            run.0
        )
        .fetch_all(self.query("run_totals"))
        .await?;
        let table = "run_totals";
        rows.into_iter()
            .map(|row| {
                let totals = FlushedTotals {
                    run,
                    consumed: read_unsigned(table, "consumed", run, row.consumed)?,
                    recorded: read_unsigned(table, "recorded", run, row.recorded)?,
                    undone: read_unsigned(table, "undone", run, row.undone)?,
                };
                let key = super::cell_rows::CellRow {
                    table,
                    tenant: row.tenant,
                    meter: row.meter,
                    label: row.label,
                    subject: row.subject,
                };
                Ok((key.into_key()?, totals))
            })
            .collect()
    }
}

/// A window's total is the sum over all runs; without the open ones, the closed ones remain. What
/// does not fit is far past what any limit can be: a floor is told all the same.
fn without(used: i64, open: FlushedTotals) -> i64 {
    let rest = i128::from(used) - open.used();
    i64::try_from(rest).unwrap_or(if rest < 0 { i64::MIN } else { i64::MAX })
}
