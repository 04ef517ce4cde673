//! What the ledger has of one run's journal.

use super::{error::LedgerError, floors::FlushedTotals, pool::Ledger, runs::RunStanding};
use crate::domain::{
    cell_key::CellKey,
    ids::{IdempotencyKey, RunId, TenantId},
};

/// How often a run's mark and totals are read until the mark has stood still meanwhile.
const LOOKS_MAX: u32 = 50;
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
    /// What the ledger has of a run's journal; `None` when the run is not registered, or flushes so
    /// often that it cannot be read in between.
    pub async fn run_journal_books(
        &self,
        run: RunId,
    ) -> Result<Option<RunJournalBooks>, LedgerError> {
        for _ in 0..LOOKS_MAX {
            let before = self.run_standing(run).await?;
            let Some(mark) = mark_of(before) else { return Ok(None) };
            let totals = self.run_totals(run).await?;
            // A flush moves the mark and adds to the totals in one transaction.
            if self.run_standing(run).await? != before {
                continue;
            }
            let units = |totals: FlushedTotals| RunUnits {
                consumed: totals.consumed.into(),
                recorded: totals.recorded.into(),
            };
            let counted = totals.into_iter().map(|(key, totals)| (key, units(totals))).collect();
            return Ok(Some(RunJournalBooks { flushed_position: mark, counted }));
        }
        Ok(None)
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

fn mark_of(standing: RunStanding) -> Option<u64> {
    match standing {
        RunStanding::Open { flushed_position } | RunStanding::Closed { flushed_position, .. } => {
            Some(flushed_position)
        }
        RunStanding::Unknown => None,
    }
}
