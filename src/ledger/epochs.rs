//! Epochs: the lives of the shared counters.
//!
//! An epoch begins when somebody finds that the counters may have lost data, because others answer than
//! those that the epoch in force began on.

use sqlx::PgConnection;

use super::{cell_rows::read_unsigned, error::LedgerError, pool::Ledger};
use crate::domain::ids::RunId;

/// One life of the shared counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Counts from 1; the highest is in force.
    pub number: u64,
    /// The counters that it began on, as `store` identifies them.
    pub counters: String,
    /// Whether every run has reported, or was closed and folded, so that escrow may be granted.
    pub is_recovered: bool,
}

/// How the counters in a sidecar's own memory are named: by this and the run that has them.
pub const OWN_COUNTERS: &str = "run:";

impl Epoch {
    /// Whether its counters are shared, rather than one run's own.
    pub fn is_shared(&self) -> bool {
        is_shared(&self.counters)
    }
}

fn is_shared(counters: &str) -> bool {
    !counters.starts_with(OWN_COUNTERS)
}

impl Ledger {
    /// The epoch in force; `None` before any Redis was seen.
    pub async fn latest_epoch(&self) -> Result<Option<Epoch>, LedgerError> {
        let row = sqlx::query!(
            "SELECT epoch, counters, recovered_at IS NOT NULL AS \"is_recovered!\"
             FROM epochs ORDER BY epoch DESC LIMIT 1"
        )
        .fetch_optional(self.query("latest_epoch"))
        .await?;
        row.map(|row| {
            Ok(Epoch {
                number: read_unsigned("epochs", "epoch", row.epoch, row.epoch)?,
                counters: row.counters,
                is_recovered: row.is_recovered,
            })
        })
        .transpose()
    }

    /// Begins the epoch that follows `after` (0 = none yet) on `counters`. `None`:
    /// somebody else began it first.
    pub async fn begin_epoch(
        &self,
        counters: &str,
        after: u64,
    ) -> Result<Option<u64>, LedgerError> {
        let number = after + 1;
        let column = i64::try_from(number).map_err(|_| LedgerError::not_found("epoch", number))?;
        self.run_tx("begin_epoch", |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                // Waits for closings that hold in the epoch before.
                lock_recovery(tx).await?;
                // The number is the primary key: of two who begin it, one inserts.
                let begun = sqlx::query!(
                    "INSERT INTO epochs (epoch, counters)
                     SELECT $1, $2 WHERE $1 = (SELECT coalesce(max(epoch), 0) + 1 FROM epochs)
                     ON CONFLICT (epoch) DO NOTHING",
                    column,
                    counters
                )
                .execute(tx)
                .await?;
                Ok((begun.rows_affected() == 1).then_some(number))
            })
        })
        .await
    }

    /// Notes that `run` has sent all its totals to the Redis of `epoch`, and answers whether the
    /// epoch has recovered, which the last report brings about. Harmless when repeated.
    pub async fn report_epoch(&self, epoch: u64, run: RunId) -> Result<bool, LedgerError> {
        let number = i64::try_from(epoch).map_err(|_| LedgerError::not_found("epoch", epoch))?;
        self.run_tx("report_epoch", |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                // The lock makes reports wait for one another, so that the last one sees all others.
                lock_recovery(tx).await?;
                let reported = sqlx::query!(
                    "INSERT INTO epoch_reports (epoch, run)
                 SELECT $1, run FROM runs WHERE run = $2 AND closed_at IS NULL
                 ON CONFLICT (epoch, run) DO UPDATE SET reported_at = now()",
                    number,
                    run.0
                )
                .execute(&mut *tx)
                .await?;
                if reported.rows_affected() == 0 {
                    return Err(LedgerError::not_found("open run", run));
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
        })
        .await
    }

    /// The runs that the recovery of `epoch` waits for.
    pub async fn unreported_runs(&self, epoch: u64) -> Result<Vec<RunId>, LedgerError> {
        let number = i64::try_from(epoch).map_err(|_| LedgerError::not_found("epoch", epoch))?;
        let rows = sqlx::query!(
            "SELECT run FROM runs WHERE folded_at IS NULL AND NOT EXISTS
                 (SELECT FROM epoch_reports r WHERE r.epoch = $1 AND r.run = runs.run)
             ORDER BY started_at, run",
            number
        )
        .fetch_all(self.query("unreported_runs"))
        .await?;
        Ok(rows.into_iter().map(|row| RunId(row.run)).collect())
    }
}

/// Orders those who may begin an epoch or complete its recovery: each sees what the ones before have
/// committed. One row for all epochs, since an epoch may begin meanwhile.
pub(super) async fn lock_recovery(tx: &mut PgConnection) -> Result<(), LedgerError> {
    sqlx::query!("SELECT value FROM commit_sequences WHERE name = 'closing' FOR UPDATE")
        .fetch_one(tx)
        .await?;
    Ok(())
}

/// Refuses what was found out in an `epoch` that is not in force any more: who has looked at its
/// counters has looked at what nobody uses. To be called under [`lock_recovery`], which keeps the next
/// one from beginning before this commits.
pub(super) async fn check_epoch(tx: &mut PgConnection, epoch: u64) -> Result<(), LedgerError> {
    let latest = sqlx::query_scalar!("SELECT max(epoch) FROM epochs").fetch_one(tx).await?;
    let is_in_force = latest.is_some_and(|latest| u64::try_from(latest) == Ok(epoch));
    if is_in_force { Ok(()) } else { Err(LedgerError::EpochOver(epoch)) }
}

/// Refuses what one process' own counters were told while those in force are shared, which may have been
/// founded with the run open. To be called under [`lock_recovery`].
pub(super) async fn check_unshared(tx: &mut PgConnection) -> Result<(), LedgerError> {
    let latest = sqlx::query_scalar!("SELECT counters FROM epochs ORDER BY epoch DESC LIMIT 1")
        .fetch_optional(tx)
        .await?;
    match latest {
        Some(counters) if is_shared(&counters) => Err(LedgerError::SharedByNow),
        _ => Ok(()),
    }
}

/// Marks the epoch in force as recovered if no run is left that has neither reported nor been
/// closed and folded. To be called under [`lock_recovery`].
///
/// A run that is closed but not folded counts: some counter may have been rebuilt from a floor
/// that was read before its last flush.
pub(super) async fn recover_if_all_reported(tx: &mut PgConnection) -> Result<(), LedgerError> {
    sqlx::query!(
        "UPDATE epochs SET recovered_at = now()
         WHERE epoch = (SELECT max(epoch) FROM epochs) AND recovered_at IS NULL AND NOT EXISTS (
             SELECT FROM runs WHERE folded_at IS NULL AND NOT EXISTS
                 (SELECT FROM epoch_reports r WHERE r.epoch = epochs.epoch AND r.run = runs.run))"
    )
    .execute(tx)
    .await?;
    Ok(())
}
