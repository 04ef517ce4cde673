//! Makes partitions before rows need them.

use jiff::ToSpan;

use super::{
    error::LedgerError,
    partition::{Partition, utc_date},
    pool::Ledger,
};

/// Days of raw events that have a partition before the first event of the day arrives.
const EVENT_DAYS_AHEAD: i64 = 2;

impl Ledger {
    /// Makes those of `wanted` that do not exist yet.
    pub(super) async fn ensure_partitions(
        &self,
        wanted: impl IntoIterator<Item = Partition>,
    ) -> Result<(), LedgerError> {
        let missing = self.partitions.missing(wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let wanted = &missing;
        self.run_tx("create_partitions", |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                for partition in wanted {
                    partition.create(tx).await?;
                }
                Ok(())
            })
        })
        .await?;
        self.partitions.add(missing);
        Ok(())
    }

    /// Makes the partitions of raw events for today and the days to come, by Postgres' clock, which
    /// is the one that dates arrivals.
    pub async fn ensure_event_partitions(&self) -> Result<(), LedgerError> {
        let row = sqlx::query!("SELECT now() AS \"now!\"")
            .fetch_one(self.query("ensure_event_partitions"))
            .await?;
        let today = utc_date(row.now.to_jiff());
        let days = (0..=EVENT_DAYS_AHEAD).map(|n| today.saturating_add(n.days()));
        self.ensure_partitions(days.map(Partition::EventsDay)).await
    }
}
