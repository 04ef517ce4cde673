//! Epochs: the lives of the shared counters, told apart by their server's run id.

use sqlx::PgConnection;

use super::{cell_rows::read_unsigned, error::LedgerError, pool::Ledger};
use crate::domain::ids::RunId;

/// One life of the shared counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Counts from 1; the highest is in force.
    pub number: u64,
    /// Whether all runs that were open have reported or were closed, so that escrow may be
    /// granted again.
    pub is_recovered: bool,
    /// Whether no later epoch is known; a Redis of an earlier epoch must not be used.
    pub is_latest: bool,
}

impl Ledger {
    /// The epoch of the Redis server that calls itself `redis_run_id`; a new one if no run has
    /// seen that server before.
    pub async fn epoch_of_redis(&self, redis_run_id: &str) -> Result<Epoch, LedgerError> {
        if let Some(epoch) = self.find_epoch(redis_run_id).await? {
            return Ok(epoch);
        }
        self.run_tx("new_epoch", async |tx| {
            // Serialises those who see the new server first; its unique run id lets one win.
            sqlx::query!("LOCK TABLE epochs IN SHARE ROW EXCLUSIVE MODE").execute(&mut *tx).await?;
            sqlx::query!(
                "INSERT INTO epochs (epoch, redis_run_id)
                 SELECT coalesce(max(epoch), 0) + 1, $1 FROM epochs
                 ON CONFLICT (redis_run_id) DO NOTHING",
                redis_run_id
            )
            .execute(&mut *tx)
            .await?;
            Ok(())
        })
        .await?;
        self.find_epoch(redis_run_id)
            .await?
            .ok_or_else(|| LedgerError::not_found("epoch of Redis", redis_run_id))
    }

    /// The epoch in force; `None` before any Redis was seen.
    pub async fn latest_epoch(&self) -> Result<Option<Epoch>, LedgerError> {
        let row = sqlx::query!(
            "SELECT epoch, recovered_at IS NOT NULL AS \"is_recovered!\"
             FROM epochs ORDER BY epoch DESC LIMIT 1"
        )
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            Ok(Epoch {
                number: read_unsigned("epochs", "epoch", row.epoch, row.epoch)?,
                is_recovered: row.is_recovered,
                is_latest: true,
            })
        })
        .transpose()
    }

    /// Notes that `run` has sent all its totals to the Redis of `epoch`, and answers whether the
    /// epoch has recovered, which the last report of the open runs brings about. Harmless when
    /// repeated.
    pub async fn report_epoch(&self, epoch: u64, run: RunId) -> Result<bool, LedgerError> {
        let number = i64::try_from(epoch).map_err(|_| LedgerError::not_found("epoch", epoch))?;
        self.run_tx("report_epoch", async |tx| {
            // The lock makes reports wait for one another, so that the last one sees all others.
            sqlx::query!("SELECT epoch FROM epochs WHERE epoch = $1 FOR UPDATE", number)
                .fetch_optional(&mut *tx)
                .await?
                .ok_or_else(|| LedgerError::not_found("epoch", epoch))?;
            let reported = sqlx::query!(
                "INSERT INTO epoch_reports (epoch, run)
                 SELECT $1, run FROM runs WHERE run = $2
                 ON CONFLICT (epoch, run) DO UPDATE SET reported_at = now()",
                number,
                run.0
            )
            .execute(&mut *tx)
            .await?;
            if reported.rows_affected() == 0 {
                return Err(LedgerError::not_found("run", run));
            }
            recover_if_all_reported(tx).await?;
            let row = sqlx::query!(
                "SELECT recovered_at IS NOT NULL AS \"is_recovered!\"
                 FROM epochs WHERE epoch = $1",
                number
            )
            .fetch_one(&mut *tx)
            .await?;
            Ok(row.is_recovered)
        })
        .await
    }

    /// The open runs that the recovery of `epoch` waits for.
    pub async fn unreported_runs(&self, epoch: u64) -> Result<Vec<RunId>, LedgerError> {
        let number = i64::try_from(epoch).map_err(|_| LedgerError::not_found("epoch", epoch))?;
        let rows = sqlx::query!(
            "SELECT run FROM runs WHERE closed_at IS NULL AND NOT EXISTS
                 (SELECT FROM epoch_reports r WHERE r.epoch = $1 AND r.run = runs.run)
             ORDER BY started_at, run",
            number
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| RunId(row.run)).collect())
    }

    async fn find_epoch(&self, redis_run_id: &str) -> Result<Option<Epoch>, LedgerError> {
        let row = sqlx::query!(
            "SELECT epoch, recovered_at IS NOT NULL AS \"is_recovered!\",
                    epoch = (SELECT max(epoch) FROM epochs) AS \"is_latest!\"
             FROM epochs WHERE redis_run_id = $1",
            redis_run_id
        )
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            Ok(Epoch {
                number: read_unsigned("epochs", "epoch", redis_run_id, row.epoch)?,
                is_recovered: row.is_recovered,
                is_latest: row.is_latest,
            })
        })
        .transpose()
    }
}

/// Marks the epoch in force as recovered if no open run is left that has not reported.
///
/// Whoever removes such a run (by a report, by closing it) calls this in the same transaction. The
/// row lock orders them; under READ COMMITTED the second statement sees what the others committed.
pub(super) async fn recover_if_all_reported(tx: &mut PgConnection) -> Result<(), LedgerError> {
    let unrecovered = sqlx::query!(
        "SELECT epoch FROM epochs
         WHERE epoch = (SELECT max(epoch) FROM epochs) AND recovered_at IS NULL FOR UPDATE"
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(unrecovered) = unrecovered else { return Ok(()) };
    sqlx::query!(
        "UPDATE epochs SET recovered_at = now()
         WHERE epoch = $1 AND NOT EXISTS (
             SELECT FROM runs WHERE closed_at IS NULL AND NOT EXISTS
                 (SELECT FROM epoch_reports r WHERE r.epoch = $1 AND r.run = runs.run))",
        unrecovered.epoch
    )
    .execute(&mut *tx)
    .await?;
    Ok(())
}
