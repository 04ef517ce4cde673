//! What is deleted, and when. Each call does a bounded piece; callers repeat until it answers 0.

use std::time::Duration;

use super::{error::LedgerError, pool::Ledger};

/// Most rows that one call deletes.
pub const PURGE_ROWS_MAX: i64 = 10_000;

impl Ledger {
    /// Forgets idempotency keys that arrived more than `retention` ago; answers how many.
    ///
    /// A retry within the retention may lie unflushed in the journal of an open run, so the
    /// retention counts back from the oldest open mark and not from the present: a run that never
    /// comes back keeps all keys until an operator closes it.
    pub async fn purge_usage_keys(&self, retention: Duration) -> Result<u64, LedgerError> {
        let purged = sqlx::query!(
            "WITH expired AS (
                 SELECT tenant, idempotency_key FROM usage_keys
                 WHERE received_at < least(
                         now(), (SELECT min(mark_at) FROM runs WHERE closed_at IS NULL)
                     ) - make_interval(secs => $1)
                 LIMIT $2
             )
             DELETE FROM usage_keys k USING expired e
             WHERE k.tenant = e.tenant AND k.idempotency_key = e.idempotency_key",
            retention.as_secs_f64(),
            PURGE_ROWS_MAX
        )
        .execute(self.query("purge_usage_keys"))
        .await?;
        Ok(purged.rows_affected())
    }

    /// Deletes raw events past their meter's retention; answers how many.
    pub async fn purge_events(&self) -> Result<u64, LedgerError> {
        let purged = sqlx::query!(
            "DELETE FROM usage_events WHERE (tableoid, ctid) IN (
                 SELECT tableoid, ctid FROM usage_events WHERE keep_until < now() LIMIT $1)",
            PURGE_ROWS_MAX
        )
        .execute(self.query("purge_events"))
        .await?;
        Ok(purged.rows_affected())
    }

    /// Drops the partitions of raw events whose day is past and that hold no event any more;
    /// answers their names.
    pub async fn drop_empty_event_partitions(&self) -> Result<Vec<String>, LedgerError> {
        let rows = sqlx::query!(
            r#"SELECT c.relname AS "name!",
                   to_date(right(c.relname, 10), 'YYYY_MM_DD') AS "day!: jiff_sqlx::Date"
               FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
               WHERE i.inhparent = 'usage_events'::regclass AND c.relname <
                   to_char((now() AT TIME ZONE 'UTC')::date - 1, '"usage_events_"YYYY_MM_DD')
               ORDER BY c.relname"#
        )
        .fetch_all(self.query("drop_empty_event_partitions"))
        .await?;
        let mut dropped = Vec::new();
        for row in rows {
            let partition = row.name;
            // What is seen to hold something is not locked for a closer look.
            let holds_some = sqlx::query!(
                r#"SELECT EXISTS (
                       SELECT FROM usage_events
                       WHERE received_at >= $1::date::timestamp AT TIME ZONE 'UTC'
                           AND received_at < ($1::date + 1)::timestamp AT TIME ZONE 'UTC'
                   ) AS "some!""#,
                row.day as _
            )
            .fetch_one(self.query("drop_empty_event_partitions"))
            .await?
            .some;
            if holds_some {
                continue;
            }
            // Looks again under a lock.
            let is_dropped = sqlx::query!(
                r#"SELECT drop_empty_event_partition($1) AS "is_dropped!""#,
                partition
            )
            .fetch_one(self.query("drop_empty_event_partitions"))
            .await?
            .is_dropped;
            if is_dropped {
                dropped.push(partition);
            }
        }
        self.partitions.forget();
        Ok(dropped)
    }
}
