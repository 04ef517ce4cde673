//! Folding: whether the shared counters have heard of a closing, all those that the run touched.

use jiff::SignedDuration;

use super::{
    cell_rows::read_unsigned,
    epochs::{check_epoch, check_unshared, lock_recovery, recover_if_all_reported},
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

/// Closings that some shared counter may not have heard of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfolded {
    /// How many there are in all.
    pub closings: u64,
    /// Runs of some of them, the earliest closed first.
    pub runs: Vec<RunId>,
}

impl Ledger {
    /// The closings that are not folded although they are older than `age` by Postgres' clock;
    /// `count_max` of them at most, and none of the runs in `but`.
    pub async fn unfolded(
        &self,
        age: SignedDuration,
        but: &[RunId],
        count_max: u32,
    ) -> Result<Unfolded, LedgerError> {
        let but: Vec<_> = but.iter().map(|run| run.0).collect();
        let rows = sqlx::query!(
            r#"WITH late AS (
                   SELECT run, closed_seq, count(*) OVER () AS closings FROM runs
                   WHERE folded_at IS NULL AND closed_at < now() - make_interval(secs => $1))
               SELECT run, closings AS "closings!", run = ANY($2) AS "is_left!" FROM late
               ORDER BY run = ANY($2), closed_seq LIMIT $3"#,
            age.as_secs_f64(),
            &but,
            i64::from(count_max)
        )
        .fetch_all(self.query("unfolded"))
        .await?;
        let Some(first) = rows.first() else { return Ok(Unfolded::default()) };
        let closings = read_unsigned("runs", "count", "unfolded closings", first.closings)?;
        let runs = rows.into_iter().filter(|row| !row.is_left).map(|row| RunId(row.run)).collect();
        Ok(Unfolded { closings, runs })
    }

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
    /// does the recovery of an epoch no longer wait for it. `epoch`: in which they have heard; `None`
    /// where they are one process' own, which no epoch makes anew. Harmless when repeated.
    ///
    /// # Errors
    ///
    /// [`LedgerError::EpochOver`] unless `epoch` is in force: counters of the next one may have been
    /// rebuilt meanwhile from a floor in which the run was open. [`LedgerError::SharedByNow`] for the same
    /// reason, where only one process' own counters have heard of it, and those in force are shared.
    pub async fn note_folded(&self, run: RunId, epoch: Option<u64>) -> Result<(), LedgerError> {
        self.run_tx("note_folded", |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                lock_recovery(tx).await?;
                match epoch {
                    Some(epoch) => check_epoch(tx, epoch).await?,
                    None => check_unshared(tx).await?,
                }
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
