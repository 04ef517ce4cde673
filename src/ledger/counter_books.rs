//! What the ledger has of shared counters, in the form in which those have it.

use jiff::Timestamp;

use super::{
    cell_rows::{CellColumns, CellRow, read_unsigned, subject_column},
    error::LedgerError,
    pool::Ledger,
};
use crate::domain::{cell_key::CellKey, ids::RunId};

/// The ledger's side of one counter, all of it at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterBooks {
    /// That moment, by Postgres' clock.
    pub at: Timestamp,
    /// Units used by all runs.
    pub used: i64,
    /// Units forfeited by all runs.
    pub forfeited: u64,
    /// The runs that have an entry of their own in the counter, or may still have one: those that
    /// are open, and those that are closed and not folded.
    pub apart: Vec<RunBooks>,
}

/// What one run has flushed of a counter. Base units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunBooks {
    pub run: RunId,
    /// Consumed and recorded, before anything was undone.
    pub counted: u64,
    pub undone: u64,
    pub forfeited: u64,
    pub is_open: bool,
    /// Real time through which everything it acknowledged is in the ledger.
    pub mark_at: Timestamp,
}

impl RunBooks {
    /// What it adds to the window.
    pub fn used(&self) -> i128 {
        i128::from(self.counted) - i128::from(self.undone)
    }
}

impl Ledger {
    /// The books of `keys`, in their order, all of one snapshot.
    pub async fn counter_books(&self, keys: &[CellKey]) -> Result<Vec<CounterBooks>, LedgerError> {
        let columns: CellColumns = keys.iter().collect();
        let rows = sqlx::query_file!(
            "src/ledger/queries/counter_books.sql",
            &columns.tenants,
            &columns.meters,
            &columns.labels,
            &columns.subjects
        )
        .fetch_all(self.query("counter_books"))
        .await?;
        let mut books: Vec<CounterBooks> = Vec::with_capacity(keys.len());
        for row in rows {
            let index = row.ordinal as usize - 1; // ORDINALITY counts from 1, in order.
            let key = &keys[index];
            if index == books.len() {
                let forfeited = read_unsigned("window_totals", "forfeited", key, row.forfeited)?;
                let (at, used) = (row.at.to_jiff(), row.used);
                books.push(CounterBooks { at, used, forfeited, apart: Vec::new() });
            }
            let (Some(run), Some(mark_at)) = (row.run, row.mark_at) else { continue };
            let read = |column, value: Option<i64>| {
                read_unsigned("run_totals", column, key, value.unwrap_or(0))
            };
            let (consumed, recorded) =
                (read("consumed", row.consumed)?, read("recorded", row.recorded)?);
            books[index].apart.push(RunBooks {
                run: RunId(run),
                counted: consumed.saturating_add(recorded),
                undone: read("undone", row.undone)?,
                forfeited: read("forfeited", row.run_forfeited)?,
                is_open: row.is_open.unwrap_or(false),
                mark_at: mark_at.to_jiff(),
            });
        }
        Ok(books)
    }

    /// Counters that open runs have counted something on, behind `after`, in the database's own order.
    pub async fn open_counters_after(
        &self,
        after: Option<&CellKey>,
        count_max: u32,
    ) -> Result<Vec<CellKey>, LedgerError> {
        let rows = sqlx::query!(
            r#"SELECT DISTINCT rt.tenant AS "tenant!", rt.meter AS "meter!", rt.label AS "label!",
                   rt.subject AS "subject!"
               FROM runs r JOIN run_totals rt ON rt.run = r.run
               WHERE r.closed_at IS NULL AND rt.consumed + rt.recorded > 0
                   AND (rt.tenant, rt.meter, rt.label, rt.subject) > ($1, $2, $3, $4)
               ORDER BY 1, 2, 3, 4 LIMIT $5"#,
            after.map_or("", |key| key.tenant.as_str()),
            after.map_or("", |key| key.meter.as_str()),
            after.map(|key| key.label.to_string()).unwrap_or_default(),
            after.map_or("", |key| subject_column(key.subject.as_ref())),
            i64::from(count_max)
        )
        .fetch_all(self.query("open_counters_after"))
        .await?;
        rows.into_iter()
            .map(|row| {
                let (tenant, meter) = (row.tenant, row.meter);
                let (label, subject) = (row.label, row.subject);
                CellRow { table: "run_totals", tenant, meter, label, subject }.into_key()
            })
            .collect()
    }
}
