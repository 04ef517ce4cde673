//! What the ledger has of one run's journal.

use super::{
    cell_rows::{CellRow, read_unsigned},
    error::LedgerError,
    pool::Ledger,
};
use crate::domain::{
    cell_key::CellKey,
    ids::{IdempotencyKey, RunId, TenantId},
};

/// Keys that are looked for at once.
pub const KEYS_MAX: usize = 1_000;

/// A run's mark and its totals, of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunJournalBooks {
    /// Everything before this position of its journal is in the ledger.
    pub flushed_position: u64,
    /// Units consumed and recorded, by counter; what was undone since is still in them.
    pub counted: Vec<(CellKey, RunUnits)>,
}

/// Units of one run on one counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunUnits {
    /// Taken from escrow.
    pub consumed: i128,
    /// Added without escrow.
    pub recorded: i128,
}

impl Ledger {
    /// What the ledger has of a run's journal; `None` when the run is not registered.
    pub async fn run_journal_books(
        &self,
        run: RunId,
    ) -> Result<Option<RunJournalBooks>, LedgerError> {
        // A flush moves the mark and adds to the totals in one transaction, so one statement reads both.
        let rows = sqlx::query!(
            r#"SELECT r.flushed_position, rt.tenant AS "tenant?", rt.meter AS "meter?",
                   rt.label AS "label?", rt.subject AS "subject?", rt.consumed AS "consumed?",
                   rt.recorded AS "recorded?"
               FROM runs r LEFT JOIN run_totals rt ON rt.run = r.run
               WHERE r.run = $1 ORDER BY rt.tenant, rt.meter, rt.label, rt.subject"#,
            run.0
        )
        .fetch_all(self.query("run_journal_books"))
        .await?;
        let Some(mark) = rows.first().map(|row| row.flushed_position) else { return Ok(None) };
        let mut counted = Vec::with_capacity(rows.len());
        let table = "run_totals";
        for row in rows {
            // A run without totals has one row that names no counter.
            let (Some(tenant), Some(meter), Some(label), Some(subject)) =
                (row.tenant, row.meter, row.label, row.subject)
            else {
                continue;
            };
            let read = |column, value: Option<i64>| {
                read_unsigned(table, column, run, value.unwrap_or(0)).map(i128::from)
            };
            let units = RunUnits {
                consumed: read("consumed", row.consumed)?,
                recorded: read("recorded", row.recorded)?,
            };
            counted.push((CellRow { table, tenant, meter, label, subject }.into_key()?, units));
        }
        let flushed_position = read_unsigned("runs", "flushed_position", run, mark)?;
        Ok(Some(RunJournalBooks { flushed_position, counted }))
    }

    /// Which of `keys`, at most [`KEYS_MAX`], the ledger knows nothing of: indexes.
    pub async fn unknown_keys(
        &self,
        keys: &[(TenantId, IdempotencyKey)],
    ) -> Result<Vec<usize>, LedgerError> {
        let tenants: Vec<_> = keys.iter().map(|(tenant, _)| tenant.as_str().to_owned()).collect();
        let names: Vec<_> = keys.iter().map(|(_, key)| key.as_str().to_owned()).collect();
        let rows = sqlx::query!(
            r#"SELECT asked.ordinal AS "ordinal!"
               FROM UNNEST($1::text[], $2::text[])
                   WITH ORDINALITY AS asked (tenant, idempotency_key, ordinal)
               WHERE NOT EXISTS (
                       SELECT FROM usage_keys k
                       WHERE k.tenant = asked.tenant
                           AND k.idempotency_key = asked.idempotency_key)
                   AND NOT EXISTS (
                       SELECT FROM quarantine q
                       WHERE q.tenant = asked.tenant
                           AND q.event ->> 'idempotency_key' = asked.idempotency_key)
               ORDER BY 1"#,
            &tenants,
            &names
        )
        .fetch_all(self.query("unknown_keys"))
        .await?;
        // ORDINALITY counts from 1.
        Ok(rows.into_iter().map(|row| row.ordinal as usize - 1).collect())
    }
}
