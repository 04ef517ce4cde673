//! Queries about one tenant, which Postgres itself keeps from any other's rows.

use futures::{
    FutureExt, TryFutureExt, TryStreamExt, future::BoxFuture, stream, stream::BoxStream,
};
use sqlx::{
    Describe, Either, Execute, Executor, PgConnection, PgPool, Postgres, SqlStr, Transaction,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};

use super::measured::{Measured, Watch};
use crate::domain::ids::TenantId;

/// Runs a query as the role `tollgate_tenant`, to which row-level security shows the rows of one
/// tenant alone, whatever the query asks for. For reads of bounded length: they are gathered first.
#[derive(Clone, Copy, Debug)]
pub(super) struct TenantScope<'p> {
    pool: &'p PgPool,
    name: &'static str,
    tenant: &'p TenantId,
}

impl<'p> Measured<'p> {
    /// The same, for what is `tenant`'s alone.
    pub(super) fn of(self, tenant: &'p TenantId) -> TenantScope<'p> {
        TenantScope { pool: self.pool, name: self.name, tenant }
    }
}

impl<'p> TenantScope<'p> {
    /// The role and the tenant hold until the transaction ends. Dropping it ends it, too, but not
    /// before a tool that ends now is gone.
    async fn begin(self) -> sqlx::Result<Transaction<'static, Postgres>> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query!(
            "SELECT set_config('role', 'tollgate_tenant', true) AS role,
                 set_config('tollgate.tenant', $1, true) AS tenant",
            self.tenant.as_str()
        )
        .fetch_one(&mut *transaction)
        .await?;
        Ok(transaction)
    }
}

impl<'p> Executor<'p> for TenantScope<'p> {
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
        let gathered = async move {
            let mut transaction = self.begin().await?;
            let connection: &mut PgConnection = &mut transaction;
            let rows: Vec<_> = connection.fetch_many(query).try_collect().await?;
            transaction.commit().await?;
            Ok(stream::iter(rows.into_iter().map(Ok)))
        };
        Box::pin(gathered.try_flatten_stream().inspect_err(move |_| watch.failed()))
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let mut watch = Watch::start(self.name);
        let one = async move {
            let mut transaction = self.begin().await?;
            let connection: &mut PgConnection = &mut transaction;
            let row = connection.fetch_optional(query).await?;
            transaction.commit().await?;
            Ok(row)
        };
        one.inspect_err(move |_| watch.failed()).boxed()
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
