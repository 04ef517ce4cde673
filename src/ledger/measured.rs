//! Queries outside of transactions, with a name and metrics.

use std::time::Instant;

use futures::{FutureExt, TryFutureExt, TryStreamExt, future::BoxFuture, stream::BoxStream};
use sqlx::{
    Describe, Either, Execute, Executor, PgPool, Postgres, SqlStr,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};

use super::pool::Ledger;

/// Runs a query on the pool and measures it, the wait for a connection included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured<'p> {
    pub(super) pool: &'p PgPool,
    pub(super) name: &'static str,
}

impl Ledger {
    /// The pool, for a query called `name` (in metrics).
    pub(super) fn query(&self, name: &'static str) -> Measured<'_> {
        Measured { pool: &self.pool, name }
    }
}

/// Records how long a query took when it is dropped.
pub(super) struct Watch {
    name: &'static str,
    started: Instant,
    outcome: &'static str,
}

impl Watch {
    pub(super) fn start(name: &'static str) -> Self {
        Self { name, started: Instant::now(), outcome: "done" }
    }

    pub(super) fn failed(&mut self) {
        self.outcome = "failed";
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        metrics::histogram!(
            "tollgate_ledger_query_seconds", "query" => self.name, "outcome" => self.outcome
        )
        .record(self.started.elapsed());
    }
}

impl<'p> Executor<'p> for Measured<'p> {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, sqlx::Result<Either<PgQueryResult, PgRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let mut watch = Watch::start(self.name);
        Box::pin(self.pool.fetch_many(query).inspect_err(move |_| watch.failed()))
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let mut watch = Watch::start(self.name);
        self.pool.fetch_optional(query).inspect_err(move |_| watch.failed()).boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'p: 'e,
    {
        self.pool.prepare_with(sql, parameters)
    }

    // Part of the trait with sqlx's macros.
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<Describe<Postgres>>>
    where
        'p: 'e,
    {
        self.pool.describe(sql)
    }
}
