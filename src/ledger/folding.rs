//! Folding: whether the shared counters have heard of a closing, all those that the run touched.

use super::{
    cell_rows::read_unsigned,
    epochs::{lock_recovery, recover_if_all_reported},
    error::LedgerError,
    pool::Ledger,
};
use crate::domain::ids::RunId;

/// How far closings have been folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folding {
    /// The run that was asked for is closed, and folded into every counter that it touched.
    pub is_folded: bool,
    /// The number of a closing: all up to it are folded wherever they have to be.
    pub through: u64,
}

impl Ledger {
    /// How far closings, and that of `run` among them, have been folded.
    pub async fn folding(&self, run: RunId) -> Result<Folding, LedgerError> {
        let row = sqlx::query!(
            r#"SELECT coalesce(min(closed_seq) - 1,
                (SELECT value FROM commit_sequences WHERE name = 'closing')) AS "through!",
                EXISTS (SELECT FROM runs WHERE run = $1 AND folded_at IS NOT NULL) AS "is_folded!"
             FROM runs WHERE folded_at IS NULL AND closed_at IS NOT NULL"#,
            run.0
        )
        .fetch_one(self.query("folding"))
        .await?;
        let through = read_unsigned("commit_sequences", "value", "closing", row.through)?;
        Ok(Folding { is_folded: row.is_folded, through })
    }

    /// Notes that a closed run has been folded into every shared counter that it touched: only then
    /// does the recovery of an epoch no longer wait for it. Harmless when repeated.
    pub async fn note_folded(&self, run: RunId) -> Result<(), LedgerError> {
        self.run_tx("note_folded", |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                lock_recovery(tx).await?;
                sqlx::query!(
                    "UPDATE runs SET folded_at = now()
                 WHERE run = $1 AND closed_at IS NOT NULL AND folded_at IS NULL",
                    run.0
                )
                .execute(&mut *tx)
                .await?;
                recover_if_all_reported(tx).await
            })
        })
        .await
    }
}
